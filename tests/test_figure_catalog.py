"""The page's figures: their numbers are brute-force arithmetic on the tables, and there is one for each name in the catalogue."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from actbench.base.errors import UserError
from actbench.figures import functions
from actbench.figures.catalog import figure, figure_names
from actbench.figures.export import inline_svg
from actbench.figures.judged import is_drawable
from actbench.results.columns import COLUMNS
from actbench.results.frames import Results
from actbench.study.spec import SETTINGS
from actbench.verdicts.curves import curve_of
from actbench.verdicts.intervals import interval
from actbench.verdicts.theory import delta_ratios, predicted
from tests.conftest import make_spec

META = {"study": {"name": "made up", "report_by": []}, "datasets": {"mnist-12k": {"classes": 10, "test": 2000, "majority": 0.1}}}
DEAD = ("dead_fraction", "born_dead_fraction", "died_fraction", "revived_fraction")


def study(report_by=(), evaluations=(0, 1, 2), **axes) -> Results:
    """Made-up results of a sweep: settings as a study would make them, random figures at each evaluation and layer."""
    rng = np.random.default_rng(len(axes))
    axes = {"seed": range(5), **axes}
    tables: dict[str, list[dict]] = {name: [] for name in COLUMNS}
    for values in itertools.product(*axes.values()):
        spec = make_spec(**dict(zip(axes, values, strict=True)))
        key = {name: getattr(spec, name) for name in COLUMNS["history"] if name in SETTINGS}
        key = {"run_id": spec.run_id, **key}
        can_die = spec.activation in ("relu", "hard_sigmoid", 'mine.Odd<b>&"name"')
        for epoch in evaluations:
            for table, layers in (("history", (None,)), ("layers", range(1, spec.depth + 1))):
                for layer in layers:
                    row = {name: rng.uniform(0.1, 0.9) for name in COLUMNS[table] if name not in (*key, "session")}
                    row |= dict.fromkeys(DEAD, 0.0) if not can_die else {}
                    row |= {"epoch": epoch, "step": 10 * epoch, "units": spec.width}
                    row |= {} if layer is None else {"layer": layer}
                    tables[table].append({**key, **row})
        last = tables["history"][-1]
        settings = {name: getattr(spec, name) for name in SETTINGS}
        figures = {name: last[name] for name in COLUMNS["runs"] if name in last and name not in key}
        born = {
            "epochs_to_25": rng.uniform(1, 2),
            "parameters": 63370,
            "evaluations": len(evaluations),
            "steps": 20,
            "seconds": 0.1,
            "session": 1,
            "error": None,
        }
        tables["runs"].append({"run_id": spec.run_id, **settings, **figures, **born, "status": "completed"})
    frames = {name: pd.DataFrame(rows).reindex(columns=COLUMNS[name]) for name, rows in tables.items()}
    return Results(**frames, meta=[{**META, "study": {"name": "made up", "report_by": list(report_by)}}])


def built(results: Results, trial=None) -> dict[str, object]:
    """All figures by name; each has a title, a text and figures, and can be drawn."""
    found = {name: figure(results, name, trial) for name in figure_names(results, trial)}
    for name, one in found.items():
        assert one.name == name and one.title and one.text and len(one.data), name
        assert not one.title.endswith(" ") and "nan" not in one.text.lower(), one.text
    return found


@pytest.fixture(scope="module")
def two() -> Results:
    return study(activation=["relu", "tanh"], depth=[1, 3], bias=[-1.0, 0.0], lr=[0.01, 0.1])


@pytest.fixture(scope="module")
def one_rate() -> Results:
    """Nothing is chosen: brute force is a plain mean."""
    return study(activation=["relu", "tanh"], depth=[2, 3])


def test_names_of_a_study(two):
    names = figure_names(two)
    wanted = ["ranking", "accuracy_by_epoch", "loss_by_epoch", "dead_by_epoch", "grad_norm_by_layer", "delta_by_layer",
              "activations", "unit_life", "accuracy_by_lr", "predicted"]  # fmt: skip
    assert [name for name in names if "_and_" not in name] == wanted
    pairs = {frozenset(name.partition("_by_")[2].split("_and_")) for name in names if "_and_" in name}
    assert pairs == {frozenset(pair) for pair in itertools.combinations(("activation", "depth", "bias", "lr"), 2)}
    assert len(names) == len(set(names)) == len(wanted) + 12


@pytest.mark.parametrize("which", ["one_rate", pytest.param("two", marks=pytest.mark.slow)])
def test_every_name_has_a_figure_that_can_be_drawn(which, request):
    for name, one in built(request.getfixturevalue(which)).items():
        drawn = inline_svg(one)
        assert len(drawn) < 25_000, name
        assert drawn.startswith("<svg") and "NaN" not in drawn, name


def test_an_unknown_figure_names_the_nearest(two):
    with pytest.raises(UserError, match="'acuracy_by_epoch' is not known; did you mean 'accuracy_by_epoch'"):
        figure(two, "acuracy_by_epoch")
    with pytest.raises(UserError, match="is not known"):
        figure(two, "dead_by_activation_and_width")


def test_heat_maps_take_their_axes_in_either_order(two):
    one, other = figure(two, "dead_by_bias_and_depth"), figure(two, "dead_by_depth_and_bias")
    assert one.name == other.name and one.data.equals(other.data)


def test_the_first_heat_map_is_the_grid_of_the_report(two):
    from actbench.report.stats import dead_grid

    grid = dead_grid(two.runs)
    first = next(name for name in figure_names(two) if name.startswith("dead_by_") and "_and_" in name)
    assert set(first.removeprefix("dead_by_").split("_and_")) == {grid.index.name, grid.columns.name}


@pytest.mark.parametrize(
    ("name", "metric", "times"),
    [("accuracy_by_epoch", "test_accuracy", 100), ("loss_by_epoch", "train_loss", 1), ("dead_by_epoch", "dead_fraction", 100)],
)
def test_curves_are_means_over_seeds(one_rate, name, metric, times):
    data = figure(one_rate, name).data
    assert len(data) == 2 * 2 * 3
    for row in data.to_dict("records"):
        some = one_rate.history[
            (one_rate.history["activation"] == row["activation"]) & (one_rate.history["depth"] == row["depth"])
            & (one_rate.history["epoch"] == row["epoch"])
        ]  # fmt: skip
        mean, low, _ = interval(some[metric].to_numpy(), metric)
        column = next(key for key in row if key not in ("activation", "depth", "epoch", "low", "high", "seeds"))
        assert row[column] == pytest.approx(times * mean, rel=1e-3, abs=1e-9)
        if mean:
            assert row["low"] == pytest.approx(times * low, rel=1e-3)


def test_time_is_counted_in_steps_where_epochs_are_not_known(one_rate):
    """As in the tables of a probe that was not told how many steps an epoch has."""
    by_step = replace(one_rate, history=one_rate.history.assign(epoch=np.nan))
    known, data = (figure(results, "accuracy_by_epoch").data for results in (one_rate, by_step))
    steps = one_rate.history[["epoch", "step"]].drop_duplicates().set_index("epoch")["step"]
    assert "epoch" not in data and list(data["step"]) == list(known["epoch"].map(steps))
    assert list(data["Test accuracy (%)"]) == list(known["Test accuracy (%)"])


def test_curves_are_at_the_chosen_rate(two):
    """Each seed at the rate that the other half of the seeds chose, by validation accuracy."""
    data = figure(two, "accuracy_by_epoch").data
    axes = [name for name in ("activation", "depth", "bias") if name in data]
    pooled = [name for name in ("activation", "depth", "bias") if name not in data]
    runs = two.runs
    cell_axes = ["activation", "depth", "bias"]
    kept = []
    for _, cell in runs.groupby(cell_axes):
        for half in (0, 1):
            choosers = cell[cell["seed"] % 2 != half].groupby("lr")["validation_accuracy"].mean()
            kept += list(cell[(cell["seed"] % 2 == half) & (cell["lr"] == choosers.idxmax())]["run_id"])
    last = two.history[(two.history["epoch"] == 2) & two.history["run_id"].isin(kept)]
    wanted = last.groupby([*axes, "seed"])["test_accuracy"].mean().groupby(axes).mean()
    assert pooled and len(data[data["epoch"] == 2]) == len(wanted)
    for row in data[data["epoch"] == 2].to_dict("records"):
        assert row["Test accuracy (%)"] == pytest.approx(100 * wanted[tuple(row[axis] for axis in axes)], rel=1e-3)


def test_heat_maps_are_means(one_rate):
    data = figure(one_rate, "accuracy_by_activation_and_depth").data
    wanted = one_rate.runs.groupby(["activation", "depth"])["test_accuracy"].mean()
    assert len(data) == 4
    for row in data.to_dict("records"):
        assert row["Test accuracy (%)"] == pytest.approx(100 * wanted[row["activation"], row["depth"]], rel=1e-3)


def test_gradients_by_layer_at_the_end(one_rate):
    data = figure(one_rate, "grad_norm_by_layer").data
    last = one_rate.layers[one_rate.layers["epoch"] == 2]
    wanted = last.groupby(["activation", "depth", "layer"])["grad_norm"].mean()
    assert len(data) == len(wanted)
    for row in data.to_dict("records"):
        assert row["Gradient norm"] == pytest.approx(wanted[row["activation"], row["depth"], row["layer"]], rel=1e-3)


def test_delta_by_layer_is_of_the_start_and_over_the_last_layer(one_rate):
    one = figure(one_rate, "delta_by_layer")
    start = one_rate.layers[one_rate.layers["epoch"] == 0]
    wide = start.pivot_table(index=["activation", "depth", "seed"], columns="layer", values="delta_norm")
    for row in one.data.to_dict("records"):
        some = wide.loc[row["activation"], row["depth"]]
        assert row["Norm of δ"] == pytest.approx((some[row["layer"]] / some[row["depth"]]).mean(), rel=1e-3)
    spec = make_spec(activation="tanh", depth=3)
    told = one.data[(one.data["activation"] == "tanh") & (one.data["depth"] == 3)].set_index("layer")["theory"]
    assert list(told) == pytest.approx([found.value for found in delta_ratios(spec, 784)])
    assert "Dotted" in one.text and "before any step" in one.text and "last evaluation" not in one.text


def test_unit_life_by_layer(one_rate):
    one = figure(one_rate, "unit_life")
    last = one_rate.layers[(one_rate.layers["epoch"] == 2) & (one_rate.layers["activation"] == "relu")]
    deep = last[last["depth"] == 3]
    names = {"born dead": DEAD[1], "died since": DEAD[2], "revived": DEAD[3], "dead at the end": DEAD[0]}
    assert set(one.data["fate"]) == set(names) and len(one.data) == 4 * 3
    for row in one.data.to_dict("records"):
        wanted = deep[deep["layer"] == row["layer"]][names[row["fate"]]].mean()
        assert row["Dead units (%)"] == pytest.approx(100 * wanted, rel=1e-3)
    assert "tanh cannot have dead units" in one.text and "depth 3" in one.text


def test_unit_life_is_of_the_deepest_networks_that_can_have_dead_units(two):
    runs, layers = two.runs, two.layers
    deep = set(runs.loc[(runs["activation"] == "relu") & (runs["depth"] == 3), "run_id"])
    left = Results(
        runs[~runs["run_id"].isin(deep)].reset_index(drop=True),
        two.history[~two.history["run_id"].isin(deep)],
        layers[~layers["run_id"].isin(deep)],
        two.meta,
    )
    one = figure(left, "unit_life")
    assert "depth 1" in one.text and set(one.data["layer"]) == {1}


def test_rates_that_are_chosen_and_that_work():
    results = study(activation=["relu", "tanh"], lr=[0.001, 0.01, 0.1, 1.0])
    level = {0.001: 0.5, 0.01: 0.895, 0.1: 0.9, 1.0: 0.93}
    noise = results.runs["seed"] / 1e4
    results.runs["validation_accuracy"] = results.runs["lr"].map(level) + noise
    bad = (results.runs["lr"] == 1.0) & (results.runs["seed"] == 0)
    results.runs.loc[bad, ["status", "validation_accuracy", "test_accuracy"]] = ["diverged", np.nan, np.nan]
    data = figure(results, "accuracy_by_lr").data
    for name in ("relu", "tanh"):
        some = data[data["activation"] == name].set_index("lr")
        assert list(some.index[some["chosen"]]) == [0.1], "a rate at which some network diverges is not chosen"
        assert list(some.index[some["works"]]) == [0.01, 0.1], "within a point of the best, and no network diverged"
        assert some.loc[0.01, "Validation accuracy (%)"] == pytest.approx(89.52, abs=0.01)


def test_ranking_is_the_reports(two):
    from actbench.report.stats import ranking

    one, cells = figure(two, "ranking"), ranking(two.runs).cells
    assert len(one.data) == len(cells) == 8
    assert list(one.data["mean"]) == pytest.approx(list(100 * cells["test_accuracy"]), rel=1e-3)
    assert one.data["mean"].is_monotonic_decreasing and "best lr" in one.text and "guessing (10 %)" in one.text


def test_a_long_ranking_is_cut_and_says_so():
    one = figure(study(activation=["relu", "tanh"], width=range(4, 24), seed=[0, 1]), "ranking")
    assert len(one.data) == 30 and "best 25 and the last 5 of 40 cells" in one.text
    assert one.data["mean"].is_monotonic_decreasing


def test_predictions_are_theorys():
    results = study(activation=["relu", "tanh"], depth=[2, 8])
    starts = results.history["epoch"] == 0
    results.history.loc[starts, "sparsity"] = 0.5
    results.history.loc[starts & (results.history["depth"] == 8), "delta_norm_ratio"] = 20.0
    results.history.loc[starts & (results.history["depth"] == 2), "delta_norm_ratio"] = 1.0
    one = figure(results, "predicted")
    rows = one.data.set_index(["metric", "cell"])
    for activation, depth in itertools.product(("relu", "tanh"), (2, 8)):
        told = predicted(make_spec(activation=activation, depth=depth), 784)
        row = rows.loc["delta_norm_ratio", f"{activation}, depth {depth}"]
        assert row["predicted"] == pytest.approx(told["delta_norm_ratio"].value, rel=1e-3)
        assert bool(row["deviates"]) is (depth == 8)
    assert set(rows.loc["sparsity"].index) == {"relu, depth 2", "relu, depth 8"}
    assert "2 of 6 figures deviate" in one.text


# what is not there


@pytest.mark.parametrize(
    ("axes", "without"),
    [
        (dict(seed=[0]), ("_and_", "accuracy_by_lr", "predicted_")),
        (dict(seed=[0], depth=[1]), ("by_layer",)),
        (dict(activation=["tanh", "gelu"]), ("dead_by_a", "unit_life", "_and_")),
        (dict(lr=[0.01, 0.1]), ("_and_",)),
        (dict(evaluations=(0,), epochs=[0], activation=["relu", "tanh"]), ("by_epoch",)),
        (dict(activation=["maxout"], seed=[0, 1]), ("activations", "predicted")),
    ],
    ids=["one network", "one layer", "nothing can die", "rates only", "no epochs", "no curve"],
)  # fmt: skip
def test_figures_with_nothing_to_show_are_left_out(axes, without):
    found = built(study(**axes))
    assert found
    assert not [name for name in found for part in without if part in name]


def test_an_autoencoder_has_no_accuracy():
    results = study(activation=["relu", "tanh"], model=["autoencoder"], depth=[3], lr=[0.01, 0.1])
    for table in (results.runs, results.history):
        table[[name for name in table if name.endswith("accuracy")]] = np.nan
    found = built(results)
    assert "loss_by_epoch" in found and not [
        name for name in found if name.startswith("accuracy_by") and name != "accuracy_by_lr"
    ]
    assert "Validation loss" in found["accuracy_by_lr"].title and found["ranking"].title.startswith("Test loss")


def test_names_of_ones_own_are_escaped():
    name = 'mine.Odd<b>&"name"'
    results = study(activation=["relu", "tanh"], depth=[2], seed=[0, 1])
    for table in (results.runs, results.history, results.layers):
        table["activation"] = table["activation"].replace({"relu": name})
    results.runs.loc[results.runs["activation"] == name, "activation_checksum"] = "ab" * 32
    for one in built(results).values():
        drawn = inline_svg(one)
        assert "<b>" not in drawn and "&lt;b&gt;" in drawn + "&lt;b&gt;" * (name not in str(one.data))
    assert f"Not drawn: {name}" in figure(results, "activations").text


def test_unfinished_folders_and_failures():
    results = study(activation=["relu", "tanh"], depth=[2, 3], lr=[0.01, 0.1])
    runs = results.runs
    failed = runs.index[(runs["activation"] == "tanh") & (runs["depth"] == 3)]
    gone = [*runs.index[:3], *failed]
    for name in [column for column in runs if column in COLUMNS["history"] and column not in (*SETTINGS, "run_id")]:
        runs.loc[failed, name] = np.nan
    runs.loc[failed, "status"], runs.loc[failed, "error"] = "failed", "<script>alert(1)</script>"
    names = set(runs.loc[gone, "run_id"])
    left = Results(
        runs.drop(index=runs.index[:3]).reset_index(drop=True),
        *(table[~table["run_id"].isin(names)].reset_index(drop=True) for table in (results.history, results.layers)),
        results.meta,
    )
    found = built(left)
    assert "no network here" in found["dead_by_activation_and_depth"].text if "dead_by_activation_and_depth" in found else True
    nothing = Results(runs[runs["status"] == "failed"], left.history[:0], left.layers[:0], left.meta)
    assert figure_names(nothing) == []
    for name in ("ranking", "no such"):
        with pytest.raises(UserError, match="no network has a result yet"):
            figure(nothing, name)


def test_of_networks_that_all_diverged_what_is_named_can_be_drawn():
    results = study(activation=["relu", "tanh"], depth=[2], lr=[0.1, 1.0])
    late = results.layers["epoch"] > 0
    results.runs["status"] = "diverged"
    results.layers.loc[late, [name for name in results.layers if name.endswith(("_norm", "_fraction"))]] = np.nan
    assert "grad_norm_by_layer" not in built(results), "there is none at the end"
    with pytest.raises(UserError, match=r"nothing to show in it of these results; there are .*delta_by_layer"):
        figure(results, "grad_norm_by_layer")


def test_many_values_are_thinned_and_it_is_said():
    results = study(activation=["tanh"], width=range(4, 44, 4), seed=[0, 1], evaluations=range(130))
    one = figure(results, "accuracy_by_epoch")
    assert one.data["width"].nunique() == 8 and "8 of 10 values of width" in one.text
    assert {0, 129} <= set(one.data["epoch"]) and len(one.data) <= 900
    assert {4, 40} <= set(one.data["width"])
    assert len(inline_svg(one)) < 40_000


# functions


def test_functions_are_drawn_as_they_are():
    for name in ("relu", "gelu", "tanh", "hard_sigmoid", "relu_squared"):
        one = functions.known_function(name, {})
        value, slope = curve_of(name, {})
        frame = functions.activation_functions([one]).chart.data
        for kind, truth in (("φ", value), ("φ′", slope)):
            line = frame[frame["kind"] == kind]
            inner = one.z[(np.abs(truth(one.z)) < 2 * functions.REACH)]
            assert np.abs(np.interp(inner, line["z"], line["value"]) - truth(inner)).max() < 0.02
            assert len(line) < 60, "points that a line does not need are left out"


def test_where_pre_activations_fell(one_rate):
    data = figure(one_rate, "activations").data
    layers = one_rate.layers
    for row in data.to_dict("records"):
        some = layers[(layers["activation"] == row["activation"]) & (layers["epoch"] == (0 if row["when"] == "start" else 2))]
        assert row["middle"] == pytest.approx(some["preactivation_mean"].median(), abs=1e-3)
        assert row["high"] - row["middle"] == pytest.approx(some["preactivation_std"].median(), abs=2e-3)
    assert len(data) == 4


# trials


def a_trial(results: Results, *, networks: bool = True) -> dict:
    """Two claims of relu against tanh, a fact and a timing, as verdicts.json has them."""
    runs = results.runs

    def of(activation: str, lr: float, seeds) -> list[str]:
        mask = (runs["activation"] == activation) & (runs["lr"] == lr) & runs["seed"].isin(seeds)
        return list(runs.loc[mask, "run_id"])

    def arm(side: str, name: str, lr: float) -> dict:
        found = {"side": side, "name": name, "mean": 0.9, "tuned": {"lr": lr}, "at_edge": [], "widened": 0, "beside": {}}
        return {**found, "networks": of(name, lr, range(3)), "tuning": of(name, lr, (1000, 1001))} if networks else found

    failed = {"treatment": 0, "control": 1, "of": 3}
    figures = {"effect": 0.03, "low": 0.01, "high": 0.05, "seeds": 3, "failed": failed}
    part = {"name": "", "settings": {}, "judged": True, "verdict": "supported", **figures, "margin": 0.01, "unit": "fraction",
            "level": 0.0015, "arms": [arm("treatment", "relu", 0.1), arm("control", "tanh", 0.01)]}  # fmt: skip
    none = {"effect": None, "low": None, "high": None}
    by_failure = {**part, **none, "name": "deep", "verdict": "refuted"}
    score = {"id": "mine<b>", "claim": "<script>alert(1)</script> relu is better.", "source": "me", "kind": "difference",
             "fact": False, "verdict": "supported", "sentence": "Relu reached 90 %, tanh 87 %:", "metric": "test_accuracy",
             "better": "higher", "margin": 0.01, "unit": "fraction", **figures, "conditions": [part]}  # fmt: skip
    deep = {**score, **none, "id": "deep", "claim": "Deep ones, too.", "verdict": "mixed", "conditions": [part, by_failure]}
    same = {**score, "id": "same", "kind": "equivalence", "margin": 0.5, "claim": "Relu is like tanh."}
    ratio = {**score, "id": "soon", "kind": "ratio", "unit": "ratio", "margin": 1.2, "metric": "epochs_to_25", "effect": 1.5,
             "low": 1.1, "high": 2.0, "conditions": [{**part, "effect": 1.5, "low": 1.1, "high": 2.0}]}  # fmt: skip
    expected = [("mean(sparsity, activation=relu) > 0.45", "pass", 0.5), ("max(sparsity, activation=tanh) == 0", "fail", 0.1)]
    fact = {**score, **none, "id": "zeros", "kind": "fact", "fact": True, "verdict": "fails", "unit": "", "margin": None, "seeds": None,
            "conditions": [{"expression": text, "outcome": outcome, "value": value, "low": None, "high": None, "seeds": 3}
                           for text, outcome, value in expected],
            "theory": [{"metric": "sparsity", "settings": {"activation": "relu"}, "measured": 0.5, "predicted": 0.5,
                        "tolerance": 0.1, "deviates": False}]}  # fmt: skip
    times = {"ratio": 1.3, "low": 1.2, "high": 1.4, "function_ratio": 2.0, "function_low": 1.9, "function_high": 2.1}
    timing = {**score, "id": "cheap", "kind": "timing", "fact": True, "verdict": "holds", "unit": "ratio", "margin": 1.1, "effect": 1.3,
              "low": 1.2, "high": 1.4, "conditions": [], "timing": times}  # fmt: skip
    undecided = {**score, **none, "id": "open", "verdict": "undecided", "conditions": [], "failed": None, "seeds": None}
    return {"claims": [score, deep, same, ratio, fact, timing, undecided], "quick": False}


@pytest.fixture(scope="module")
def tried() -> Results:
    return study(activation=["relu", "tanh"], lr=[0.01, 0.1, 1.0], seed=[0, 1, 2, 1000, 1001])


def test_names_of_a_trial(tried):
    trial = a_trial(tried)
    names = figure_names(tried, trial)
    assert names[0] == "verdicts" and names[-2:] == ["activations", "predicted"]
    kinds = {
        claim["id"]: [name.partition("_")[0] for name in names if name.endswith(f"_{claim['id']}")] for claim in trial["claims"]
    }
    whole = ["claim", "curves", "rates"]
    assert kinds == {
        "mine<b>": whole,
        "deep": whole,
        "same": whole,
        "soon": whole,
        "zeros": ["claim"],
        "cheap": ["claim"],
        "open": [],
    }
    assert "accuracy_by_epoch" not in names, "which would pool networks of unlike claims"


@pytest.mark.slow
def test_every_figure_of_a_trial_can_be_drawn(tried):
    for one in built(tried, a_trial(tried)).values():
        drawn = inline_svg(one)
        assert "<script" not in drawn and "<b>" not in drawn and "NaN" not in drawn


def test_verdicts_of_an_earlier_file_have_no_curves(tried):
    trial = json.loads(json.dumps(a_trial(tried, networks=False)))
    assert not [name for name in figure_names(tried, trial) if name.startswith(("curves_", "rates_"))]
    built(tried, trial)


def test_verdicts_tell_every_claim(tried):
    one = figure(tried, "verdicts", a_trial(tried))
    rows = one.data.set_index("claim")
    assert len(rows) == 7
    assert rows.loc["mine<b>", ["effect", "low", "high", "margin", "unit"]].tolist() == [3.0, 1.0, 5.0, 1.0, "points"]
    assert rows.loc["soon", "effect"] == 1.5 and math.isnan(rows.loc["deep", "effect"])
    assert "3 supported, 1 mixed, 1 undecided, 1 holds, 1 fails" in one.text


def test_a_claims_conditions(tried):
    one = figure(tried, "claim_deep", a_trial(tried))
    effects = list(one.data["effect"])
    assert effects[0] == 3.0 and math.isnan(effects[1])
    assert "failed 0 against 1 of 3" in one.data["condition"][1] and one.text.startswith("Relu reached 90 %, tanh 87 %: mixed.")


def test_curves_of_arms_are_those_of_the_seeds_that_judged(tried):
    data = figure(tried, "curves_mine<b>", a_trial(tried)).data
    history = tried.history
    for row in data.to_dict("records"):
        lr = {"relu": 0.1, "tanh": 0.01}[row["arm"]]
        some = history[(history["activation"] == row["arm"]) & (history["lr"] == lr) & (history["epoch"] == row["epoch"])]
        wanted = some[some["seed"] < 1000]["test_accuracy"].mean()
        assert row["Test accuracy (%)"] == pytest.approx(100 * wanted, rel=1e-3)
    assert len(data) == 2 * 3


def test_rates_of_arms_are_those_of_the_tuning_seeds(tried):
    data = figure(tried, "rates_mine<b>", a_trial(tried)).data
    assert {(row["arm"], row["lr"]) for row in data.to_dict("records") if row["chosen"]} == {("relu", 0.1), ("tanh", 0.01)}
    tuning = tried.runs[tried.runs["seed"] >= 1000].groupby(["activation", "lr"])["validation_accuracy"].mean()
    assert len(data) == len(tuning) == 6
    for row in data.to_dict("records"):
        assert row["Validation accuracy (%)"] == pytest.approx(100 * tuning[row["arm"], row["lr"]], rel=1e-3)


def test_verdicts_of_another_form_are_not_drawn(tried):
    trial = a_trial(tried)
    assert is_drawable(trial) and is_drawable(a_trial(tried, networks=False)) and is_drawable({"claims": []})
    for claim, changes in (
        (0, dict(conditions="x")), (0, dict(effect="1")), (0, dict(verdict="nonsense")), (0, dict(margin=None)), (0, dict(id="deep")),
        (0, dict(conditions=[{**trial["claims"][0]["conditions"][0], "arms": [{"name": "relu"}]}])), (0, dict(failed={"of": 3})),
        (4, dict(conditions=[{}])), (4, dict(theory=[{"metric": 1}])), (4, dict(beside=[1])), (5, dict(timing={"ratio": "1"})),
    ):  # fmt: skip
        broken = {"claims": [*trial["claims"]]}
        broken["claims"][claim] = {**trial["claims"][claim], **changes}
        assert not is_drawable(broken), changes
    for name in ("sentence", "effect", "conditions", "kind"):
        assert not is_drawable({"claims": [{key: value for key, value in trial["claims"][0].items() if key != name}]}), name
