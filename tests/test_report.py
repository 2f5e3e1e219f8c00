"""The report's statistics on tables whose answer is known by hand, and its formats."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from actbench.base.errors import UserError
from actbench.report.render import FORMATS, render
from actbench.report.stats import dead_grid, importance, interval, ranking
from actbench.study.spec import SETTINGS
from tests.conftest import make_spec

FIGURES = ("accuracy", "loss")


def table(rows) -> pd.DataFrame:
    """runs from (settings, accuracy, dead, status)."""
    made = []
    for settings, accuracy, dead, status in rows:
        spec = make_spec(**settings)
        row = {name: getattr(spec, name) for name in SETTINGS}
        made.append({**row, "run_id": spec.run_id, "test_accuracy": accuracy, "dead_fraction": dead, "born_dead_fraction": dead / 2,
                     "validation_accuracy": accuracy, "train_accuracy": accuracy, "train_loss": 1 - accuracy, "status": status})  # fmt: skip
    return pd.DataFrame(made)


@pytest.fixture
def runs():
    rows = []
    for activation, base in (("relu", 0.8), ("tanh", 0.7)):
        for lr, gain in ((0.1, 0.0), (1.0, 0.1)):
            for seed in range(3):
                wild = activation == "tanh" and lr == 1.0 and seed == 0
                rows.append((dict(activation=activation, lr=lr, seed=seed), np.nan if wild else base + gain + seed / 100,
                             np.nan if wild else 0.5 * (activation == "relu") * lr, "diverged" if wild else "completed"))  # fmt: skip
    return table(rows)


def test_cells_are_judged_at_their_best_rate_with_an_interval_over_seeds(runs):
    cells = ranking(runs).cells.set_index("activation")
    assert list(cells.index) == ["relu", "tanh"]
    assert cells.loc["relu", "lr"] == 1.0
    assert cells.loc["tanh", "lr"] == 0.1, "a rate at which a seed diverges is not the best"
    relu = cells.loc["relu"]
    half = 4.302653 * 0.01 / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert (relu["test_accuracy"], relu["test_accuracy_low"], relu["test_accuracy_high"]) == pytest.approx(
        (0.91, 0.91 - half, 0.91 + half)
    )
    assert relu["dead"] == 0.5 and relu["born_dead"] == 0.25 and relu["diverged"] == 0 and relu["seeds"] == 3


def test_baseline_is_paired_by_seed(runs):
    cells = ranking(runs, baseline="relu").cells.set_index("activation")
    tanh = cells.loc["tanh"]
    assert tanh["difference"] == pytest.approx(-0.2) and np.isnan(tanh["difference_low"]), "all differ by as much: no width"
    assert np.isnan(cells.loc["relu", "difference"])


def test_diverged_share_is_told(runs):
    cells = ranking(runs, ["activation", "lr"]).cells.set_index(["activation", "lr"])
    assert cells.loc[("tanh", 1.0), "diverged"] == pytest.approx(1 / 3)
    assert cells.loc[("tanh", 1.0), "test_accuracy"] == pytest.approx((0.1 + 0.81 + 0.82) / 3), "who diverged guesses"


def test_seeds_are_the_unit_of_replication():
    """Two depths of the same seed are not two independent networks: they are averaged first."""
    rows = [
        (dict(depth=depth, seed=seed), 0.5 + seed / 10 + depth / 100, 0.0, "completed") for depth in (1, 2, 3) for seed in (0, 1)
    ]
    (row,) = ranking(table(rows), ["activation"]).cells.to_dict("records")
    assert row["test_accuracy"] == pytest.approx(0.57)
    half = 12.7062 * np.std([0.52, 0.62], ddof=1) / np.sqrt(2) / (0.57 * 0.43)  # Student's t of the logit
    assert np.log(row["test_accuracy_high"] / (1 - row["test_accuracy_high"])) == pytest.approx(
        np.log(0.57 / 0.43) + half, rel=1e-4
    )


def test_interval():
    assert interval(np.array([1.0, 2, 3, np.nan])) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), rel=1e-5)
    assert interval(np.array([1.0]))[0] == 1 and np.isnan(interval(np.array([1.0]))[1])


def test_grid_is_over_the_axes_that_matter_most():
    rows = [(dict(activation=a, lr=lr, depth=d, seed=s), 0.5, 0.3 * (a == "relu") + lr / 2, "completed")
            for a in ("relu", "tanh") for lr in (0.1, 0.2, 0.9) for d in (2, 3) for s in (0, 1)]  # fmt: skip
    grid = dead_grid(table(rows))
    assert {grid.index.name, grid.columns.name} == {"activation", "lr"}
    assert grid.loc[0.9, "relu"] == pytest.approx(0.75)
    assert list(importance(table(rows), "dead_fraction").index[:2]) == ["lr", "activation"]


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format, runs):
    text = render(ranking(runs, baseline="relu"), dead_grid(runs), format)
    assert "relu" in text and "tanh" in text and "\x1b" not in text
    if format == "csv":
        assert len(pd.read_csv(io.StringIO(text))) == 2
    if format == "json":
        cells = json.loads(text)["cells"]
        assert cells[0]["test_accuracy"] == pytest.approx(0.91)
    if format == "markdown":
        assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(by=["activatoin"]), "'activation'"),
        (dict(metrics=["acuracy"]), "acuracy"),
        (dict(baseline="gelu"), "gelu"),
        (dict(metrics=["status"]), "status"),
    ],
)
def test_mistakes(arguments, word, runs):
    with pytest.raises(UserError, match=word):
        ranking(runs, **arguments)


def test_counts_of_seeds_are_whole_numbers():
    runs = table([(dict(bias=b, seed=s), 0.5, 0.0, "completed") for b in (-1.0, 1.0) for s in (0, 1)])
    assert render(ranking(runs), None, "markdown").splitlines()[-1].endswith("| 2 |")


def test_all_networks_diverged():
    runs = table([(dict(seed=s, lr=lr), np.nan, np.nan, "diverged") for s in (0, 1) for lr in (0.1, 1.0)])
    for format in FORMATS:
        assert render(ranking(runs), dead_grid(runs), format)


def measured(*networks, **common) -> pd.DataFrame:
    """runs from (settings, columns) of completed networks; what is not told is empty, and validation figures are as the test's."""
    made = []
    for settings, columns in networks:
        spec = make_spec(**{**common, **settings})
        row = {name: getattr(spec, name) for name in SETTINGS}
        empty = dict.fromkeys(("test_accuracy", "test_loss", "dead_fraction", "born_dead_fraction"), np.nan)
        alike = {f"{split}_{kind}": columns.get(f"test_{kind}", np.nan) for split in ("validation", "train") for kind in FIGURES}
        made.append({**row, "run_id": spec.run_id, "status": "completed", **empty, **alike, **columns})
    return pd.DataFrame(made)


