"""What models are made of and when they are measured: parameters, sizes, schedules, and that they learn."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from actbench.base.errors import UserError
from actbench.engine.evaluation import Evaluation
from actbench.engine.networks import make_networks
from actbench.plan.architecture import MODELS, architecture
from actbench.plan.costs import networks_per_pack, pack_bytes
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.plan.schedule import evaluation_steps, lr_factor
from actbench.results.frames import load
from actbench.results.rows import epochs_to
from actbench.run.loop import Options, run_study
from tests import oracle
from tests.conftest import device_data, make_spec, one_pack, small_images, trained

EVERY_KIND = [*({"model": model} for model in MODELS), {"norm": "batch"}, {"model": "cnn", "norm": "layer"}, {"activation": "prelu"},
        {"activation": "maxout", "pieces": 3}, {"activation": "crelu"}, {"hidden": "7-3"}]  # fmt: skip


@pytest.mark.parametrize("settings", EVERY_KIND, ids=str)
def test_parameters_are_those_of_torch(settings):
    images = small_images()
    spec = make_spec(**{"dataset": "small", "depth": 3, "width": 5, "epochs": 0, "probe_size": 10, **settings})
    data = device_data(images, spec)
    net = oracle.network(spec, data)
    count = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert trained(one_pack([spec], images), data).parameters[0] == count
    assert architecture(spec, images.shape).parameters(spec) == count


@pytest.mark.parametrize("activation", ["maxout", "crelu"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_parameters_can_be_matched(activation, model, mnist):
    plain = make_spec(model=model, width=64)
    wanted = architecture(plain, mnist.shape).parameters(plain)
    free = make_spec(model=model, width=64, activation=activation)
    assert architecture(free, mnist.shape).parameters(free) > 1.15 * wanted
    matched = make_spec(model=model, width=64, activation=activation, match_parameters=True)
    assert architecture(matched, mnist.shape).parameters(matched) == pytest.approx(wanted, rel=0.03)


def test_recurrent_networks_equal_torchs_own():
    """nn.RNN and nn.LSTM over the rows, not only cells of the oracle's."""
    images = small_images(8)
    for model, make in (("rnn", nn.RNN), ("lstm", nn.LSTM)):
        spec = make_spec(dataset="small", model=model, activation="tanh", depth=2, width=5, dtype="float64", bias=0.3)
        data = device_data(images, spec)
        mine = make_networks(plan_pack(Pack((spec,), (0,)), images.shape), data)
        whole = make(10, 5, num_layers=2, batch_first=True, dtype=torch.float64)
        with torch.no_grad():
            for layer in range(2):
                getattr(whole, f"weight_ih_l{layer}").copy_(mine.layers[layer].inward.tensor[0])
                getattr(whole, f"weight_hh_l{layer}").copy_(mine.layers[layer].recurrent.tensor[0])
                getattr(whole, f"bias_ih_l{layer}").copy_(mine.layers[layer].bias.tensor[0, :, 0])
                getattr(whole, f"bias_hh_l{layer}").zero_()
            x = data.scale(data.test_x)
            steps, _ = whole(x.view(8, 6, 10))
            out = mine.forward(x.unsqueeze(0), step=0)
            torch.testing.assert_close(out[0].T, steps[:, -1] @ mine.last.weight.tensor[0].T + mine.last.bias.tensor[0, :, 0])
            for step in range(6):
                torch.testing.assert_close(mine.layers[-1].steps[step + 1].h_before[0].T, steps[:, step])


@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_float32_trains_as_float64_does(model):
    """float32 is computed by numpy in part; the oracles of other tests are asked in float64."""
    images = small_images(40)
    common = dict(dataset="small", model=model, depth=2, width=5, lr=0.1, epochs=3, batch_size=16, probe_size=20)
    found = []
    for dtype in ("float32", "float64"):
        specs = [make_spec(**common, dtype=dtype, activation=name, seed=seed) for name in ("tanh", "gelu") for seed in (0, 1)]
        packs = [Pack(tuple(specs[:2]), (0, 1)), Pack((specs[0], specs[2], specs[1], specs[3]), (0, 1))]
        found.append([trained(pack, device_data(images, specs[0])).evaluations[-1] for pack in packs])
    for single, double in zip(*found, strict=True):
        for name in ("train_loss", "grad_norm_total"):
            np.testing.assert_allclose(single.network[name], double.network[name], rtol=1e-4)
        for name in ("preactivation_std", "delta_norm", "activation_mean"):
            np.testing.assert_allclose(single.layers[name], double.layers[name], rtol=1e-4, atol=1e-6)


def test_poolings_spread_over_the_depth(mnist):
    def pooled(**settings):
        return [layer.pooled for layer in architecture(make_spec(**settings), mnist.shape).layers]

    assert pooled(model="cnn", depth=4) == [False, True, True, True]
    assert sum(pooled(model="cnn", depth=30)) == 3 and pooled(model="cnn", depth=1) == [True]
    resnet = architecture(make_spec(model="resnet", depth=9, width=4), mnist.shape).layers
    assert sum(layer.pooled for layer in resnet) == 3 and all(layer.block_end for layer in resnet if layer.pooled)
    assert [layer.block_end for layer in resnet] == [False, False, True] + [False, True] * 3


