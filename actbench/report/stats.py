"""The statistics of a report, as functions from ``runs`` to frames.

The unit of replication is the seed: within a cell, a figure is first averaged per seed, and the interval is a 95 % interval
over those means. Every cell is evaluated at the learning rate, or at the settings, that are best for it (``choosing``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actbench.base.errors import UserError, unknown
from actbench.report.choosing import Chosen, choose
from actbench.results import measures
from actbench.results.measures import CHOOSING, better, chance_of, choosing_metric, default_metric, filled, held_out, order
from actbench.study.spec import AXES as USER_AXES
from actbench.study.spec import SETTINGS
from actbench.verdicts.intervals import interval
from actbench.verdicts.theory import NETWORKS, compared

MISSING = "–"  # stands for what is not there
MOST_VALUES = 3  # that are told of what was chosen for a cell
AXES = ("folder", "layer", *SETTINGS)  # of which a report is; the first two only where rows have them


@dataclass
class Ranking:
    """A ranking of cells."""

    by: list[str]  # the axes that make a cell
    metrics: list[str]  # those shown; cells are ordered by the first
    baseline: str | None  # the AXIS=VALUE that cells are compared with, if any
    # a row per cell, best first: the axes, what was chosen for it (empty where several values were, such as one by each half of
    # the seeds; best_AXIS says them, as text), per metric M its mean M, M_low, M_high (of an accuracy also M_at_chance: no better
    # than guessing; where theory knows it, what ``theory.compared`` gives), with a baseline difference, difference_low,
    # difference_high; dead, born_dead, diverged (shares), seeds, networks
    cells: pd.DataFrame
    chosen: list[str]  # the axes whose best value is taken for every cell
    pooled: list[str]  # the axes over which a cell is a mean
    chosen_by: str  # the metric that chooses
    halves: list[bool]  # whether one half of the seeds chose for the other, see ``choosing.Chosen``
    remarks: list[str]  # such as what diverged networks count as


def text_of(value: Any, missing: str = MISSING) -> str:
    """A value of a setting as text."""
    if pd.isna(value):
        return missing
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def swept_axes(runs: pd.DataFrame) -> list[str]:
    """The axes that vary among networks that have them."""
    return [name for name in ("folder", "layer", *USER_AXES) if name in runs and runs[name].nunique(dropna=True) > 1]


def everywhere(runs: pd.DataFrame, axes: Iterable[str]) -> list[str]:
    """Those of the axes that every network has: not such as the slope of leaky_relu, which networks of relu lack."""
    return [axis for axis in axes if axis not in SETTINGS or not SETTINGS[axis].metadata["optional"] or runs[axis].notna().all()]


def default_axes(runs: pd.DataFrame) -> list[str]:
    """The swept axes without seed, learning rate (which is chosen per cell) and settings that only some networks have."""
    axes = [name for name in swept_axes(runs) if name not in ("seed", "lr")]
    return everywhere(runs, axes) or axes or ["activation"]


def _distinct(kind: str, names: Sequence[str], allowed: Collection[str]) -> list[str]:
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)
    return list(dict.fromkeys(names))


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The networks that have a result; UserError if none has."""
    runs = runs[runs["status"].isin(["completed", "diverged"])]
    if runs.empty:
        raise UserError("no network has a result yet")
    return runs