def test_the_first_metric_ranks():
    runs = measured(
        (dict(activation="relu", lr=0.1), dict(test_accuracy=0.9, dead_fraction=0.2)),
        (dict(activation="relu", lr=0.2), dict(test_accuracy=0.7, dead_fraction=0.5)),
        (dict(activation="tanh", lr=0.1), dict(test_accuracy=0.6, dead_fraction=0.3)),
    )
    for metrics in ("test_accuracy dead_fraction", "dead_fraction test_accuracy"):
        result = ranking(runs, metrics=metrics.split())
        assert list(result.cells["activation"]) == ["relu", "tanh"] and result.cells["lr"][0] == 0.1
        assert result.metrics == metrics.split() and result.by == ["activation"]
    losses = ranking(runs.assign(train_loss=[2.0, 3.0, 4.0]), metrics=["train_loss", "dead_fraction"]).cells
    assert list(losses["train_loss"]) == [2.0, 4.0]
    by_rate = ranking(runs, ["activation", "lr"], ["test_accuracy", "dead_fraction"]).cells
    assert list(by_rate["test_accuracy"]) == [0.9, 0.7, 0.6]


def test_of_losses_and_times_the_smallest_is_best():
    for metric in ("train_loss", "test_loss", "seconds", "epochs_to_10"):
        runs = measured((dict(activation="relu"), {metric: 2.0}), (dict(activation="tanh"), {metric: 1.0}))
        assert list(ranking(runs, metrics=[metric]).cells[metric]) == [1.0, 2.0], metric


