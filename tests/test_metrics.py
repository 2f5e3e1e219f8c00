"""Every metric of every table against a brute-force count with torch's own autograd, one example at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actbench.engine.evaluation import asymptotes_of
from actbench.plan.architecture import MODELS
from actbench.plan.packing import make_packs
from actbench.results.columns import COLUMNS
from actbench.science.layer_stats import LayerStats, Moments, l2_norms
from actbench.science.metrics import METRICS, NETWORK_METRICS, layer_values, network_values
from tests import oracle
from tests.conftest import device_data, make_spec, one_pack, small_data, small_images, trained

ACTIVATIONS = ("relu", "tanh", "hard_tanh", "gelu", "dark_relu", "hard_sigmoid")


def brute_force(net: oracle.Plain, x: torch.Tensor, y: torch.Tensor, before=None, born=None):
    """All metrics of one plain network: ({column: [L]}, {column: figure}, which units are dead)."""
    depth, count, spec = len(net.sizes.layers), len(x), net.spec
    z_all, h_all, delta_all = ([[] for _ in range(depth)] for _ in range(3))
    losses, right = [], 0
    for i in range(count):
        out = net(x[i : i + 1])
        loss = oracle.data_loss(spec, out, x[i : i + 1], y[i : i + 1])
        flat = [z for zs in net.zs for z in zs]
        deltas = list(torch.autograd.grad(loss, flat))
        losses.append(loss.item())
        right += int(out.argmax() == y[i])
        for layer in range(depth):
            of_layer = [deltas.pop(0) for _ in net.zs[layer]]
            for kept, tensors in ((z_all, net.zs[layer]), (h_all, net.hs[layer]), (delta_all, of_layer)):
                # [positions, units]
                kept[layer].append(torch.cat([t.detach()[0].flatten(1).T if t.ndim > 2 else t.detach() for t in tensors]))
    net.zero_grad()
    oracle.data_loss(spec, net(x), x, y).backward()
    activation = spec.activation
    bounds = {
        "tanh": (-1, 1), "hard_tanh": (-1, 1), "softsign": (-1, 1), "hard_sigmoid": (0, 1), "sigmoid": (0, 1), "relu6": (0, 6),
    }.get(activation)  # fmt: skip
    units: dict[str, list[list[float]]] = {}
    layers: dict[str, list[float]] = {}
    dead_now = []
    for layer in range(depth):
        by_example = [d.numpy() for d in delta_all[layer]]
        z, h, delta = (torch.cat(part[layer]).numpy() for part in (z_all, h_all, delta_all))
        silent = activation in ("relu", "relu6", "crelu", "dark_relu", "hard_sigmoid", "hard_swish")  # 0 on an interval
        zeros = [[v == 0 and silent for v in h[:, u]] for u in range(h.shape[1])]
        dead = [all(of_unit) for of_unit in zeros]
        dead_now.append(dead)
        was = dead if born is None else born[layer]
        mean_h, mean_d = np.abs(h).mean(), np.abs(delta).mean()
        per_unit = {
            "dead_fraction": dead,
            "born_dead_fraction": was,
            "died_fraction": [d and not w for d, w in zip(dead, was, strict=True)],
            "revived_fraction": [w and not d for d, w in zip(dead, was, strict=True)],
            "dormant_fraction": [np.abs(h[:, u]).mean() <= 0.025 * mean_h for u in range(h.shape[1])],
            "grad_dormant_fraction": [np.abs(delta[:, u]).mean() <= 0.01 * mean_d for u in range(delta.shape[1])],
            "constant_fraction": [h[:, u].std() <= 0.01 * np.mean(h.std(0)) for u in range(h.shape[1])],
            "sparsity": [np.mean(of_unit) for of_unit in zeros],
            "flat_fraction": flat_of_units(net, layer, z),
            "unit_mean_abs": [abs(h[:, u].mean()) for u in range(h.shape[1])],
            "saturated_fraction": [
                np.nan if bounds is None else all(min(abs(v - a) for a in bounds) <= 1e-3 for v in h[:, u])
                for u in range(h.shape[1])
            ],
        }
        for name, values in per_unit.items():
            units.setdefault(name, []).append([float(v) for v in values])
            layers.setdefault(name, []).append(float(np.mean(values)))
        weights = net.weights()[layer]
        norm = lambda tensors: np.sqrt(sum(float((t.detach() ** 2).sum()) for t in tensors))  # noqa: E731
        figures = {
            "activation_mean": h.mean(), "activation_std": h.std(), "preactivation_mean": z.mean(),
            "preactivation_std": z.std(), "grad_norm": norm([w.grad for w in weights]),
            "delta_norm": np.sqrt(np.mean([np.sum(d**2) for d in by_example])),
            "update_ratio": np.nan if before is None else norm([w - b for w, b in zip(weights, before[layer], strict=True)]) / norm(weights),
        }  # fmt: skip
        for name, value in figures.items():
            layers.setdefault(name, []).append(float(value))
    network = {name: float(np.mean(np.concatenate(values))) for name, values in units.items()}
    autoencodes = spec.model == "autoencoder"
    network |= {"train_loss": float(np.mean(losses)), "train_accuracy": np.nan if autoencodes else right / count}
    network["code_sparsity"] = layers["sparsity"][depth // 2] if autoencodes and depth % 2 else np.nan
    network["grad_norm"] = float(np.sqrt(np.sum(np.square(layers["grad_norm"]))))
    network["grad_norm_total"] = norm([p.grad for p in net.parameters() if p.grad is not None])
    network["delta_norm_ratio"] = layers["delta_norm"][0] / layers["delta_norm"][-1]
    network["update_ratio"] = np.nan
    if before is not None:
        hidden = [w for layer in net.weights()[:-1] for w in layer]
        old = [w for layer in before for w in layer]
        network["update_ratio"] = norm([w - b for w, b in zip(hidden, old, strict=True)]) / norm(hidden)
    return layers, network, dead_now


def flat_of_units(net: oracle.Plain, layer: int, z: np.ndarray) -> list[float]:
    """Of each unit, the share of its z at which torch's own derivative is at most 5 % of the largest on a fine grid."""
    if net.spec.activation in ("maxout", "crelu"):
        return [np.nan] * z.shape[1]

    def slopes(values: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(values).requires_grad_()
        (found,) = torch.autograd.grad(net.activations[layer](leaf).sum(), leaf)
        return found.abs().numpy()

    grid = np.repeat(np.arange(-20, 20, 1 / 64)[:, None], z.shape[1], axis=1)
    return list((slopes(z) <= 0.05 * slopes(grid).max(0)).mean(0))


def assert_metrics(specs, data_set, names=()) -> list:
    """Every metric of every evaluation equals its brute-force count; returns the pack's evaluations."""
    pack, data = one_pack(specs, data_set), device_data(data_set, specs[0])
    measured = trained(pack, data)
    seen: set[str] = set()
    for r, spec in enumerate(pack.specs):
        steps, before, born, at_step, weights = oracle.train_steps(spec, data, spec.epochs), None, None, [], None
        wanted_steps = {evaluation.step for evaluation in measured.evaluations}
        for step, (net, _) in enumerate(steps):
            before, weights = weights, [[w.detach().clone() for w in layer] for layer in net.weights()[:-1]]
            if step in wanted_steps:
                at_step.append(brute_force(net, oracle.inputs(data, spec, "probe"), data.probe_y, before, born))
            if born is None:
                born = at_step[0][2]
        assert len(at_step) == len(measured.evaluations)
        for evaluation, (layers, network, _) in zip(measured.evaluations, at_step, strict=True):
            for columns, wanted in ((evaluation.layers, layers), (evaluation.network, network)):
                for name, value in wanted.items():
                    named = f"{name}, {spec.model}, {spec.activation}, step {evaluation.step}"
                    np.testing.assert_allclose(columns[name][r], value, rtol=1e-8, atol=1e-12, err_msg=named)
                    seen.add(name)
        with torch.no_grad():
            last = measured.evaluations[-1].network
            for split, y in (("test", data.test_y), ("validation", data.validation_y)):
                x = oracle.inputs(data, spec, split)
                out = net(x)
                np.testing.assert_allclose(last[f"{split}_loss"][r], oracle.data_loss(spec, out, x, y).item(), rtol=1e-9)
                if spec.model != "autoencoder":
                    assert last[f"{split}_accuracy"][r] == (out.argmax(1) == y).double().mean().item()
    assert seen >= {*METRICS, *NETWORK_METRICS}, "a metric has no brute-force counterpart here"
    return measured.evaluations


COMMON = dict(dataset="small", depth=3, width=6, batch_size=16, epochs=2, dtype="float64", probe_size=25)


@pytest.mark.parametrize("chunk", [None, 7], ids=["one chunk", "chunks of 7"])
@pytest.mark.parametrize("fixed", [0, 20], ids=["all inputs vary", "20 fixed inputs"])
def test_every_metric_equals_brute_force(chunk, fixed, monkeypatch):
    """At initialisation and after training, on a probe set that is part of the data; some units are dead and revive."""
    if chunk:
        monkeypatch.setattr("actbench.plan.pack_plan.evaluation_chunk", lambda *settings, **more: chunk)
    specs = [make_spec(**COMMON, lr=0.3, bias=-0.9, activation=name, seed=seed) for name in ACTIVATIONS for seed in (0, 1)]
    evaluations = assert_metrics(specs, small_data(fixed=fixed))
    fractions = np.stack([e.network["dead_fraction"] for e in evaluations])
    assert 0 < fractions.max() < 1, "the test should see dead and living units"
    assert evaluations[-1].network["revived_fraction"].max() > 0
    assert evaluations[-1].network["died_fraction"].max() > 0


OTHERS = {
    "cnn": {}, "resnet": dict(depth=4), "rnn": dict(lr=0.01, depth=2), "lstm": dict(depth=2),
    "autoencoder": {}, "batch": dict(norm="batch"), "layer": dict(norm="layer"), "cnn batch": dict(model="cnn", norm="batch"),
    "maxout": dict(activation="maxout", pieces=3), "crelu": dict(activation="crelu"), "cnn crelu": dict(model="cnn", activation="crelu"),
    "mse": dict(loss="mse"), "prelu": dict(activation="prelu", negative_slope=0.0625, lr=0.3), "lstm relu": dict(model="lstm", activation="relu", depth=2),
    "lstm prelu": dict(model="lstm", activation="prelu", depth=2), "output": dict(output_init="xavier_normal", init_gain=2),
    "leaky": dict(activation="leaky_relu", negative_slope=0.03125), "half held out": dict(validation_fraction=0.5), "dropout": dict(dropout=0.5), "subset": dict(train_size=20),
    "sizes": dict(hidden="5-3-7"), "schedule": dict(eval_steps=2, eval_log=5), "pixels": dict(model="rnn", sequence="pixels", lr=0.001, depth=1, init="orthogonal"),
}  # fmt: skip


FEW = ("cnn", "resnet", "rnn", "lstm", "autoencoder", "batch", "maxout", "prelu", "lstm relu", "output", "schedule")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in OTHERS])
def test_every_metric_of_every_model_equals_brute_force(name):
    """A unit is a channel over all positions, or a recurrent unit over all time steps; chunks are of unequal size."""
    model = name if name in MODELS else "mlp"
    named = {**COMMON, "model": model, "width": 4, "lr": 0.05, "bias": -0.2, **OTHERS[name]}
    activations = [named.pop("activation")] if "activation" in named else ["relu", "sigmoid"]
    specs = dict.fromkeys(make_spec(**named, activation=activation, seed=seed) for activation in activations for seed in (0, 1))
    for pack in make_packs(specs, {"small": small_images(24).shape}):
        assert_metrics(list(pack.specs), small_images(24))


