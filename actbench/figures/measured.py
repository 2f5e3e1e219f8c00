"""What a figure shows: the mean of a metric in each cell, with its interval over seeds, at chosen settings.

As in a report: the unit of replication is the seed, rates are chosen by validation figures (``report.choosing``), and a
diverged network counts as ``measures.filled`` says.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from actbench.base.errors import UserError, unknown
from actbench.figures.remembered import remembered
from actbench.figures.words import words
from actbench.report.choosing import Chosen, choose
from actbench.report.render import choosers, listed
from actbench.report.stats import finished, swept_axes, text_of
from actbench.report.tables import with_units
from actbench.results.columns import COLUMNS, TABLES
from actbench.results.frames import Results
from actbench.results.measures import (
    DEATH,
    LAYER_METRICS,
    METRIC_COLUMNS,
    chance_levels,
    chance_of,
    filled,
    is_fraction,
    never_silent,
)
from actbench.study.spec import AXES as SETTINGS
from actbench.verdicts.intervals import interval

TIMES = ("epoch", "step")
AXES = (*SETTINGS, "layer", *TIMES, "folder")  # what figures can be drawn over
METRICS = tuple(dict.fromkeys((*METRIC_COLUMNS, *LAYER_METRICS)))
# columns of runs.csv that a row needs, to be counted as it should
_OF_RUNS = ("seed", "status", "dataset", "model", "activation", "negative_slope", "validation_fraction", "units")


@dataclass(frozen=True)
class Measured:
    """Figures of cells.

    Attributes:
        cells: a row per cell: its axes, ``mean``, ``low``, ``high`` (of 0 to 1 for fractions; no bounds where there are none),
            ``seeds``, ``networks``; in the order of the axes' values.
        notes: sentences that say what the figures are of.
    """

    cells: pd.DataFrame
    notes: list[str]


def table_of(metric: str, axes: Sequence[str]) -> str:
    """The table that has a metric over these axes; UserError if none has."""
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    table = "layers" if "layer" in axes or metric in LAYER_METRICS else "history" if set(axes) & {*TIMES} else "runs"
    if table != "runs" and metric not in COLUMNS[table]:
        over = "layer" if table == "layers" else "epoch"
        known = ", ".join(name for name in COLUMNS[table] if name in METRICS)
        raise UserError(
            f"{metric}: of whole networks {'' if over == 'layer' else 'at their end '}only; by {over} there are {known}"
        )
    return table


def measure(
    results: Results,
    metric: str,
    axes: Sequence[str],
    *,
    choose_among: Sequence[str] = ("lr",),
    where: Mapping[str, Any] | None = None,
) -> Measured:
    """Means of a metric over seeds, for each combination of values of the axes.

    Args:
        results: of one or more folders.
        metric: a column of one of the tables; of layers.csv at the last evaluation, unless an axis is the epoch or the step.
        axes: settings, ``layer``, ``epoch``, ``step``, ``folder``, or columns of one's own in ``results.runs``.
        choose_among: settings whose best value is taken for each cell, if they are swept and none of ``axes``.
        where: only networks with this value, or one of these values, of a setting.

    Raises:
        UserError: a column is not known, no network has a result, or none has this metric.
    """
    table = table_of(metric, axes)
    choose_among = [choose_among] if isinstance(choose_among, str) else choose_among
    for part, names in (("where", where or {}), ("choose_among", choose_among)):
        for name in names:
            if name not in results.runs:
                raise unknown(part, name, SETTINGS)
    networks = _networks(results)
    choice = networks.chosen(axes, choose_among, where or {})
    rows = networks.rows(choice.best.rows, metric, axes)
    cells = _cells(rows, metric, axes)
    if cells["mean"].isna().all() and not np.isinf(rows[metric]).any():
        raise UserError(f"{metric}: empty in all of these networks; it cannot be computed for them")
    if table == "layers" and "layer" not in axes and rows["layer"].nunique() > 1:
        choice = replace(choice, pooled=[*choice.pooled, "layer"])
    return Measured(cells, _notes(rows, metric, axes, choice, networks.chance))


def _cells(rows: pd.DataFrame, metric: str, axes: Sequence[str]) -> pd.DataFrame:
    by = rows.groupby(list(axes), dropna=False, sort=True)
    counts = pd.DataFrame({"seeds": by["seed"].nunique(), "networks": by["run_id"].nunique(), "units": by["units"].mean()})
    if metric in (*DEATH, "sparsity"):  # of networks in which none can be, the 0 is certain
        kinds = rows[["activation", "negative_slope"]].drop_duplicates()
        kinds["certain"] = [never_silent(kinds.iloc[[place]]) for place in range(len(kinds))]
        sure = (
            rows.merge(kinds, on=["activation", "negative_slope"], how="left").groupby(list(axes), dropna=False)["certain"].all()
        )
        counts.loc[sure.to_numpy(), "units"] = 0
    per_seed = rows.groupby(list(dict.fromkeys([*axes, "seed"])), dropna=False, sort=True)[metric].mean().to_numpy(float)
    samples = np.split(per_seed, counts["seeds"].cumsum().to_numpy()[:-1])
    bounds = [interval(values, metric, units) for values, units in zip(samples, counts["units"], strict=True)]
    figures = pd.DataFrame(bounds, columns=["mean", "low", "high"], index=counts.index)
    return figures.join(counts[["seeds", "networks"]]).reset_index()


@dataclass(frozen=True)
class _Choice:
    """Networks at the settings that were chosen for them."""

    best: Chosen
    chosen: list[str]
    pooled: list[str]


class _Networks:
    """Results as figures need them; worked out once, since a page asks many figures of the same."""

    def __init__(self, results: Results) -> None:
        self._tables = {table: weakref.ref(getattr(results, table)) for table in TABLES}
        self.chance = chance_levels(results.meta)
        self.runs = filled(finished(with_units(results)), self.chance)
        self.key = [name for name in ("run_id", "folder") if name in self.runs]
        self._choices: dict[str, _Choice] = {}

    def chosen(self, axes: Sequence[str], choose_among: Sequence[str], where: Mapping[str, Any]) -> _Choice:
        """The networks at the best values of ``choose_among``."""
        asked = [axis for axis in axes if axis in self.runs]
        wanted = {name: [text_of(one) for one in (value if isinstance(value, (list, tuple)) else [value])]
                  for name, value in where.items()}  # fmt: skip
        known = repr((sorted(asked), [*choose_among], wanted))
        if known not in self._choices:
            runs = self.runs
            for name, values in wanted.items():
                runs = runs[runs[name].map(text_of).isin(values)]
            if runs.empty:
                told = ", ".join(f"{name}={' or '.join(values)}" for name, values in wanted.items())
                raise UserError(f"no network with {told} has a result")
            for axis in asked:
                if runs[axis].isna().all():
                    raise UserError(f"{axis}: none of these networks has it")
            rest = [axis for axis in swept_axes(runs) if axis not in ("seed", *asked)]
            chosen = [axis for axis in rest if axis in choose_among]
            pooled = [axis for axis in rest if axis not in chosen]
            self._choices[known] = _Choice(choose(runs, [*asked, *pooled], chosen), chosen, pooled)
        return self._choices[known]

    def rows(self, runs: pd.DataFrame, metric: str, axes: Sequence[str]) -> pd.DataFrame:
        """The rows of the table that has the metric, of these networks, in which missing figures have what they stand for."""
        table = table_of(metric, axes)
        needed = [*dict.fromkeys([*self.key, *_OF_RUNS, *(axis for axis in axes if axis in runs)])]
        if table == "runs":
            return runs[[*dict.fromkeys([*needed, metric])]]
        frame = self._tables[table]()
        assert frame is not None
        frame = frame[[*dict.fromkeys([*self.key, *(axis for axis in (*TIMES, "layer") if axis in frame), metric])]]
        frame = frame[frame["run_id"].isin(runs["run_id"])]
        if table == "layers" and not set(axes) & {*TIMES}:
            frame = frame[frame["step"] == frame.groupby(self.key)["step"].transform("max")]
        return filled(frame.merge(runs[needed], on=self.key), self.chance)


_networks = remembered(_Networks)


def _notes(
    rows: pd.DataFrame,
    metric: str,
    axes: Sequence[str],
    choice: _Choice,
    chance: Mapping[str, tuple[float, float]],
) -> list[str]:
    seeds = int(rows["seed"].nunique())
    counts = f"Mean and 95 % interval over {seeds} seeds" if seeds > 1 and "seed" not in axes else "One seed each"
    best = choice.best
    if best.metrics:
        by = f"{best.metrics[0].replace('_', ' ')}{choosers(best.halves)}"
        counts += f", at the best {listed([words(axis) for axis in choice.chosen])} for each ({by})"
    if choice.pooled:
        counts += f"; pooled over {listed([words(axis) for axis in choice.pooled])}"
    if table_of(metric, axes) == "layers" and not set(axes) & {*TIMES}:
        counts += "; at the last evaluation"
    notes = [f"{counts}."]
    networks = rows.drop_duplicates([name for name in ("run_id", "folder") if name in rows])
    if diverged := int((networks["status"] == "diverged").sum()):
        counted = _counted_as(networks, metric, chance, one=diverged == 1)
        notes.append(f"{diverged:,} of these {len(networks):,} networks diverged{counted}.")
    return notes


def _counted_as(networks: pd.DataFrame, metric: str, chance: Mapping[str, tuple[float, float]], *, one: bool) -> str:
    if metric.endswith("_accuracy"):
        levels = {chance_of(name, chance)[0] for name in networks["dataset"]}
        return f", which counts as guessing ({', '.join(f'{100 * level:g} %' for level in sorted(levels))})"
    if metric.endswith("_loss"):
        return f"; where {'it' if one else 'they'} did, there is no mean"
    return f", and from then on {'has' if one else 'have'} no figure"


def shown(values: pd.Series, metric: str) -> np.ndarray:
    """Figures as they are drawn: fractions in percent; four digits."""
    scaled = values.to_numpy(float) * (100 if is_fraction(metric) else 1)
    return np.array([float(f"{value:.4g}") for value in scaled])