def test_epochs_to_an_error_have_no_mean_where_a_network_never_came_to_it():
    runs = measured(
        (dict(activation="relu", seed=0), dict(epochs_to_10=1.0, train_loss=1.0)),
        (dict(activation="relu", seed=1), dict(epochs_to_10=np.nan, train_loss=np.nan)),
        (dict(activation="tanh", seed=0), dict(epochs_to_10=4.0, train_loss=3.0)),
        (dict(activation="tanh", seed=1), dict(epochs_to_10=6.0, train_loss=5.0)),
    )
    cells = ranking(runs, metrics=["epochs_to_10", "train_loss"]).cells.set_index("activation")
    assert list(cells.index) == ["tanh", "relu"]
    assert (
        cells.loc["tanh", "epochs_to_10"] == 5.0
        and np.isnan(cells.loc["relu", ["epochs_to_10", "epochs_to_10_low"]].astype(float)).all()
    )
    assert cells.loc["relu", "train_loss"] == 1.0, "other metrics are means of what is there"
    # pooled over depths, one of which never came to it
    pooled = measured(
        *(
            (dict(depth=depth, seed=seed), dict(epochs_to_10=np.nan if depth == 3 and seed else 2.0))
            for depth in (2, 3)
            for seed in (0, 1)
        )
    )
    assert np.isnan(ranking(pooled, ["activation"], ["epochs_to_10"]).cells["epochs_to_10"][0])


def test_bounds_of_an_interval_keep_to_what_a_metric_can_be():
    runs = measured(
        *((dict(seed=seed), dict(test_accuracy=value, train_loss=value, sparsity=value)) for seed, value in enumerate((0.1, 0.9)))
    )
    cells = ranking(runs, metrics=["test_accuracy", "train_loss", "sparsity"]).cells
    for metric in ("test_accuracy", "sparsity"):
        assert 0 < cells[f"{metric}_low"][0] < 1e-6 and 1 - 1e-6 < cells[f"{metric}_high"][0] < 1
    assert cells["train_loss_low"][0] == 0.0 and cells["train_loss_high"][0] == pytest.approx(0.5 + 12.7062 * 0.4, rel=1e-4)


def test_networks_without_a_class_are_judged_by_their_loss():
    common = dict(model="autoencoder")
    runs = measured((dict(activation="relu"), dict(test_loss=0.3)), (dict(activation="tanh"), dict(test_loss=0.2)), **common)
    result = ranking(runs)
    assert result.metrics == ["test_loss"] and list(result.cells["activation"]) == ["tanh", "relu"]
    assert ranking(runs.assign(test_accuracy=[np.nan, 0.5])).metrics == ["test_accuracy"], "one that is classified is enough"
    assert ranking(runs.assign(test_loss=np.nan)).metrics == ["train_loss"], "such as of a probe, which has no test data"


def test_failed_networks_are_no_part_of_a_ranking(runs):
    failed = pd.concat([runs, runs.assign(status="failed", test_accuracy=1.0)])
    pd.testing.assert_frame_equal(ranking(failed).cells, ranking(runs).cells)
    with pytest.raises(UserError, match="no network has a result"):
        ranking(runs.assign(status="failed"))


def test_the_best_rate_is_chosen_anew_for_every_setting_that_a_cell_pools():
    best = {2: 0.1, 3: 0.2}
    runs = measured(*((dict(depth=depth, lr=lr, seed=seed), dict(test_accuracy=0.9 if best[depth] == lr else 0.1))
                      for depth in best for lr in (0.1, 0.2) for seed in (0, 1)))  # fmt: skip
    (row,) = ranking(runs, ["activation"]).cells.to_dict("records")
    assert row["test_accuracy"] == pytest.approx(0.9) and np.isnan(row["lr"])
    assert (row["seeds"], row["networks"]) == (2, 4)


def test_of_equally_good_rates_the_one_that_diverges_less_is_taken():
    runs = measured(
        *((dict(lr=lr, seed=seed), dict(test_accuracy=0.95 if lr == 0.2 else 0.5)) for lr in (0.1, 0.2) for seed in (0, 1))
    )
    runs.loc[runs["lr"].eq(0.2) & runs["seed"].eq(1), ["status", "test_accuracy"]] = ["diverged", np.nan]
    assert ranking(runs).cells["lr"][0] == 0.1
    runs["status"] = "diverged"
    assert ranking(runs).cells["lr"][0] == 0.2, "as many diverge, so the mean decides"