def ranking(
    runs: pd.DataFrame,
    by: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    *,
    choose_all: bool = False,
    chance: Mapping[str, tuple[float, float]] | None = None,
) -> Ranking:
    """Ranks the cells of a sweep; UserError for an unknown axis, metric or baseline, or no network at all.

    Args:
        runs: rows of runs.csv, perhaps ``theory.with_predictions``; failed networks are left out.
        by: the axes of a cell (default: all swept but seed and learning rate).
        metrics: columns to show; cells are ranked by the first.
        baseline: AXIS=VALUE, or a value that only one of ``by`` has; cells are compared with the cell that has this value and is
            equal otherwise, paired by seed and by the settings that a cell pools.
        choose_all: whether cells are shown at their best setting over all swept axes but the seed, in groups of equal leading
            axes; else at their best learning rate (chosen for each setting that they pool), and pooled over other axes.
        chance: see ``measures.chance_levels``.
    """
    chance = chance or measures.chance_levels([])
    runs = filled(finished(runs), chance)
    axes = _distinct("axis", by, [a for a in AXES if a in runs]) if by else default_axes(runs)
    known = (*measures.METRIC_COLUMNS, *measures.LAYER_METRICS, *({NETWORKS} & {*runs}))
    shown = _distinct("metric", metrics or [default_metric(runs)], known)
    rest = [a for a in swept_axes(runs) if a not in ("seed", *axes)]
    chosen, pooled = (rest, []) if choose_all else ([a for a in rest if a == "lr"], [a for a in rest if a != "lr"])
    pairs = ["seed", *everywhere(runs, pooled)]
    best = choose(runs, [*axes, *pooled], chosen)
    limits = best.rows["dataset"].map(lambda name: chance_of(name, chance)[1])
    cells, samples = {}, {}
    for key, cell in best.rows.groupby(axes, dropna=False, sort=False):
        row = dict(zip(axes, key, strict=True))
        for axis in chosen if "lr" in axes else dict.fromkeys([*chosen, "lr"]):
            row[axis] = cell[axis].iloc[0] if cell[axis].nunique(dropna=False) == 1 else np.nan
            if axis in chosen:
                row[f"best_{axis}"] = _told(cell[axis])
        for metric in shown:
            certain = metric in (*measures.DEATH, "sparsity") and measures.never_silent(cell)
            units = 0 if certain else cell["units"].mean() if "units" in cell else 1
            values = interval(cell.groupby("seed")[metric].mean().to_numpy(float), metric, units)
            row |= zip((metric, f"{metric}_low", f"{metric}_high"), values, strict=True)
            if metric.endswith("_accuracy"):
                row[f"{metric}_at_chance"] = row[metric] <= limits[cell.index].max()
            row |= compared(cell, metric, values[0])
        samples[key] = cell.groupby(pairs)[shown[0]].mean()
        row["dead"], row["born_dead"] = cell["dead_fraction"].mean(), cell["born_dead_fraction"].mean()
        row["diverged"] = (cell["status"] == "diverged").mean()
        row["seeds"], row["networks"] = cell["seed"].nunique(), len(cell)
        cells[key] = row
    if baseline is not None:
        baseline = _compare(cells, samples, axes, baseline)
    frame = pd.DataFrame(list(cells.values())).sort_values(shown[0], key=lambda v: order(v, shown[0]), kind="stable")
    if choose_all or "layer" in axes:  # best first within groups of equal leading axes, and layers in their order
        leading = axes if axes[-1] == "layer" else axes[:-1]
        frame = frame.sort_values(leading, kind="stable") if leading else frame
    remarks = _divergence(runs, chance) if any(m.endswith("_accuracy") for m in shown) else []
    remarks += _without_validation(runs, best)
    by_metric = (best.metrics or [choosing_metric(runs)])[0]
    return Ranking(axes, shown, baseline, frame.reset_index(drop=True), chosen, pooled, by_metric, best.halves, remarks)


def _told(values: pd.Series) -> str:
    """The values of a setting that were chosen for a cell, as text: such as a half of the seeds' each."""
    texts = [text_of(value) for value in values.drop_duplicates().sort_values()]
    return ", ".join(texts) if len(texts) <= MOST_VALUES else "varies"


def _without_validation(runs: pd.DataFrame, best: Chosen) -> list[str]:
    """Says so where training figures chose."""
    metrics = [metric for metric in best.metrics if not metric.startswith(CHOOSING)]
    if not metrics:
        return []
    count = int((~held_out(runs)).sum())
    which = "these networks" if count == len(runs) else f"{count:,} of these {len(runs):,} networks"
    where = "" if len(metrics) == len(best.metrics) else " where networks without are compared"
    return [f"chosen by {' and '.join(metrics)}{where}: {which} held out no validation data"]


def _divergence(runs: pd.DataFrame, chance: Mapping[str, tuple[float, float]]) -> list[str]:
    """How many networks diverged, and the accuracy that they count as."""
    networks = runs.drop_duplicates([name for name in ("run_id", "folder") if name in runs])
    diverged = networks[(networks["status"] == "diverged") & (networks["model"] != "autoencoder")]
    if diverged.empty:
        return []
    levels = ", ".join(f"{100 * level:g} %" for level in sorted({chance_of(name, chance)[0] for name in diverged["dataset"]}))
    counts = "it counts" if len(diverged) == 1 else "they count"
    return [f"{len(diverged):,} of {len(networks):,} networks diverged; {counts} as guessing ({levels})"]


