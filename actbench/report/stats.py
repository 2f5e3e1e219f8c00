"""The statistics of a report, as functions from ``runs`` to frames.

The unit of replication is the seed: within a cell, a figure is first averaged per seed, and the interval is Student's
95 % interval over those means. Every cell is evaluated at the learning rate that is best for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from actbench.base.errors import UserError, unknown
from actbench.results.columns import COLUMNS, EPOCHS_TO
from actbench.study.spec import SETTINGS

CONFIDENCE = 0.95
FRACTIONS = ("accuracy", "fraction", "sparsity")
SMALLER_IS_BETTER = {"train_loss", "test_loss", "seconds", *EPOCHS_TO}
METRIC_COLUMNS = tuple(name for name in COLUMNS["runs"] if name not in ("run_id", *SETTINGS, "status", "error"))


def is_fraction(metric: str) -> bool:
    """Whether a metric is between 0 and 1, and shown in percent."""
    return any(word in metric for word in FRACTIONS)


def default_metric(runs: pd.DataFrame) -> str:
    """The metric that ranks networks: test accuracy, or test loss if nothing is classified."""
    classified = runs["test_accuracy"].notna().any()
    return "test_accuracy" if classified or "test_loss" not in runs or runs["test_loss"].isna().all() else "test_loss"


def mean_of(values: pd.Series, metric: str) -> float:
    """The mean of the values that exist. For the epochs to an error, NaN if a network never reached it: the mean of the others
    would be too good."""
    return float(values.mean(skipna=metric not in EPOCHS_TO))


@dataclass
class Ranking:
    """A ranking of cells.

    Attributes:
        by: the axes that make a cell.
        metrics: the metrics shown; cells are ordered by the first.
        baseline: the value that cells are compared with, if any.
        cells: a row per cell, best first: the axes, ``lr``, per metric M its mean ``M``, ``M_low``, ``M_high``, with a
            baseline ``difference``, ``difference_low``, ``difference_high``; ``dead``, ``born_dead``, ``diverged``
            (shares) and ``seeds``, ``networks``.
    """

    by: list[str]
    metrics: list[str]
    baseline: str | None
    cells: pd.DataFrame


def swept_axes(runs: pd.DataFrame) -> list[str]:
    """The settings that vary among networks that have them."""
    return [name for name in SETTINGS if runs[name].nunique(dropna=True) > 1]


def check_axes(runs: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The axes, or a UserError for one that is not a setting."""
    for axis in axes:
        if axis not in SETTINGS:
            raise unknown("axis", axis, SETTINGS)
    return list(dict.fromkeys(axes))


def check_metrics(metrics: Sequence[str]) -> list[str]:
    """The metrics, or a UserError for one that is not a column of runs.csv."""
    for metric in metrics:
        if metric not in METRIC_COLUMNS:
            raise unknown("metric", metric, METRIC_COLUMNS)
    return list(dict.fromkeys(metrics))


def default_axes(runs: pd.DataFrame) -> list[str]:
    """The swept axes without seed, learning rate (which is chosen per cell) and settings that only some networks have."""
    partial = {name for name in SETTINGS if SETTINGS[name].metadata.get("optional")}
    axes = [name for name in swept_axes(runs) if name not in ("seed", "lr")]
    return [a for a in axes if a not in partial or runs[a].notna().all()] or axes or ["activation"]


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): Student's 95 % interval of the mean; NaN bounds with fewer than two values."""
    from scipy.special import stdtrit

    values = values[~np.isnan(values)]
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    mean = float(values.mean())
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def ranking(
    runs: pd.DataFrame,
    by: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
) -> Ranking:
    """Ranks the cells of a sweep.

    Args:
        runs: rows of runs.csv; failed networks are left out.
        by: the axes of a cell (default: all swept but seed and learning rate).
        metrics: columns to show; cells are ranked by the first.
        baseline: a value of one of ``by``; cells are compared with the cell that has this value and is equal otherwise.

    Raises:
        UserError: an unknown axis, metric or baseline; no network at all.
    """
    runs = runs[runs["status"].isin(["completed", "diverged"])]
    if runs.empty:
        raise UserError("no network has a result yet")
    axes = check_axes(runs, by) if by else default_axes(runs)
    shown = check_metrics(metrics or [default_metric(runs)])
    cells, samples = [], {}
    for key, cell in runs.groupby(axes, dropna=False, sort=False):
        cell = cell if "lr" in axes else _at_best_rate(cell, shown[0])
        row = dict(zip(axes, key, strict=True))
        if "lr" not in axes:
            row["lr"] = cell["lr"].iloc[0] if cell["lr"].nunique() == 1 else np.nan
        for metric in shown:
            per_seed = cell.groupby("seed")[metric].agg(mean_of, metric=metric)
            complete = metric not in EPOCHS_TO or per_seed.notna().all()
            mean, low, high = interval(per_seed.to_numpy(float)) if complete else (np.nan,) * 3
            # Student's interval may exceed the range of a metric: none is negative, and a fraction is at most 1
            low = max(low, 0.0) if low == low else low
            high = min(high, 1.0) if is_fraction(metric) and high == high else high
            row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = mean, low, high
        samples[key] = cell.groupby("seed")[shown[0]].agg(mean_of, metric=shown[0])
        row["dead"] = cell["dead_fraction"].mean()
        row["born_dead"] = cell["born_dead_fraction"].mean()
        row["diverged"] = (cell["status"] == "diverged").mean()
        row["seeds"], row["networks"] = cell["seed"].nunique(), len(cell)
        cells.append((key, row))
    if baseline is not None:
        _compare(cells, samples, axes, baseline)
    frame = pd.DataFrame([row for _, row in cells])
    ascending = shown[0] in SMALLER_IS_BETTER
    return Ranking(axes, shown, baseline, frame.sort_values(shown[0], ascending=ascending, kind="stable").reset_index(drop=True))