def test_a_baseline_is_the_cell_that_is_equal_in_every_other_axis():
    value = {("relu", 0.1): 0.5, ("tanh", 0.1): 0.6, ("relu", 1.0): 0.4, ("tanh", 1.0): 0.1, ("gelu", 1.0): 0.2}
    runs = measured(
        *(
            (dict(activation=a, bias=b, seed=seed), dict(test_accuracy=v + seed / 10))
            for (a, b), v in value.items()
            for seed in (0, 1)
        )
    )
    cells = ranking(runs, baseline="relu").cells.set_index(["activation", "bias"])
    assert cells["difference"].to_dict() == pytest.approx(
        {("tanh", 0.1): 0.1, ("tanh", 1.0): -0.3, ("gelu", 1.0): -0.2, ("relu", 0.1): np.nan, ("relu", 1.0): np.nan}, nan_ok=True
    )
    cells = ranking(runs, baseline="0.1").cells.set_index(["activation", "bias"])
    assert cells.loc[("tanh", 1.0), "difference"] == pytest.approx(-0.5)
    assert np.isnan(cells.loc[("gelu", 1.0), "difference"]), "there is no gelu at 0.1"
    with pytest.raises(UserError, match=r"0\.1, 1, gelu, relu, tanh; values of activation, bias"):
        ranking(runs, baseline="2")


def test_seeds_that_only_one_of_two_cells_has_are_no_pair():
    runs = measured(*((dict(activation=a, seed=s), dict(test_accuracy=v)) for a, s, v in
                      (("relu", 0, 0.5), ("relu", 1, 0.6), ("tanh", 1, 0.7), ("tanh", 2, 0.1))))  # fmt: skip
    row = ranking(runs, baseline="relu").cells.set_index("activation").loc["tanh"]
    assert row["difference"] == pytest.approx(0.1) and np.isnan(row["difference_low"])


def test_importance_is_the_share_of_variance_that_means_explain():
    runs = measured(
        *((dict(depth=d, bias=b, seed=s), dict(dead_fraction=d + b)) for d in (1, 2) for b in (0.0, 2.0) for s in (0, 1))
    )
    shares = importance(runs, "dead_fraction")
    assert list(shares.index) == ["bias", "depth"] and shares.to_dict() == pytest.approx({"bias": 0.8, "depth": 0.2})
    assert importance(runs.assign(dead_fraction=0.5), "dead_fraction").to_dict() == {"bias": 0.0, "depth": 0.0}


def test_there_is_no_grid_without_two_axes_or_a_completed_network(runs):
    assert dead_grid(runs[runs["lr"] == 0.1]) is None
    assert dead_grid(runs.assign(status="diverged")) is None
    grid = dead_grid(runs.assign(dead_fraction=np.where(runs["status"] == "diverged", 9.0, runs["dead_fraction"])))
    assert grid.to_numpy().max() == 0.5, "a network that diverged is not part of it"


def test_a_grid_is_as_tall_as_its_longer_axis():
    runs = measured(*((dict(depth=d, bias=b), dict(dead_fraction=d / 10 + b)) for d in (1, 2, 3) for b in (0.0, 0.5)))
    grid = dead_grid(runs)
    assert (grid.index.name, grid.columns.name, grid.shape) == ("depth", "bias", (3, 2))
    assert grid.loc[3, 0.5] == pytest.approx(0.8)


def test_settings_of_single_activations_make_no_cells_and_no_axes_of_a_grid_unless_all_have_them():
    alphas = [(dict(activation="elu", alpha=a), dict(test_accuracy=0.5, dead_fraction=a)) for a in (0.5, 1.0)]
    mixed = measured(*alphas, (dict(activation="relu"), dict(test_accuracy=0.5, dead_fraction=0.0)))
    assert ranking(mixed).by == ["activation"] and dead_grid(mixed) is None
    assert ranking(measured(*alphas)).by == ["alpha"]
    assert ranking(measured(alphas[0])).by == ["activation"], "where nothing varies there is one cell"
    assert ranking(mixed, ["activation", "activation"], ["test_accuracy", "test_accuracy"]).by == ["activation"]