@pytest.mark.parametrize("settings", [{}, dict(model="resnet", norm="batch", depth=4), dict(activation="prelu")])
def test_metrics_of_convolutional_networks_that_never_have_company_equal_brute_force(settings, monkeypatch):
    """As large ones, whose outputs are measured where the library leaves them."""
    monkeypatch.setattr("actbench.plan.costs.STACKED_CONVOLUTION_VALUES", 0)
    named = {**COMMON, "model": "cnn", "width": 4, "lr": 0.05, "bias": -0.2, "activation": "relu", **settings}
    assert_metrics([make_spec(**named)], small_images(24))


def test_columns_of_the_tables_are_pinned():
    key = ["run_id", "dataset", "model", "activation", "init", "depth", "width", "bias", "lr", "seed"]
    for columns in COLUMNS.values():
        assert list(columns[:10]) == key
    wanted = [
        "status",
        "steps",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
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
    assert COLUMNS["history"][10:16] == (
        "epoch",
        "step",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    )
    assert COLUMNS["layers"][10:14] == ("epoch", "step", "layer", "units")


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_moments_neither_underflow_nor_overflow_in_float32(scale):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 100, generator=generator)
    stats = LayerStats()
    for part in (x * scale).split(40, dim=2):
        stats.observe(part, part)
        stats.observe_delta(part, part.shape[2])
    np.testing.assert_allclose(stats.h.std_R, x.double().std((1, 2), correction=0) * scale, rtol=1e-5)
    np.testing.assert_allclose(METRICS["delta_norm"].compute(stats), x.double().square().sum(1).mean(1).sqrt() * scale, rtol=1e-5)


