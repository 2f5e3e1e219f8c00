"""Training with a probe is training without it, bit for bit, and a model is left as it was whatever happens."""

from __future__ import annotations

import copy
import random
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from actbench import Probe, UserError
from tests.probed import NETWORKS, Convolutional, data, mlp


def train(model, shape, *, with_probe, steps=6, wrap=lambda model: model, **more):
    """Trains with random batches, dropout and noise; returns all that training leaves behind."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    x, y = data(24, *shape)
    model = wrap(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    if with_probe:
        probe = Probe(model, x[:10], y[:10], loss=F.cross_entropy, every=2, chunk=7, **more)
    losses = []
    for _ in range(steps):
        chosen = torch.randint(0, 24, (8,))
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if with_probe:
            probe.step()
    if with_probe:
        probe.close()
        assert [m.step for m in probe.measurements] == [0, 2, 4, 6]
    state = {name: t.clone() for name, t in model.state_dict().items()}
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return losses, state, grads, torch.get_rng_state(), random.random(), np.random.random()


def assert_same(one, other):
    assert one[0] == other[0]
    for left, right in zip(one[1:3], other[1:3], strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert torch.equal(one[3], other[3]) and one[4:] == other[4:]


FEW = ("mlp", "cnn", "lstm")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in NETWORKS])
def test_training_with_a_probe_is_training_without_it_bit_for_bit(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    assert_same(*(train(copy.deepcopy(model), shape, with_probe=given) for given in (False, True)))


def test_a_compiled_model_trains_on_bit_for_bit_and_is_not_compiled_anew():
    counters = torch._dynamo.utils.counters
    torch.manual_seed(0)
    model = mlp()
    found = []
    for given in (False, True):
        torch._dynamo.reset()
        counters.clear()
        with torch.random.fork_rng():
            try:
                found.append(
                    train(copy.deepcopy(model), (6,), with_probe=given, wrap=lambda m: torch.compile(m, backend="eager"))
                )
            except torch._dynamo.exc.BackendCompilerFailed as error:
                pytest.skip(f"no compiler here: {error}")
        found[-1] = (*found[-1], counters["stats"]["unique_graphs"])
    assert_same(found[0][:6], found[1][:6])
    assert found[0][6] == found[1][6] > 0


def everything(model):
    """All that a module holds, by identity and by value."""
    facts = {}
    for name, module in model.named_modules():
        held = {key: (id(value), list(value) if isinstance(value, list) else None) for key, value in vars(module).items()}
        facts[name] = (module.training, held, len(module._forward_hooks), len(module._forward_pre_hooks))
    tensors = {name: (id(t), t.clone(), id(t.grad)) for name, t in (*model.named_parameters(), *model.named_buffers())}
    return facts, tensors


def assert_untouched(before, after):
    assert before[0] == after[0]
    for name, (identity, value, grad) in before[1].items():
        assert identity == after[1][name][0] and grad == after[1][name][2], name
        assert torch.equal(value, after[1][name][1]), name


def test_modes_attributes_gradients_and_hooks_are_as_they_were():
    x, y = data(10, 2, 6, 6)
    model = Convolutional()
    model.norm.eval()  # a part in another mode than the rest
    F.cross_entropy(model(x), y).backward()
    model.first.register_forward_hook(lambda module, args, out: None)
    before = everything(model)
    probe = Probe(model, x, y, loss=F.cross_entropy)
    probe.measure()
    assert_untouched(before, everything(model))
    assert model.training and not model.norm.training and model.calls == 1
    probe.close()


def test_an_exception_of_the_models_leaves_it_as_it_was():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.fail = nn.Linear(6, 3), False

        def forward(self, x):
            h = torch.relu(self.linear(x))
            if self.fail:
                raise KeyError("a mistake of the user's")
            return h.sum(1, keepdim=True) * torch.ones(3)

    x, y = data(10, 6)
    model = Fails()
    probe = Probe(model, x, y, loss=F.cross_entropy)
    model.fail = True
    before, state = everything(model), torch.get_rng_state()
    with pytest.raises(KeyError, match="a mistake"):
        probe.measure()
    assert_untouched(before, everything(model))
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
    with pytest.raises(UserError, match="ZeroDivisionError"):
        Probe(Convolutional(), *data(10, 2, 6, 6), loss=lambda out, labels: 1 / 0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_it_measures_gradients_where_the_caller_switched_them_off(context):
    x, y = data(10, 6)
    model = mlp()
    with context():
        probe = Probe(model, x, y, loss=F.cross_entropy)
        assert torch.is_grad_enabled() is False
    assert probe.measurements[0].network["grad_norm"] > 0


def test_autocast_is_off_while_it_measures_and_on_as_before_afterwards():
    x, y = data(10, 6)
    model, seen = mlp().eval(), []
    model[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = model(x)
        with Probe(model, x, y, loss=F.cross_entropy):
            assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
        again = model(x)
    assert torch.equal(first, again)
    assert seen[0] is seen[-1] is torch.bfloat16 and set(seen[1:-1]) == {torch.float32}


def test_what_compiles_or_replicates_a_model_is_looked_through():
    x, y = data(10, 6)
    model = mlp().eval()
    wanted = Probe(model, x, y, loss=F.cross_entropy).measurements[0]
    for wrapped in (
        torch.compile(model, backend="eager"),
        nn.DataParallel(model),
        torch.compile(nn.DataParallel(model), backend="eager"),
    ):
        found = Probe(wrapped, x, y, loss=F.cross_entropy).measurements[0]
        assert found.names == wanted.names == ("1", "4")
        assert found.network == pytest.approx(wanted.network, nan_ok=True)
    inside = nn.Sequential(torch.compile(model[0], backend="eager"), *model[1:])
    assert Probe(inside, x, y, loss=F.cross_entropy).measurements[0].network == pytest.approx(wanted.network, nan_ok=True)


def test_models_that_cannot_be_measured_are_refused_in_one_line():
    x, y = data(10, 6)
    with pytest.raises(UserError, match="lazy layers"):
        Probe(nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.Linear(3, 3)), x, y)
    with pytest.raises(UserError, match="no activation"):
        Probe(nn.Linear(6, 3), x, y)
    with pytest.raises(UserError, match=r"no torch\.nn\.Module"):
        Probe(lambda x: x, x, y)


def test_the_input_is_not_written_into():
    x, y = data(10, 6)
    kept = x.clone()
    Probe(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)), x, y, loss=F.cross_entropy).close()
    assert torch.equal(x, kept)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a compiler: no g++ here")
def test_a_model_compiled_by_inductor_trains_on_bit_for_bit():
    torch.manual_seed(0)
    model, found = mlp(), []
    for given in (False, True):
        torch._dynamo.reset()
        found.append(train(copy.deepcopy(model), (6,), with_probe=given, wrap=torch.compile))
    assert_same(*found)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_distributed_model_trains_on_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    model = mlp()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        wrap = nn.parallel.DistributedDataParallel
        assert_same(*(train(copy.deepcopy(model), (6,), with_probe=given, wrap=wrap) for given in (False, True)))
    finally:
        torch.distributed.destroy_process_group()


def test_a_users_own_setattr_and_train_are_not_called():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
            vars(self)["done"] = True

        def __setattr__(self, name, value):
            if "done" in vars(self):
                raise AttributeError(name)
            super().__setattr__(name, value)

        def train(self, mode=True):
            raise AssertionError("it is not asked")

        def forward(self, x):
            return self.last(F.relu(self.first(x)))

    model = Strict()
    Probe(model, *data(10, 6), loss=F.cross_entropy)
    assert model.training