def test_schedule_of_evaluations():
    spec = dict(batch_size=10, epochs=3, validation_fraction=0)
    assert evaluation_steps(make_spec(batch_size=10, epochs=3), 95) == [0, 9, 18, 27], "10 of 95 examples are held out"
    assert evaluation_steps(make_spec(**spec), 95) == [0, 10, 20, 30]
    assert evaluation_steps(make_spec(**spec, eval_every=2), 95) == [0, 20, 30]
    assert evaluation_steps(make_spec(**spec, eval_steps=4), 95) == [0, 4, 8, 10, 12, 16, 20, 24, 28, 30]
    assert evaluation_steps(make_spec(**{**spec, "epochs": 100}, eval_every=100, eval_log=3), 95) == [
        0, 1, 2, 5, 10, 22, 46, 100, 215, 464, 1000
    ]  # fmt: skip
    assert evaluation_steps(make_spec(**spec, train_size=50), 95) == [0, 5, 10, 15]
    assert evaluation_steps(make_spec(epochs=0, eval_log=3, eval_steps=2), 95) == [0]


def test_learning_rate_schedules():
    assert [lr_factor("step", step, 8) for step in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert lr_factor("cosine", 0, 8) == 1 and lr_factor("cosine", 4, 8) == pytest.approx(0.5)
    assert lr_factor("constant", 5, 8) == 1


def test_epochs_to_an_error_are_when_it_is_first_seen():
    accuracies = [[0.1, 0.1], [0.75, 0.6], [0.7, 0.8], [0.91, 0.7], [0.95, np.nan]]
    evaluations = [Evaluation(e / 2, e, {"train_accuracy": np.array(a)}, {}) for e, a in enumerate(accuracies)]
    assert epochs_to(evaluations) == [["0.5", "1.5", "2"], ["1", "", ""]]


def test_tables_between_epochs(tmp_path):
    words = ["width=8", "depth=2", "epochs=2", "train_size=500", "batch_size=100", "probe_size=200", "eval_steps=2", "lr=0.3"]
    assert run_study("single", words, Options(out=tmp_path / "r")).trained == 1
    found = load(tmp_path / "r")
    assert found.history["step"].tolist() == [0, 2, 4, 5, 6, 8, 10]
    assert found.history["epoch"].tolist() == [0, 0.4, 0.8, 1, 1.2, 1.6, 2]
    run = found.runs.iloc[0]
    assert run["evaluations"] == 7 and run["steps"] == 10 and run["parameters"] == 785 * 8 + 9 * 8 + 9 * 10
    reached = found.history[found.history["train_accuracy"] >= 0.75]["epoch"]
    assert run["epochs_to_25"] == reached.min() if len(reached) else np.isnan(run["epochs_to_25"])
    assert run_study("single", words, Options(out=tmp_path / "r")).trained == 0, "its rows are whole"


@pytest.mark.parametrize("model", MODELS)
def test_a_packs_memory_is_bounded_before_it_starts(model, mnist):
    for settings in ({}, {"width": 512, "depth": 2}, {"batch_size": 5000}, {"sequence": "pixels"}, {"optimizer": "adam"}):
        spec = make_spec(model=model, **settings)
        count = networks_per_pack(spec, mnist.shape)
        pack = Pack(tuple(make_spec(model=model, **settings, lr=0.01 + k / 1000) for k in range(count)), (0,))
        assert count == 1 or pack_bytes(pack, mnist.shape) < 1.5 * 2**30, (model, settings, count)


def test_a_train_size_that_the_data_do_not_have_is_refused(tmp_path):
    for size in (9_000, 10_000, 10**6):
        with pytest.raises(
            UserError, match=r"not below the 9,000 training examples .*\(1,000 more are held out for validation\)"
        ):
            run_study("single", ["epochs=0", f"train_size={size}"], Options(out=tmp_path / "r"))


def learns(tmp_path, *words: str) -> float:
    run_study("single", list(words), Options(out=tmp_path / "r"))
    return load(tmp_path / "r").runs["test_accuracy"].mean()


def test_a_cnn_learns_digits(tmp_path):
    words = ["model=cnn", "width=8", "depth=3", "train_size=2000", "epochs=3", "optimizer=adam", "lr=0.005", "batch_size=50"]
    assert learns(tmp_path, *words) > 0.75


@pytest.mark.slow
def test_a_batch_normalised_resnet_learns_digits(tmp_path):
    words = [
        "model=resnet",
        "width=8",
        "depth=5",
        "train_size=2000",
        "epochs=2",
        "lr=0.05",
        "norm=batch",
        "batch_size=50",
        "seed=range(0,3)",
    ]
    assert learns(tmp_path, *words) > 0.85


@pytest.mark.slow
def test_an_lstm_learns_digits(tmp_path):
    words = ["model=lstm", "depth=1", "train_size=3000", "epochs=2", "optimizer=adam", "lr=0.01", "batch_size=50"]
    assert learns(tmp_path, *words) > 0.7


CIFAR = Path(os.environ.get("ACTBENCH_DATA", ".")) / "cifar10" / "cifar10-9k.npz"


@pytest.mark.skipif(not CIFAR.is_file(), reason="needs $ACTBENCH_DATA/cifar10/cifar10-9k.npz, 9,000 images of CIFAR-10")
def test_a_cnn_learns_cifar10(tmp_path):
    words = [f"dataset={CIFAR}", "model=cnn", "width=16", "epochs=3", "lr=0.01", "momentum=0.9", "batch_size=50", "eval_every=3"]
    assert learns(tmp_path, *words) > 0.35