def test_std_survives_a_large_mean():
    x = 1000 + 0.1 * torch.randn(1, 4, 200, generator=torch.Generator().manual_seed(1))
    stats = LayerStats()
    for part in x.split(50, dim=2):
        stats.observe(part, part)
        stats.observe_delta(part, part.shape[2])
    np.testing.assert_allclose(stats.z.std_R, x.double().std((1, 2), correction=0), rtol=1e-3)


def test_accuracy_of_ties_is_that_of_argmax():
    """A network whose outputs are all equal answers class 0, not every class at once."""
    data = small_data(60)
    spec = make_spec(dataset="small", depth=2, width=3, init="zeros", epochs=0, probe_size=60)
    measured = trained(one_pack([spec], data), device_data(data, spec))
    assert measured.evaluations[0].network["test_accuracy"][0] == (data.y_test == 0).mean()


def test_saturation_is_empty_where_there_is_no_bound():
    specs = [make_spec(activation=a, width=3) for a in ("relu", "tanh")]
    pack = one_pack(specs, small_data())
    bounds = asymptotes_of(pack, "cpu")
    assert bounds[0].isnan().all() and bounds[1].tolist() == [-1, 1]


def observed(h, delta=None, examples=None, **more) -> LayerStats:
    """Statistics of a layer whose values are these [R, U, B], in chunks of unequal size; z is h."""
    h = torch.as_tensor(h, dtype=torch.float64)
    delta = h if delta is None else torch.as_tensor(delta, dtype=torch.float64)
    stats = LayerStats(**more)
    for part, of_delta in zip(h.split(3, dim=2), delta.split(3, dim=2), strict=True):
        stats.observe(part, part)
        stats.observe_delta(of_delta, examples or of_delta.shape[2])
    stats.grad_norm_R = stats.update_norm_R = torch.full((len(h),), 3.0)
    stats.weight_norm_R = torch.full((len(h),), 4.0)
    return stats


