"""Which networks a cell is judged by: those at the learning rate, or the settings, that are best for it.

A rate chosen by the seeds that then judge it flatters: its mean is partly their luck. So where there are enough seeds, those at
even places (in order) choose for those at odd places, and the reverse; a seed is judged at what the other half chose.
Choices are by validation figures (see ``measures.choosing_metric``), never by those of the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from actbench.results.measures import choosing_metric, held_out, order

ENOUGH = 4  # seeds, of which one half chooses for the other; of fewer, all choose for all


@dataclass(frozen=True)
class Chosen:
    """Networks at the best setting of their part, and how it was chosen."""

    rows: pd.DataFrame
    metrics: list[str]  # that chose, the one of the most parts first; none where there was nothing to choose
    halves: list[bool]  # whether one half of the seeds chose for the other: [True], [False], both, or none likewise


def choose(runs: pd.DataFrame, parts: Sequence[str], axes: Sequence[str]) -> Chosen:
    """The rows at the values of ``axes`` that have the best mean over seeds, chosen anew for each combination of ``parts``.

    Values at which more networks diverge rank below those at which fewer do: a rate that works for some seeds only is not the
    best. Halves choose among settings of which both have a network; where no setting is such, all seeds choose for all.

    Args:
        runs: rows in which missing figures have the value they stand for (``measures.filled``).
        parts: the columns that say what is chosen for.
        axes: the columns among whose values is chosen; none: all rows are kept.
    """
    if not axes or runs.empty:
        return Chosen(runs, [], [])
    runs = runs.reset_index(drop=True)
    part = _numbered(runs, parts)
    setting = _numbered(runs, [*parts, *axes])
    place = runs["seed"].groupby(part).rank("dense") - 1
    half = place % 2
    shared = half.groupby(setting).transform("nunique") == 2
    halves = (place.groupby(part).transform("max") >= ENOUGH - 1) & shared.groupby(part).transform("any")
    half = half.where(halves, 0.0)
    metric = pd.Series(index=runs.index, dtype=object)
    value = pd.Series(index=runs.index, dtype=float)
    for rows in _alike(runs, part):
        name = choosing_metric(rows)
        metric[rows.index], value[rows.index] = name, order(rows[name], name)
    figures = pd.DataFrame({"part": part, "setting": setting, "half": half, "diverged": runs["status"] == "diverged",
                            "value": value})[shared | ~halves]  # fmt: skip
    means = figures.groupby(["part", "half", "setting"], sort=False)[["diverged", "value"]].mean().reset_index()
    means = means.sort_values(["diverged", "value"], kind="stable").drop_duplicates(["part", "half"])
    best = means.set_index(["part", "half"])["setting"]
    chooser = (1 - half).where(halves, 0.0)
    kept = setting.to_numpy() == best.reindex(pd.MultiIndex.from_arrays([part, chooser])).to_numpy()
    several = setting.groupby(part).transform("nunique") > 1
    told = pd.DataFrame({"metric": metric, "halves": halves, "part": part})[several].drop_duplicates("part")
    return Chosen(runs[kept], [*told["metric"].value_counts().index], [bool(one) for one in told["halves"].unique()])


def _numbered(runs: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The number of each row's combination of values, in order of appearance."""
    if not columns:
        return pd.Series(0, runs.index)
    return runs.groupby(list(columns), dropna=False, sort=False).ngroup()


def _alike(runs: pd.DataFrame, part: pd.Series) -> list[pd.DataFrame]:
    """The rows, those of parts together in which one metric chooses."""
    accuracies = [name for name in ("validation_accuracy", "train_accuracy") if name in runs]
    kinds = pd.DataFrame({"held_out": held_out(runs).groupby(part).transform("all"),
                          "classified": runs[accuracies].notna().any(axis=1).groupby(part).transform("any")})  # fmt: skip
    return [runs.loc[rows.index] for _, rows in kinds.groupby(["held_out", "classified"], sort=False)]
