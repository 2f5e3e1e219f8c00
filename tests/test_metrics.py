"""Every metric of every table against a brute-force count with torch's own autograd, one example at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from actbench.device_data import DeviceData
from actbench.metrics import METRICS, NETWORK_METRICS, LayerStats
from actbench.models.elementwise import asymptotes_of
from actbench.tables import COLUMNS
from actbench.train import Trainer, train
from tests import oracle
from tests.conftest import make_spec, one_pack, small_data

ACTIVATIONS = ("relu", "tanh", "hard_tanh", "gelu", "dark_relu", "hard_sigmoid")


def brute_force(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor, activation: str, before=None, born=None):
    """All metrics of one plain network: ({column: [L]}, {column: figure})."""
    linears = [m for m in net if isinstance(m, nn.Linear)][:-1]
    depth, count = len(linears), len(x)
    z_all, h_all, delta_all = ([[] for _ in range(depth)] for _ in range(3))
    losses, right = [], 0
    for i in range(count):
        zs, hs, value = [], [], x[i : i + 1]
        for module in net:
            value = module(value)
            if isinstance(module, nn.Linear):
                value.retain_grad()
                zs.append(value)
            else:
                hs.append(value)
        loss = nn.functional.cross_entropy(value, y[i : i + 1])
        net.zero_grad()
        loss.backward()
        losses.append(loss.item())
        right += int(value.argmax() == y[i])
        for layer in range(depth):
            z_all[layer].append(zs[layer].detach()[0])
            h_all[layer].append(hs[layer].detach()[0])
            delta_all[layer].append(zs[layer].grad[0].clone())
    net.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    bounds = {"tanh": (-1, 1), "hard_tanh": (-1, 1), "hard_sigmoid": (0, 1)}.get(activation)
    units: dict[str, list[list[float]]] = {}
    layers: dict[str, list[float]] = {}
    dead_now = []
    for layer in range(depth):
        z, h, delta = (torch.stack(part[layer]).numpy() for part in (z_all, h_all, delta_all))
        dead = [all(h[i, u] == 0 for i in range(count)) for u in range(h.shape[1])]
        dead_now.append(dead)
        was = dead if born is None else born[layer]
        mean_h, mean_d = np.abs(h).mean(), np.abs(delta).mean()
        per_unit = {
            "dead_fraction": dead,
            "born_dead_fraction": was,
            "died_fraction": [d and not w for d, w in zip(dead, was, strict=True)],
            "revived_fraction": [w and not d for d, w in zip(dead, was, strict=True)],
            "dormant_fraction": [np.abs(h[:, u]).mean() <= 0.025 * mean_h for u in range(h.shape[1])],
            "grad_dormant_fraction": [np.abs(delta[:, u]).mean() <= 0.01 * mean_d for u in range(h.shape[1])],
            "sparsity": [np.mean([v == 0 for v in h[:, u]]) for u in range(h.shape[1])],
            "saturated_fraction": [
                np.nan if bounds is None else all(min(abs(v - a) for a in bounds) <= 1e-3 for v in h[:, u])
                for u in range(h.shape[1])
            ],
        }
        for name, values in per_unit.items():
            units.setdefault(name, []).append([float(v) for v in values])
            layers.setdefault(name, []).append(float(np.mean(values)))
        w = linears[layer].weight
        figures = {
            "activation_mean": h.mean(), "activation_std": h.std(), "preactivation_mean": z.mean(),
            "preactivation_std": z.std(), "grad_norm": w.grad.norm().item(),
            "delta_norm": np.sqrt(np.mean([np.sum(delta[i] ** 2) for i in range(count)])),
            "update_ratio": np.nan if before is None else ((w - before[layer]).norm() / w.norm()).item(),
        }  # fmt: skip
        for name, value in figures.items():
            layers.setdefault(name, []).append(float(value))
    network = {name: float(np.mean(np.concatenate(values))) for name, values in units.items()}
    network |= {"train_loss": float(np.mean(losses)), "train_accuracy": right / count}
    network["grad_norm"] = float(np.sqrt(np.sum(np.square(layers["grad_norm"]))))
    network["delta_norm_ratio"] = layers["delta_norm"][0] / layers["delta_norm"][-1]
    network["update_ratio"] = np.nan
    if before is not None:
        change = sum(((m.weight - b) ** 2).sum() for m, b in zip(linears, before, strict=True))
        network["update_ratio"] = (change / sum((m.weight**2).sum() for m in linears)).sqrt().item()
    return layers, network, dead_now


@pytest.mark.parametrize("chunk", [None, 7], ids=["one chunk", "chunks of 7"])
@pytest.mark.parametrize("fixed", [0, 20], ids=["all inputs vary", "20 fixed inputs"])
def test_every_metric_equals_brute_force(chunk, fixed, monkeypatch):
    """At initialisation and after training, on a probe set that is part of the data; some units are dead and revive."""
    if chunk:
        monkeypatch.setattr(Trainer, "_chunk", lambda self: chunk)
    common = dict(dataset="small", depth=3, width=6, batch_size=16, epochs=2, dtype="float64", probe_size=25, lr=0.3, bias=-0.9)
    specs = [make_spec(**common, activation=name, seed=seed) for name in ACTIVATIONS for seed in (0, 1)]
    small = small_data(fixed=fixed)
    pack, data = one_pack(specs, small), DeviceData(small, specs[0], "cpu")
    assert (data.fixed is not None) == bool(fixed)
    measured = train(pack, data)
    seen: set[str] = set()
    for r, spec in enumerate(pack.specs):
        steps, before, born, at_epoch = oracle.train_steps(spec, data, spec.epochs), None, None, {}
        weights = None
        for net, epoch in steps:
            linears = [m for m in net if isinstance(m, nn.Linear)][:-1]
            before, weights = weights, [m.weight.detach().clone() for m in linears]
            at_epoch[epoch] = brute_force(net, oracle.inputs(data, spec, "probe"), data.probe_y, spec.activation, before, born)
            if born is None:
                born = at_epoch[0][2]
        for evaluation in measured.evaluations:
            layers, network, _ = at_epoch[evaluation.epoch]
            for columns, wanted in ((evaluation.layers, layers), (evaluation.network, network)):
                for name, value in wanted.items():
                    np.testing.assert_allclose(
                        columns[name][r],
                        value,
                        rtol=1e-9,
                        atol=1e-12,
                        err_msg=f"{name}, {spec.activation}, epoch {evaluation.epoch}",
                    )
                    seen.add(name)
        with torch.no_grad():
            logits = net(oracle.inputs(data, spec, "test"))
            np.testing.assert_allclose(
                measured.evaluations[-1].network["test_loss"][r], nn.functional.cross_entropy(logits, data.test_y).item()
            )
            assert (
                measured.evaluations[-1].network["test_accuracy"][r] == (logits.argmax(1) == data.test_y).double().mean().item()
            )
    assert seen >= {*METRICS, *NETWORK_METRICS}, "a metric has no brute-force counterpart here"
    fractions = np.stack([e.network["dead_fraction"] for e in measured.evaluations])
    assert 0 < fractions.max() < 1, "the test should see dead and living units"
    assert measured.evaluations[-1].network["revived_fraction"].max() > 0
    assert measured.evaluations[-1].network["died_fraction"].max() > 0


def test_columns_of_the_tables_are_pinned():
    key = ["run_id", "dataset", "model", "activation", "init", "depth", "width", "bias", "lr", "seed"]
    for columns in COLUMNS.values():
        assert list(columns[:10]) == key
    wanted = [
        "status",
        "steps",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "dead_fraction",
        "born_dead_fraction",
        "died_fraction",
        "revived_fraction",
        "dormant_fraction",
        "sparsity",
        "saturated_fraction",
        "grad_norm",
        "delta_norm_ratio",
        "seconds",
        "error",
    ]
    assert [c for c in COLUMNS["runs"] if c in wanted] == wanted
    settings = [
        "optimizer",
        "momentum",
        "weight_decay",
        "weight_l1",
        "activation_l1",
        "dropout",
        "norm",
        "batch_size",
        "epochs",
        "input_scaling",
    ]
    assert [c for c in COLUMNS["runs"] if c in settings] == settings
    assert COLUMNS["history"][10:16] == ("epoch", "step", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    assert COLUMNS["layers"][10:14] == ("epoch", "step", "layer", "units")


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_moments_neither_underflow_nor_overflow_in_float32(scale):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 100, generator=generator)
    stats = LayerStats()
    for part in (x * scale).split(40, dim=2):
        stats.observe(part, part)
        stats.observe_delta(part)
    np.testing.assert_allclose(stats.h.std_R, x.double().std((1, 2), correction=0) * scale, rtol=1e-5)
    np.testing.assert_allclose(METRICS["delta_norm"].compute(stats), x.double().square().sum(1).mean(1).sqrt() * scale, rtol=1e-5)


def test_std_survives_a_large_mean():
    x = 1000 + 0.1 * torch.randn(1, 4, 200, generator=torch.Generator().manual_seed(1))
    stats = LayerStats()
    for part in x.split(50, dim=2):
        stats.observe(part, part)
        stats.observe_delta(part)
    np.testing.assert_allclose(stats.z.std_R, x.double().std((1, 2), correction=0), rtol=1e-3)


def test_accuracy_of_ties_is_that_of_argmax():
    """A network whose outputs are all equal answers class 0, not every class at once."""
    data = small_data(60)
    spec = make_spec(dataset="small", depth=2, width=3, init="zeros", epochs=0, probe_size=60)
    measured = train(one_pack([spec], data), DeviceData(data, spec, "cpu"))
    assert measured.evaluations[0].network["test_accuracy"][0] == (data.y_test == 0).mean()


def test_saturation_is_empty_where_there_is_no_bound():
    specs = [make_spec(activation=a, width=3) for a in ("relu", "tanh")]
    pack = one_pack(specs, small_data())
    bounds = asymptotes_of(pack, "cpu")
    assert bounds[0].isnan().all() and bounds[1].tolist() == [-1, 1]