def test_a_unit_is_dormant_or_saturated_up_to_the_limit_and_no_further():
    for name, limit in (("dormant_fraction", 0.025), ("grad_dormant_fraction", 0.01)):
        low, high = 0.9999 * limit, 1.0001 * limit  # of four units whose sizes have the mean 1
        sizes = torch.tensor([low, high, 1.0, 3 - low - high]).view(1, 4, 1) * torch.tensor([7.0, -7, 7, -7])
        for stats in (observed(sizes, torch.ones(1, 4, 4)), observed(torch.ones(1, 4, 4), sizes)):
            layer = layer_values(stats)
            assert layer[name].item() == (0.25 if (stats.h.std_R > 0) == (name == "dormant_fraction") else 0)
        assert layer_values(observed(torch.zeros(1, 4, 4)))[name].item() == 1, "in a dead layer every unit is dormant"
    bounds = torch.tensor([[-1.0, 1.0], [0.0, 1.0], [torch.nan, torch.nan]], dtype=torch.float64)
    units = torch.tensor(
        [[0.9995, 1.0, -1.0, -0.9995], [0.9995, 0.9995, 0.9985, 1.0], [0.0, 0.0005, 1.0, 1.0]], dtype=torch.float64
    )
    saturated = layer_values(observed(torch.stack([units, units.clamp_min(0), units]), asymptotes_R2=bounds))[
        "saturated_fraction"
    ]
    np.testing.assert_allclose(saturated, [1 / 3, 2 / 3, np.nan])
    assert layer_values(observed(units[None]))["saturated_fraction"].isnan().all(), "no activation is bounded"


