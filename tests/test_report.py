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


def table(rows) -> pd.DataFrame:
    """runs from (settings, accuracy, dead, status)."""
    made = []
    for settings, accuracy, dead, status in rows:
        spec = make_spec(**settings)
        row = {name: getattr(spec, name) for name in SETTINGS}
        made.append({**row, "run_id": spec.run_id, "test_accuracy": accuracy, "dead_fraction": dead, "born_dead_fraction": dead / 2,
                     "train_loss": 1 - accuracy, "status": status})  # fmt: skip
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
    assert (tanh["difference"], tanh["difference_low"], tanh["difference_high"]) == pytest.approx((-0.2, -0.2, -0.2))
    assert np.isnan(cells.loc["relu", "difference"])


def test_diverged_share_is_told(runs):
    cells = ranking(runs, ["activation", "lr"]).cells.set_index(["activation", "lr"])
    assert cells.loc[("tanh", 1.0), "diverged"] == pytest.approx(1 / 3)
    assert cells.loc[("tanh", 1.0), "test_accuracy"] == pytest.approx(0.815)


def test_seeds_are_the_unit_of_replication():
    """Two depths of the same seed are not two independent networks: they are averaged first."""
    rows = [
        (dict(depth=depth, seed=seed), 0.5 + seed / 10 + depth / 100, 0.0, "completed") for depth in (1, 2, 3) for seed in (0, 1)
    ]
    (row,) = ranking(table(rows), ["activation"]).cells.to_dict("records")
    assert row["test_accuracy"] == pytest.approx(0.57)
    assert row["test_accuracy_high"] - 0.57 == pytest.approx(
        min(0.43, 12.7062 * np.std([0.52, 0.62], ddof=1) / np.sqrt(2)), rel=1e-4
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
