"""Recorded training steps: what CUDA graphs do on a GPU, done on the CPU operation by operation.

The recorder here notes the operations of one step and runs them again on the same tensors, without the step's Python. So
whatever Python would do anew at each step, or what would wait for the device to know a value, is found out.
"""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from actbench.engine.recorded_steps import WARM_UPS
from actbench.engine.trainer import Trainer
from actbench.plan.architecture import MODELS
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.science.optimizers import OPTIMIZERS
from tests.conftest import device_data, make_spec, one_pack, small_data, small_images, trained

# what asks the device for a value, or brings one from the CPU
WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "lift_fresh", "lift_fresh_copy", "masked_select", "unique")


class Waits(AssertionError):
    """An operation that a recorded step must not have."""


class Recording(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in WAITING:
            raise Waits(func)
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **kwargs)
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        new = [t.untyped_storage().data_ptr() not in given for t in made]
        self.operations.append((func, args, kwargs, made, new))
        return out


class CpuRecorder:
    """Undoes what the recorded step did, since a CUDA graph's recording does nothing yet; counts what it is asked."""

    def __init__(self):
        self.warm_ups = self.records = self.replays = 0

    def warm_up(self, step):
        self.warm_ups += 1
        step()

    def record(self, step):
        self.records += 1
        with Recording() as recording:
            step()
        first = True

        def replay():
            nonlocal first
            self.replays += 1
            if first:  # has been done while it was recorded
                first = False
                return
            for func, args, kwargs, made, new in recording.operations:
                again = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, torch.Tensor)]
                for tensor, value, is_new in zip(made, again, new, strict=True):
                    if is_new:
                        tensor.copy_(value)

        return replay


SGD = {name: {"optimizer": name} for name in OPTIMIZERS}
MORE = {
    **{f"model {name}": {"model": name} for name in MODELS},
    "fixed inputs": {"fixed": 36},
    "fixed inputs, momentum": {"fixed": 36, "momentum": 0.9, "nesterov": True},
    "cosine": {"lr_schedule": "cosine"},
    "step, adam": {"lr_schedule": "step", "optimizer": "adam"},
    "penalties": {"weight_l1": 0.01, "activation_l1": 0.01, "weight_decay": 0.01},
    "clipped": {"grad_clip": 0.1},
    "batch norm": {"norm": "batch"},
    "cnn, batch norm": {"model": "cnn", "norm": "batch"},
    "cnn, penalty": {"model": "cnn", "activation_l1": 0.01},
    "layer norm": {"norm": "layer"},
    "prelu": {"activation": "prelu"},
    "mse": {"loss": "mse"},
}


def both(settings, recorder=None):
    settings = dict(settings)
    model = settings.get("model", "mlp")
    data = small_data(fixed=settings.pop("fixed", 0)) if model in ("mlp", "autoencoder") else small_images()
    common = dict(dataset="small", depth=3, width=4, batch_size=6, epochs=5, dtype="float64", probe_size=20, eval_every=2,
                  validation_fraction=0)  # fmt: skip
    activations = ("prelu",) if settings.get("activation") else ("relu", "tanh", "gelu")
    if model == "lstm":
        activations = (None,)
    specs = [
        make_spec(**{**common, **settings, **({"activation": a} if a else {}), "lr": lr, "seed": s})
        for a in activations
        for lr in (0.05, 0.01)
        for s in (0, 1)
    ]
    pack, recorder = one_pack(specs, data), recorder or CpuRecorder()
    plain = trained(pack, device_data(data, specs[0]))
    recorded = trained(pack, device_data(data, specs[0]), recorder=recorder)
    return plain, recorded, recorder


@pytest.mark.parametrize("settings", [*SGD.values(), *MORE.values()], ids=[*SGD, *MORE])
def test_recorded_steps_train_as_steps_do(settings):
    plain, recorded, recorder = both(settings)
    # 40 examples in batches of 6: six whole ones and one of 4 in each of 5 epochs
    assert (recorder.warm_ups, recorder.records, recorder.replays) == (2 * WARM_UPS, 2, 5 * 7 - 2 * WARM_UPS)
    assert_same(plain, recorded)


def assert_same(plain, recorded):
    assert (plain.steps == recorded.steps).all() and (plain.finite == recorded.finite).all()
    for one, other in zip(plain.evaluations, recorded.evaluations, strict=True):
        assert (one.epoch, one.step) == (other.epoch, other.step)
        for name in one.network:
            np.testing.assert_allclose(other.network[name], one.network[name], rtol=1e-9, atol=1e-12, err_msg=name)
        for name in one.layers:
            np.testing.assert_allclose(other.layers[name], one.layers[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("settings", [{"dropout": 0.2}, {"model": "autoencoder", "corruption": 0.2}], ids=str)
def test_what_python_draws_at_each_step_is_not_recorded(settings):
    _, _, recorder = both(settings)
    assert recorder.warm_ups == recorder.records == 0


class Unable(CpuRecorder):
    def record(self, step):
        raise RuntimeError("operation not permitted when stream is capturing")


def test_where_recording_fails_steps_are_taken_one_by_one():
    with pytest.warns(UserWarning, match="one by one"):
        plain, recorded, _ = both({"optimizer": "adam"}, Unable())
    assert_same(plain, recorded)


def test_a_trainer_is_gone_when_its_training_is(monkeypatch):
    """What lies on a GPU must not wait for the next look for garbage."""
    seen = []
    real = Trainer.__init__

    def watched(self, *args):
        seen.append(weakref.ref(self))
        real(self, *args)

    monkeypatch.setattr(Trainer, "__init__", watched)
    gc.disable()
    try:
        _, _, recorder = both({})
        assert recorder.records and seen and all(one() is None for one in seen)
    finally:
        gc.enable()


def test_a_users_own_activation_is_not_recorded():
    shape = small_data().shape
    assert not plan_pack(Pack((make_spec(activation="torch.nn.ReLU"),), (0,)), shape).can_be_recorded
    assert plan_pack(Pack((make_spec(activation="relu"),), (0,)), shape).can_be_recorded
    mixed = Pack((make_spec(activation="relu"), make_spec(activation="torch.nn.ReLU")), (0,))
    assert not plan_pack(mixed, shape).can_be_recorded


def test_the_recorder_finds_what_waits_for_a_value():
    t = torch.ones(3)
    with pytest.raises(Waits):
        CpuRecorder().record(lambda: print(t.sum().item()))
    with pytest.raises(Waits):
        CpuRecorder().record(lambda: t.add_(torch.tensor([1.0, 2.0, 3.0])))