def test_what_became_of_units_is_told_against_those_that_were_born_dead():
    h = torch.tensor([[[0.0] * 5, [0.0] * 5, [0, 0, 0, 0, 1.0], [1.0] * 5]])
    names = ("dead_fraction", "born_dead_fraction", "died_fraction", "revived_fraction", "sparsity")
    at_start = layer_values(observed(h))
    assert [at_start[name].item() for name in names] == [0.5, 0.5, 0, 0, 14 / 20]
    later = layer_values(observed(h, born_dead_RU=torch.tensor([[True, False, True, True]])))
    assert [later[name].item() for name in names] == [0.5, 0.75, 0.25, 0.5, 14 / 20]
    assert observed(h).units == 4 and observed(h).examples == 5


def test_figures_of_a_network_are_over_all_units_and_not_means_of_layers():
    first = observed(torch.tensor([[[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]]), torch.full((1, 3, 2), 2.0))
    last = observed(torch.tensor([[[0.0, 0.0]]]), torch.full((1, 1, 2), 1.0))
    network = network_values([first, last])
    assert network["dead_fraction"].tolist() == [0.5] and network["dead_fraction"].dtype == torch.float64
    assert network["grad_norm"].tolist() == pytest.approx([np.sqrt(18)])
    assert network["update_ratio"].tolist() == pytest.approx([0.75])
    assert network["delta_norm_ratio"].tolist() == pytest.approx([np.sqrt(12)])
    assert layer_values(first)["update_ratio"].tolist() == [0.75]


def test_delta_norm_is_per_example_though_a_unit_has_many_positions():
    stats = observed(torch.ones(1, 2, 6), torch.full((1, 2, 6), 2.0), examples=1)
    assert layer_values(stats)["delta_norm"].tolist() == pytest.approx([np.sqrt(2 * 6 * 4 / 2)])


@pytest.mark.parametrize(
    "sizes", [(1e-30, 1.0, 1e30), (1e-30, 1.0, 2.0), (1.0, 2.0, 1e30), (0.0, 1.0, 2.0), (1e-8, 1e8, 3.0), (1e-12, 1e12, 1e-3)]
)
def test_norms_and_moments_of_each_network_are_those_of_float64_whatever_the_others_are(sizes):
    x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2)) * torch.tensor(sizes).view(-1, 1, 1)
    exact = x.double()
    norms = l2_norms([x, x[:, :2].unsqueeze(3).expand(3, 2, 6, 2)])
    wanted = (exact.square().sum((1, 2)) + 2 * exact[:, :2].square().sum((1, 2))).sqrt()
    assert norms.dtype == torch.float64
    np.testing.assert_allclose(norms, wanted, rtol=1e-6)
    moments = Moments()
    for part in x.split(4, dim=2):
        moments.add(part, torch.empty_like(part))
    assert moments.count == 6  # of each unit
    scale = torch.tensor(sizes, dtype=torch.float64).clamp_min(1e-300)
    np.testing.assert_allclose(moments.mean_R / scale, exact.mean((1, 2)) / scale, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(moments.std_R, exact.std((1, 2), correction=0), rtol=1e-5)


@pytest.mark.parametrize("sizes", [(1e-12, 1.0, 1e12), (1.0, 1e25, 1.0), (0.0, 1e-30, 1.0), (1e-25, 1e-25, 1e-25)])
def test_moments_of_chunks_of_very_different_sizes_are_those_of_float64(sizes):
    """As the δ of a recurrent layer's time steps may be."""
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(2)).repeat_interleave(3, 2)
    x = x * torch.tensor(sizes).repeat_interleave(6)
    moments = Moments(centre=False)
    for part in x.split(6, dim=2):
        moments.add(part, torch.empty_like(part))
    np.testing.assert_allclose(moments.square_RU, x.double().square().sum(2), rtol=1e-6)


def test_ordinary_networks_are_not_scaled_whatever_the_others_are():
    x = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(3))
    alone, among = Moments(), Moments()
    alone.add(x[1:2], torch.empty(1, 2, 5))
    among.add(x * torch.tensor([1e-25, 1.0, 1e25]).view(-1, 1, 1), torch.empty_like(x))
    assert torch.equal(alone.square_RU[0], among.square_RU[1])
