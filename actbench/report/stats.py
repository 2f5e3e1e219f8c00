"""The statistics of a report, as functions from ``runs`` to frames.

The unit of replication is the seed: within a cell, a figure is first averaged per seed, and the interval is Student's
95 % interval over those means. Every cell is evaluated at the learning rate that is best for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from actbench.base.errors import UserError, unknown
from actbench.results.columns import COLUMNS, EPOCHS_TO
from actbench.study.spec import SETTINGS

CONFIDENCE = 0.95
MISSING = "–"  # stands for what is not there
FRACTIONS = ("accuracy", "fraction", "sparsity")
SMALLER_IS_BETTER = {"train_loss", "test_loss", "seconds", *EPOCHS_TO}
METRIC_COLUMNS = tuple(name for name in COLUMNS["runs"] if name not in ("run_id", *SETTINGS, "status", "error"))


@dataclass
class Ranking:
    """A ranking of cells."""

    by: list[str]  # the axes that make a cell
    metrics: list[str]  # those shown; cells are ordered by the first
    baseline: str | None  # the value that cells are compared with, if any
    # a row per cell, best first: the axes, lr, per metric M its mean M, M_low, M_high, with a baseline difference,
    # difference_low, difference_high; dead, born_dead, diverged (shares), seeds, networks
    cells: pd.DataFrame


def text_of(value: Any, missing: str = MISSING) -> str:
    """A value of a setting as text."""
    if pd.isna(value):
        return missing
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


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


def swept_axes(runs: pd.DataFrame) -> list[str]:
    """The settings that vary among networks that have them."""
    return [name for name in SETTINGS if runs[name].nunique(dropna=True) > 1]


def default_axes(runs: pd.DataFrame) -> list[str]:
    """The swept axes without seed, learning rate (which is chosen per cell) and settings that only some networks have."""
    axes = [name for name in swept_axes(runs) if name not in ("seed", "lr")]
    return [a for a in axes if not SETTINGS[a].metadata["optional"] or runs[a].notna().all()] or axes or ["activation"]


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): Student's 95 % interval of the mean; NaN bounds with fewer than two values."""
    from scipy.special import stdtrit

    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float(values[0]) if len(values) else np.nan, np.nan, np.nan
    mean = float(values.mean())
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _distinct(kind: str, names: Sequence[str], allowed: Collection[str]) -> list[str]:
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)
    return list(dict.fromkeys(names))


def ranking(
    runs: pd.DataFrame, by: Sequence[str] | None = None, metrics: Sequence[str] | None = None, baseline: str | None = None
) -> Ranking:
    """Ranks the cells of a sweep; UserError for an unknown axis, metric or baseline, or no network at all.

    Args:
        runs: rows of runs.csv; failed networks are left out.
        by: the axes of a cell (default: all swept but seed and learning rate).
        metrics: columns to show; cells are ranked by the first.
        baseline: a value of one of ``by``; cells are compared with the cell that has this value and is equal otherwise.
    """
    runs = runs[runs["status"].isin(["completed", "diverged"])]
    if runs.empty:
        raise UserError("no network has a result yet")
    axes = _distinct("axis", by, SETTINGS) if by else default_axes(runs)
    shown = _distinct("metric", metrics or [default_metric(runs)], METRIC_COLUMNS)
    cells, samples = {}, {}
    for key, cell in runs.groupby(axes, dropna=False, sort=False):
        row = dict(zip(axes, key, strict=True))
        if "lr" not in axes:
            cell = _at_best_rate(cell, shown[0])
            row["lr"] = cell["lr"].iloc[0] if cell["lr"].nunique() == 1 else np.nan
        per_seed = {metric: cell.groupby("seed")[metric].agg(mean_of, metric=metric) for metric in shown}
        samples[key] = per_seed[shown[0]]
        for metric, values in per_seed.items():
            complete = metric not in EPOCHS_TO or values.notna().all()
            mean, low, high = interval(values.to_numpy(float)) if complete else (np.nan,) * 3
            # Student's interval may exceed the range of a metric: none is negative, and a fraction is at most 1
            low, high = np.maximum(low, 0.0), np.minimum(high, 1.0 if is_fraction(metric) else np.inf)
            row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
        row["dead"], row["born_dead"] = cell["dead_fraction"].mean(), cell["born_dead_fraction"].mean()
        row["diverged"] = (cell["status"] == "diverged").mean()
        row["seeds"], row["networks"] = cell["seed"].nunique(), len(cell)
        cells[key] = row
    if baseline is not None:
        _compare(cells, samples, axes, baseline)
    frame = pd.DataFrame(list(cells.values()))
    ascending = shown[0] in SMALLER_IS_BETTER
    return Ranking(axes, shown, baseline, frame.sort_values(shown[0], ascending=ascending, kind="stable").reset_index(drop=True))


def _at_best_rate(cell: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The networks at the rate with the best mean over seeds, chosen anew for every setting that the cell pools.

    Rates at which more networks diverge rank below rates at which fewer do: a rate that works for some seeds only is not
    the best.
    """
    pooled = [cell[axis] for axis in swept_axes(cell) if axis not in ("lr", "seed")] or [pd.Series(0, index=cell.index)]
    kept = []
    for _, part in cell.groupby(pooled, dropna=False, sort=False):
        rates = part.groupby("lr").agg(
            value=(metric, lambda values: mean_of(values, metric)),
            diverged=("status", lambda status: (status == "diverged").mean()),
        )
        best = rates.sort_values(["diverged", "value"], ascending=[True, metric in SMALLER_IS_BETTER]).index[0]
        kept.append(part[part["lr"] == best])
    return pd.concat(kept)


def _compare(cells: dict, samples: dict, axes: list[str], baseline: str) -> None:
    """Adds the paired difference from the baseline's cell to every cell."""
    texts = {key: [text_of(part, missing="") for part in key] for key in cells}
    place = next((i for i in range(len(axes)) if any(text[i] == baseline for text in texts.values())), None)
    if place is None:
        values = {part for text in texts.values() for part in text}
        raise unknown("baseline", baseline, values, hint=f"values of {', '.join(axes)}")
    by_text = {tuple(text): key for key, text in texts.items()}
    for key, text in texts.items():
        other = by_text.get((*text[:place], baseline, *text[place + 1 :]))
        differences = np.array([])
        if other is not None and other is not key:
            # paired by seed, over the seeds that both have
            differences = (samples[key] - samples[other]).to_numpy(float)
        cells[key] |= zip(("difference", "difference_low", "difference_high"), interval(differences), strict=True)


def importance(runs: pd.DataFrame, metric: str) -> pd.Series:
    """The share of a metric's variance that the means of each swept axis explain (η²), largest first."""
    values = runs[metric].astype(float)
    total, shares = values.var(ddof=0), {}
    for axis in swept_axes(runs):
        if axis != "seed":
            means = values.groupby(runs[axis], dropna=False).transform("mean")
            shares[axis] = means.var(ddof=0) / total if total > 0 else 0.0
    return pd.Series(shares, dtype=float).sort_values(ascending=False, kind="stable")


def dead_grid(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Mean dead fraction over the two axes that explain most of it; None if fewer than two axes were swept."""
    runs = runs[runs["status"] == "completed"]
    axes = [a for a in importance(runs, "dead_fraction").index if a not in ("negative_slope", "alpha", "beta")][:2]
    if len(axes) < 2:
        return None
    wide, tall = sorted(axes, key=lambda axis: runs[axis].nunique())
    return runs.pivot_table(values="dead_fraction", index=tall, columns=wide, aggfunc="mean", sort=True, dropna=False)
