"""What theory predicts at initialisation: against the published tables, torch, brute-force draws, and networks of the engine."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from actbench.report.render import as_text, render
from actbench.report.tables import report_on
from actbench.results.frames import load
from actbench.run.loop import Options, run_study
from actbench.science.activations import ACTIVATIONS, gain
from actbench.science.inits import INITS, Fans
from actbench.study.spec import SETTINGS
from actbench.verdicts import theory
from actbench.verdicts.curves import CURVES, KINKS, curve_of
from actbench.verdicts.mean_field import Chain, expected, nodes, zeros_of
from actbench.verdicts.theory import (
    NETWORKS,
    VARIANCES,
    at_start,
    compared,
    delta_ratios,
    predicted,
    predictions,
    with_predictions,
)
from tests.conftest import make_spec

GAUSSIAN = dict(dataset="gaussian", epochs=0)
SETTINGS_OF = {"negative_slope": 0.2, "alpha": 0.7, "beta": 1.7}


def chain(activation: str, gain2: float, depth: int, bias: float = 0.0, width: int = 256, **settings) -> Chain:
    return Chain(*curve_of(activation, settings), (width,) * depth, (gain2,) * depth, (0.0,) * depth, bias, 1.0, 0.0)


# curves


def test_every_elementwise_activation_has_a_curve():
    assert set(CURVES) == {name for name, entry in ACTIVATIONS.items() if entry.units is None}
    assert curve_of("maxout", {}) is None and curve_of("mine.Bent", {}) is None


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_torchs(name):
    given = {key: SETTINGS_OF[key] for key in ACTIVATIONS[name].settings}
    value, slope = curve_of(name, given)
    z = np.concatenate([np.linspace(-9.05, 9.07, 1003), np.linspace(-1e-3, 1.1e-3, 100)])
    assert np.abs(z[:, None] - KINKS).min() > 1e-6, "not at a kink"
    z_torch = torch.tensor(z, requires_grad=True)
    h = ACTIVATIONS[name].forward(z_torch, **given)
    h.sum().backward()
    np.testing.assert_allclose(value(z), h.detach().numpy(), rtol=1e-9, atol=1e-8)  # torch's softplus is z from beta·z = 20
    np.testing.assert_allclose(slope(z), z_torch.grad.numpy(), rtol=1e-9, atol=1e-7)  # its celu rounds 1/alpha
    huge = np.array([-1e8, 1e8])
    assert np.isfinite([value(huge), slope(huge)]).all()


@pytest.mark.parametrize("name", CURVES)
def test_integrals_are_those_of_the_gain(name):
    z, density = nodes(0.0, 1.0)
    assert float(density @ curve_of(name, {})[0](z) ** 2) ** -0.5 == pytest.approx(gain(name), rel=1e-6)


def test_where_activations_are_silent():
    silent = {name: zeros_of(curve_of(name, {})[0]) for name, entry in ACTIVATIONS.items() if entry.silent and name in CURVES}
    below = ((-math.inf, 0.0),)
    assert silent == {"relu": below, "relu6": below, "relu_squared": below, "dark_relu": ((0.0, math.inf),),
                      "hard_sigmoid": ((-math.inf, -3.0),), "hard_swish": ((-math.inf, -3.0),)}  # fmt: skip
    assert zeros_of(curve_of("leaky_relu", {"negative_slope": 0.0})[0]) == below


@pytest.mark.parametrize("name", VARIANCES)
def test_variances_are_those_of_the_drawn_weights(name):
    torch.manual_seed(0)
    for fans in (Fans(300, 200), Fans(200, 300)):
        drawn = INITS[name].weights(torch.randn(1, fans.outputs, fans.inputs, dtype=torch.float64), fans, 1.7)
        wanted = VARIANCES[name](fans, 1.7 if INITS[name].wants_gain else 1.0)
        assert float(drawn.square().mean()) == pytest.approx(wanted, rel=0.03)
    assert set(INITS) - set(VARIANCES) == {"identity", "asymmetric", "zeros"}
    assert {name for name, init in INITS.items() if init.biases} == set(theory.WITH_BIASES)


# the published tables


@pytest.mark.parametrize(
    ("bias", "gain2", "table"),
    [
        (0.1, 2, (0.472, 0.473, 0.475, 0.477, 0.481, 0.487)),
        (1, 2, (0.240, 0.334, 0.378, 0.419, 0.456, 0.477)),
        (0.1, 1, (0.460, 0.448, 0.434, 0.401, 0.339, 0.319)),
        (0, 1 / 3, (0.5,) * 6),
    ],
)
def test_a1_zeros_by_layer(bias, gain2, table):
    found = expected(chain("relu", gain2, 20, bias), 2000).zeros
    np.testing.assert_allclose(found[[0, 1, 2, 4, 9, 19]], table, atol=6e-4)


@pytest.mark.parametrize(
    ("activation", "one", "two"),
    [
        ("relu", 1.38e-3, 1.0),
        ("elu", 0.150, 4.15),
        ("gelu", 3.98e-6, 8.7e-2),
        ("mish", 8.77e-5, 0.615),
        ("tanh", 0.195, 1.70),
        ("sigmoid", 1.09e-12, 2.9e-10),
    ],
)
def test_a2_ratio_through_twenty_layers(activation, one, two):
    for gain2, wanted in ((1, one), (2, two)):
        found = expected(chain(activation, gain2, 20), 2000)
        assert math.exp(found.log_ratios[0] / 2) == pytest.approx(wanted, rel=0.02)
    spec = make_spec(**GAUSSIAN, activation=activation, depth=20, width=512, init="lecun_normal", dtype="float64")
    told = predicted(spec, 784)["delta_norm_ratio"]
    assert told.value == pytest.approx(one, rel=0.02) and 4 * told.spread / math.sqrt(5) + told.slack < 0.3


@pytest.mark.parametrize(
    ("width", "table"),
    [(2, (0.4375, 0.6836, 0.9249, 0.9958)), (3, (0.2344, 0.4138, 0.6993, 0.9209)),
     (4, (0.1211, 0.2275, 0.4406, 0.7066)), (10, (0.0020, 0.0039, 0.0088, 0.0184))],
)  # fmt: skip
def test_a3_networks_born_dead(width, table):
    for depth, wanted in zip((2, 4, 9, 19), table, strict=True):
        spec = make_spec(**GAUSSIAN, depth=depth, width=width, probe_size=1)
        told = predicted(spec, 784)[NETWORKS]
        assert told.value == pytest.approx(wanted, abs=6e-5) and told.spread == math.sqrt(told.value * (1 - told.value))
    for other in (dict(bias=0.1), dict(activation="tanh"), dict(init="torch_default"), dict(probe_size=2)):
        assert NETWORKS not in predicted(make_spec(**{**GAUSSIAN, "probe_size": 1, **other}), 784)
    assert NETWORKS in predicted(make_spec(**GAUSSIAN, probe_size=1, activation="dark_relu"), 784)


# other settings, by brute force


def drawn(spec, features: int, rng: np.random.Generator, examples: int) -> tuple[list[float], list[float]]:
    """(zeros, δ over the last layer's) by layer of one network drawn with numpy; its output layer, loss and data are random."""
    value, slope = curve_of(spec.activation, {name: getattr(spec, name) for name in SETTINGS})
    units = [int(size) for size in spec.hidden.split("-")] if spec.hidden else [spec.width] * spec.depth
    h, zeros, chain = rng.standard_normal((examples, features)), [], []
    for fans in (Fans(one, two) for one, two in zip([features, *units], units, strict=False)):
        second = gain(spec.activation) if spec.init.startswith("gain") else 1.0
        shape, std = (fans.outputs, fans.inputs), spec.init_gain * math.sqrt(VARIANCES[spec.init](fans, second))
        w_OI = std * (rng.standard_normal(shape) if spec.init.endswith("normal") else rng.uniform(-1, 1, shape) * math.sqrt(3))
        drawn_O = rng.uniform(-1, 1, len(w_OI)) / math.sqrt(fans.fan_in) if spec.init == "torch_default" else 0.0
        z = h @ w_OI.T + spec.bias + drawn_O
        h = value(z)
        chain.append((slope(z), w_OI))
        zeros.append(float((h == 0).mean()))
    delta = rng.standard_normal(h.shape) * chain[-1][0]
    last = math.sqrt((delta**2).sum()) or math.nan  # of a dead network
    ratios = [1.0]
    for (steep, _), (_, w_OI) in zip(chain[-2::-1], chain[:0:-1], strict=True):
        delta = delta @ w_OI * steep
        ratios.insert(0, math.sqrt((delta**2).sum()) / last)
    return zeros, ratios


@pytest.mark.parametrize(
    "settings",
    [
        dict(depth=5, width=64, bias=1.0),
        dict(hidden="160-40-80-50", bias=0.2, init="xavier_normal"),
        dict(depth=5, width=64, init="torch_default", bias=0.1),
        dict(depth=4, width=64, activation="tanh", init="xavier_uniform", init_gain=1.5),
        dict(depth=6, width=64, activation="hard_swish", bias=0.5),
        dict(depth=3, width=64, activation="hard_sigmoid", init_gain=3.0),
        dict(depth=5, width=64, activation="softplus", init="gain_normal"),
        dict(depth=8, width=5),
        dict(depth=4, width=64, activation="relu6", bias=2.0),
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_predictions_are_what_draws_give(settings):
    """The mean of 60 networks is within the tolerance for so many; single ones scatter no more than is said."""
    spec, rng, count = make_spec(**GAUSSIAN, probe_size=40, **settings), np.random.default_rng(3), 60
    networks = [drawn(spec, 100, rng, 40) for _ in range(count)]
    zeros, ratios = np.array([zeros for zeros, _ in networks]), np.array([ratio for _, ratio in networks])
    whole, by_layer = predicted(spec, 100), delta_ratios(spec, 100)
    assert "delta_norm_ratio" in whole or spec.width == 5
    assert whole.get("delta_norm_ratio") == by_layer[0] and by_layer[-1].value == 1.0
    for layer in range(zeros.shape[1]):
        told = predicted(spec, 100, layer + 1)
        assert ("sparsity" in told) == ACTIVATIONS[spec.activation].silent and "delta_norm_ratio" not in told
        if one := told.get("sparsity"):
            assert abs(zeros[:, layer].mean() - one.value) <= 4 * one.spread / math.sqrt(count) + one.slack
            assert zeros[:, layer].std() <= 1.5 * one.spread + one.slack
    for place, one in enumerate(by_layer[:-1]):
        if one is not None:
            tolerance = 4 * one.spread / math.sqrt(count) + one.slack
            alive = ratios[np.isfinite(ratios[:, place]), place]
            assert abs(math.log10(alive.mean() / one.value)) <= tolerance
            assert 0.15 * one.spread < np.log10(alive).std() <= 1.5 * one.spread
            assert tolerance < 0.3 or spec.width == 5, "a tolerance that tells something"


def test_delta_by_layer_where_the_first_leaves_float32():
    """Sigmoid through 20 layers: no ratio of the first layer, but those of later ones, each the smaller the earlier."""
    spec = make_spec(**GAUSSIAN, activation="sigmoid", init="xavier_normal", depth=20)
    known = [one.value for one in delta_ratios(spec, 784) if one is not None]
    assert "delta_norm_ratio" not in predicted(spec, 784) and 5 < len(known) < 20
    assert known == sorted(known) and known[-1] == 1.0
    assert delta_ratios(make_spec(**GAUSSIAN, norm="batch", depth=3), 784) == [None] * 3


# where theory says nothing


@pytest.mark.parametrize(
    "settings",
    [dict(norm="batch"), dict(model="autoencoder"), dict(activation="maxout"), dict(activation="crelu"), dict(init="identity"),
     dict(init="asymmetric"), dict(init="zeros"), dict(activation="mine.Bent"), dict(init_gain=0.0)],
    ids=str,
)  # fmt: skip
def test_no_theory_no_prediction(settings):
    assert predicted(replace(make_spec(**GAUSSIAN), **settings), 784) == {}


def test_what_is_not_known_is_not_guessed():
    told = predicted(make_spec(epochs=0, bias=0.5, input_scaling="raw"), 784)
    assert told == {}, "the mean square of raw inputs is not known"
    assert set(predicted(make_spec(epochs=0, input_scaling="raw"), None)) == {"sparsity"}, "but halves are, whatever it is"
    assert predicted(make_spec(epochs=0, bias=0.5), None) == {}, "nor is a layer's variance without its inputs"
    tiny = make_spec(**GAUSSIAN, depth=20, activation="sigmoid", init="lecun_normal")
    assert predicted(tiny, 784) == {} and predicted(replace(tiny, dtype="float64"), 784), "float32 has no such squares"
    assert predicted(make_spec(**GAUSSIAN, width=4, depth=8, bias=0.5), 784) == {}, "too narrow"
    assert predicted(make_spec(**GAUSSIAN, depth=30, bias=-1.0), 784) == {}, "collapsed"


# in the tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    words = ["width=64", "depth=3", "probe_size=200", "train_size=400", "seed=0,1,2,3", "bias=0,1"]
    out = tmp_path_factory.mktemp("theory") / "r"
    return run_study("single", [*words, "epochs=0", "activation=relu,tanh,maxout"], Options(out=out, processes=False)).folder


def test_a_report_at_initialisation_sets_theory_beside_it(folder):
    cells = report_on([folder], metrics=["sparsity", "delta_norm_ratio"]).ranking.cells.set_index(["activation", "bias"])
    relu = cells.loc[("relu", 1.0)]
    spec = make_spec(width=64, depth=3, bias=1.0, probe_size=200)
    assert relu["sparsity_predicted"] == pytest.approx(predicted(spec, 784)["sparsity"].value)
    assert relu["delta_norm_ratio_predicted"] == pytest.approx(predicted(spec, 784)["delta_norm_ratio"].value)
    assert not cells["sparsity_deviates"].eq(True).any() and not cells["delta_norm_ratio_deviates"].eq(True).any()
    assert np.isnan(cells.loc[("maxout", 0.0), "delta_norm_ratio_predicted"])
    found = report_on([folder], ["layer", "activation", "bias"], ["sparsity"])
    by_layer = found.ranking.cells.set_index(["activation", "bias", "layer"])["sparsity_predicted"]
    np.testing.assert_allclose(by_layer["relu"][1.0], expected(chain("relu", 2, 3, 1.0), 1).zeros, atol=1e-6)
    assert "theory %" in as_text(found.ranking).texts and any("theory is of" in remark for remark in found.ranking.remarks)
    assert "predicted" not in "".join(report_on([folder]).ranking.cells.columns), "accuracies have no theory"


def test_what_deviates_is_flagged(folder, monkeypatch):
    right = report_on([folder], ["activation", "bias"], ["delta_norm_ratio"])
    assert "deviates)" not in render(right.ranking, None, "table")
    monkeypatch.setattr(theory, "_mean_field", theory._mean_field.__wrapped__)  # nothing kept
    monkeypatch.setitem(VARIANCES, "he_normal", lambda fans, gain: 8 / fans.fan_in)  # as if weights were too small
    wrong = report_on([folder], ["activation", "bias"], ["delta_norm_ratio"])
    assert "(deviates)" in render(wrong.ranking, None, "table") and "(deviates)" in render(wrong.ranking, None, "markdown")
    (cell,) = [cell for cell in json.loads(render(wrong.ranking, None, "json"))["cells"]
               if (cell["activation"], cell["bias"]) == ("relu", 0)]  # fmt: skip
    assert cell["delta_norm_ratio_deviates"] is True and cell["delta_norm_ratio_predicted"] == pytest.approx(4.0)
    assert 0 < cell["delta_norm_ratio_tolerance"] < math.log10(4)


def test_predictions_of_any_study_are_at_its_epoch_0(tmp_path):
    words = ["width=64", "depth=2,4", "probe_size=200", "train_size=400", "seed=0,1", "activation=relu,tanh", "epochs=1"]
    results = load(run_study("single", words, Options(out=tmp_path / "r", processes=False)).folder)
    classes = {"mnist-12k": 10}
    found = predictions(at_start(results), ["activation", "depth"], "delta_norm_ratio", classes)
    assert len(found) == 4 and not found["deviates"].any() and set(found["seeds"]) == {2}
    layers = predictions(at_start(results, "layers"), ["activation", "depth", "layer"], "sparsity", classes)
    assert list(layers["predicted"].round(9)) == [0.5] * 6 and set(layers["activation"]) == {"relu"}
    assert predictions(results.runs, ["activation"], "delta_norm_ratio", classes).empty, "after training there is no theory"
    assert "delta_norm_ratio_predicted" not in report_on([tmp_path / "r"], metrics=["delta_norm_ratio"]).ranking.cells
    assert list(with_predictions(results.runs, ["sparsity"], classes)) == list(results.runs)


def test_networks_born_dead_are_counted(tmp_path):
    words = ["dataset=gaussian", "train_size=50", "epochs=0", "probe_size=1", "width=3", "depth=4", "seed=range(0,150)"]
    folder = run_study("single", words, Options(out=tmp_path / "r", processes=False)).folder
    (cell,) = report_on([folder], metrics=["born_dead_fraction"]).ranking.cells.to_dict("records")
    layers = load(folder).layers
    dead = layers.groupby("run_id")["dead_fraction"].max().eq(1).mean()
    assert cell[NETWORKS] == pytest.approx(dead) and cell[f"{NETWORKS}_predicted"] == pytest.approx(1 - (7 / 8) ** 4)
    assert cell[f"{NETWORKS}_tolerance"] == pytest.approx(4 * math.sqrt(0.41381836 * 0.58618164 / 150), rel=1e-5)
    assert cell[f"{NETWORKS}_deviates"] is False and cell["born_dead_fraction_deviates"] is False


def test_a_cells_tolerance_is_that_of_its_seeds():
    """Networks of one seed share their noise, so two depths of a seed are no more evidence than one."""
    rows = pd.DataFrame(
        {"seed": [0, 0, 1, 1], "sparsity_predicted": [0.4, 0.6, 0.4, 0.6], "sparsity_spread": 0.1, "sparsity_slack": 0.01}
    )
    told = compared(rows, "sparsity", 0.5)
    assert told["sparsity_predicted"] == pytest.approx(0.5) and told["sparsity_tolerance"] == pytest.approx(
        0.4 / math.sqrt(2) + 0.01
    )
    assert not told["sparsity_deviates"] and compared(rows, "sparsity", 0.9)["sparsity_deviates"]
    rows.loc[0, "sparsity_predicted"] = np.nan
    assert compared(rows, "sparsity", 0.5)["sparsity_deviates"] is None, "a mean of some is no prediction of all"