def _at_best_rate(cell: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The networks at the rate with the best mean over seeds, chosen anew for every setting that the cell pools.

    Rates at which more networks diverge rank below rates at which fewer do: a rate that works for some seeds only is not
    the best.
    """
    pooled = [a for a in swept_axes(cell) if a not in ("lr", "seed")]
    keys = [cell[a] for a in pooled] or [pd.Series(0, index=cell.index)]
    kept = []
    for _, part in cell.groupby(keys, dropna=False, sort=False):
        rates = part.groupby("lr").agg(
            value=(metric, lambda values: mean_of(values, metric)),
            diverged=("status", lambda status: (status == "diverged").mean()),
        )
        # larger is taken to be better, except for SMALLER_IS_BETTER
        order = rates.assign(value=rates["value"] * (-1 if metric in SMALLER_IS_BETTER else 1)).fillna(-np.inf)
        best = order.sort_values(["diverged", "value"], ascending=[True, False], kind="stable").index[0]
        kept.append(part[part["lr"] == best])
    return pd.concat(kept)


def _compare(cells: list, samples: dict, axes: list[str], baseline: str) -> None:
    """Adds the paired difference from the baseline's cell to every cell."""
    places = [i for i in range(len(axes)) if any(_text(key[i]) == baseline for key, _ in cells)]
    if not places:
        values = {_text(key[i]) for key, _ in cells for i in range(len(axes))}
        raise unknown("baseline", baseline, values, hint=f"values of {', '.join(axes)}")
    place = places[0]
    by_text = {tuple(map(_text, key)): key for key, _ in cells}
    for key, row in cells:
        other = by_text.get(tuple(baseline if i == place else _text(part) for i, part in enumerate(key)))
        differences = np.array([])
        if other is not None and other != key:
            # paired by seed, over the seeds that both have
            differences = (samples[key] - samples[other]).to_numpy(float)
        row["difference"], row["difference_low"], row["difference_high"] = interval(differences)


def _text(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:g}"
    return "" if value is pd.NA else str(value)


def importance(runs: pd.DataFrame, metric: str) -> pd.Series:
    """The share of a metric's variance that the means of each swept axis explain (η²), largest first."""
    values = runs[metric].astype(float)
    total = values.var(ddof=0)
    shares = {}
    for axis in swept_axes(runs):
        if axis != "seed":
            means = values.groupby(runs[axis], dropna=False).transform("mean")
            shares[axis] = means.var(ddof=0) / total if total > 0 else 0.0
    return pd.Series(shares, dtype=float).sort_values(ascending=False, kind="stable")


def dead_grid(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Mean dead fraction over the two axes that explain most of it; None if fewer than two axes were swept."""
    runs = runs[runs["status"] == "completed"]
    if runs.empty:
        return None
    axes = [a for a in importance(runs, "dead_fraction").index if a not in ("negative_slope", "alpha", "beta")][:2]
    if len(axes) < 2:
        return None
    wide, tall = sorted(axes, key=lambda axis: runs[axis].nunique())
    return runs.pivot_table(values="dead_fraction", index=tall, columns=wide, aggfunc="mean", sort=True, dropna=False)