def costs(runs: pd.DataFrame, ranked: Ranking, chance: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """What a value of a chosen axis costs in the metric that ranks, with all others at their best for it; paired by seed.

    Returns:
        A row per axis and value: axis, value, cost (the mean over cells) with cost_low and cost_high, and the cell where it costs
        the most, ``worst`` (text) and ``most``; the axis that matters most first.
    """
    runs, metric = filled(finished(runs), chance), ranked.metrics[0]
    sign = 1 if better(metric) == "higher" else -1
    tops = _by_seed(choose(runs, ranked.by, ranked.chosen).rows, ranked.by, metric)
    rows = []
    for axis in everywhere(runs, ranked.chosen):
        found: dict[Any, dict[str, pd.Series]] = {}
        figures = _by_seed(choose(runs, [*ranked.by, axis], ranked.chosen).rows, [*ranked.by, axis], metric)
        values: dict[tuple[Any, ...], list[Any]] = {}
        for part in figures:
            values.setdefault(part[:-1], []).append(part[-1])
        for key, several in values.items():
            name = " ".join(
                value if isinstance(value, str) else f"{by}={text_of(value)}" for by, value in zip(ranked.by, key, strict=True)
            )
            for value in several if len(several) > 1 else []:
                found.setdefault(value, {})[name] = sign * (tops[key] - figures[(*key, value)])
        for value, cost in found.items():
            means = {cell: float(series.mean()) for cell, series in cost.items()}
            worst = max(means, key=lambda cell: means[cell])
            bounds = interval(pd.DataFrame(cost).mean(axis=1).to_numpy(float))
            rows.append({"axis": axis, "value": value, **dict(zip(("cost", "cost_low", "cost_high"), bounds, strict=True)),
                         "worst": worst, "most": means[worst]})  # fmt: skip
    frame = pd.DataFrame(rows, columns=["axis", "value", "cost", "cost_low", "cost_high", "worst", "most"])
    frame["weight"] = frame.groupby("axis")["cost"].transform("max")
    return frame.sort_values(["weight", "axis", "cost"], ascending=[False, True, True]).drop(columns="weight")


def _by_seed(runs: pd.DataFrame, parts: Sequence[str], metric: str) -> dict[tuple[Any, ...], pd.Series]:
    """The mean of a metric per seed, for each part; a part's missing values are None, so that it can be looked up."""
    found = {}
    key: Any
    for key, rows in runs.groupby(list(parts), dropna=False, sort=False):
        found[tuple(None if pd.isna(value) else value for value in key)] = rows.groupby("seed")[metric].mean()
    return found


def _compare(cells: dict, samples: dict, axes: list[str], baseline: str) -> str:
    """Adds the paired difference from the baseline's cell to every cell; returns the baseline as AXIS=VALUE."""
    texts = {key: [text_of(part, missing="") for part in key] for key in cells}
    place, value = _baseline_axis(axes, [*texts.values()], baseline)
    by_text = {tuple(text): key for key, text in texts.items()}
    for key, text in texts.items():
        other = by_text.get((*text[:place], value, *text[place + 1 :]))
        differences = np.array([]) if other in (None, key) else _differences(samples[key], samples[other])
        cells[key] |= zip(("difference", "difference_low", "difference_high"), interval(differences), strict=True)
    return f"{axes[place]}={value}"


def _differences(one: pd.Series, other: pd.Series) -> np.ndarray:
    """Per seed, the mean difference of two cells over the settings that both pool; none if a figure is infinite (such as an
    error that was never reached), since those of the other seeds alone would flatter.
    """
    names = [n for n in map(str, one.index.names) if set(one.index.get_level_values(n)) & set(other.index.get_level_values(n))]
    if "seed" not in names or np.isinf([*one, *other]).any():
        return np.array([])
    one, other = (cell.groupby(names).mean() for cell in (one, other))
    return (one - other).groupby("seed").mean().to_numpy(float)


def _baseline_axis(axes: list[str], texts: Sequence[Sequence[str]], baseline: str) -> tuple[int, str]:
    """The place among the axes, and the value's text, of a baseline; UserError if there is none, or more than one."""
    axis, _, value = baseline.partition("=")
    if value and axis in AXES:
        if axis not in axes:
            raise UserError(f"--baseline {baseline}: '{axis}' is not an axis of this report ({', '.join(axes)}); name it in --by")
        places = [axes.index(axis)]
    else:
        value, places = baseline, list(range(len(axes)))
    found = [(p, text[p]) for text in texts for p in places if _means(value, text[p], axes[p])]
    found = list(dict.fromkeys(found))
    if len(found) > 1:
        raise UserError(f"--baseline {baseline}: of several axes; write {' or '.join(f'{axes[p]}={text}' for p, text in found)}")
    if not found:
        values = {text[p] for text in texts for p in places}
        raise unknown("baseline", value, values, hint=f"values of {', '.join(axes[p] for p in places)}")
    return found[0]


def _means(word: str, value: str, axis: str) -> bool:
    """Whether a word names a value: 0.10 is 0.1, and a folder goes by its name, too."""
    if word == value or (axis == "folder" and Path(value).name == word.rstrip("/")):
        return True
    try:
        return float(word) == float(value)
    except ValueError:
        return False


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
    """Mean dead fraction of all completed networks over the two axes that explain most of it; None if fewer were swept."""
    runs = runs[runs["status"] == "completed"]
    axes = [a for a in importance(runs, "dead_fraction").index if a not in ("negative_slope", "alpha", "beta")][:2]
    if len(axes) < 2:
        return None
    wide, tall = sorted(axes, key=lambda axis: runs[axis].nunique())
    return runs.pivot_table(values="dead_fraction", index=tall, columns=wide, aggfunc="mean", sort=True, dropna=False)
