"""Which axes of a study a figure shows: as lines, as panels, as the two axes of a heat map; and how many of their values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pandas as pd

from actbench.figures.remembered import remembered
from actbench.report.stats import everywhere, finished, importance, swept_axes, text_of
from actbench.results.frames import Results
from actbench.results.measures import chance_levels, default_metric, filled, order
from actbench.study.spec import SETTINGS

T = TypeVar("T")

MOST_LINES, MOST_PANELS = 8, 3
MOST_AXES = 6  # of which heat maps are drawn, a pair each
# settings that matter at initialisation
AT_START = [name for name in SETTINGS if not SETTINGS[name].metadata.get("training") and name != "seed"]
OF_ACTIVATIONS = ("negative_slope", "alpha", "beta", "pieces")  # parameters, which only some networks have
MOST_POINTS = 900  # of all lines of a figure


@dataclass(frozen=True)
class Shown:
    """An axis, and the values of it that are shown, as they are written; ``note`` says so if these are not all."""

    axis: str
    values: list[str]
    note: str = ""


@dataclass(frozen=True)
class Arrangement:
    """A study as figures show it.

    Attributes:
        results: what is drawn: the study's own, with fewer evaluations where there are many.
        runs: the networks that have a result, with the figures that a diverged one counts as.
        axes: all that were swept but the seed, those that matter most first; the study's own choice before them.
        lines: what lines are told apart by; None if nothing was swept.
        panels: what panels are told apart by; None if there is only one.
        pairs: of axes that heat maps are drawn over; the first is the one that explains most of the dead units.
    """

    results: Results
    runs: pd.DataFrame
    axes: list[str]
    lines: Shown | None = None
    panels: Shown | None = None
    pairs: list[tuple[str, str]] = field(default_factory=list)


@remembered
def arranged(results: Results) -> Arrangement:
    """The arrangement of a study; UserError if no network has a result."""
    runs = filled(finished(results.runs), chance_levels(results.meta))
    metric = default_metric(runs)
    swept = [axis for axis in swept_axes(runs) if axis != "seed"]
    known = runs[runs[metric].notna() & runs[metric].abs().ne(float("inf"))]
    weights = importance(known, metric) if len(known) else pd.Series(dtype=float)
    dead = importance(known, "dead_fraction") if known["dead_fraction"].notna().any() else weights
    weights = (weights.fillna(0) + dead.reindex(weights.index).fillna(0)).sort_values(ascending=False, kind="stable")
    axes = sorted(swept, key=lambda axis: -float(weights.get(axis, 0.0)))
    named = {tuple(meta["study"].get("report_by") or ()) for meta in results.meta}
    own = [axis for axis in (named.pop() if len(named) == 1 else ()) if axis in axes]
    lead = [axis for axis in ("activation",) if axis in axes and (not own or axis in own)]
    common = everywhere(runs, axes)
    shown = [axis for axis in dict.fromkeys([*lead, *own, *axes]) if axis in common and axis != "lr"] or axes[:1]
    lines = limited(runs, shown[0], MOST_LINES) if shown else None
    panels = limited(runs, shown[1], MOST_PANELS) if len(shown) > 1 else None
    count = (len(lines.values) if lines else 1) * (len(panels.values) if panels else 1)
    thinned = replace(results, history=_thinned(results.history, max(12, MOST_POINTS // count)))
    return Arrangement(thinned, runs, axes, lines, panels, _pairs(runs, axes))


@remembered
def layers_at_the_end(results: Results) -> pd.DataFrame:
    """The rows of layers.csv of networks that completed: one that diverged has no figures at its end."""
    runs = results.runs
    return results.layers[results.layers["run_id"].isin(runs.loc[runs["status"] == "completed", "run_id"])]


def _pairs(runs: pd.DataFrame, axes: list[str]) -> list[tuple[str, str]]:
    known = [axis for axis in axes if axis not in OF_ACTIVATIONS][:MOST_AXES]
    completed = runs[runs["status"] == "completed"]
    weights = importance(completed, "dead_fraction") if completed["dead_fraction"].any() else pd.Series(dtype=float)
    first = set([axis for axis in weights.index if axis in known][:2])
    return sorted(itertools.combinations(known, 2), key=lambda pair: {*pair} != first)


def limited(runs: pd.DataFrame, axis: str, most: int) -> Shown:
    """As many values as can be told apart: of numbers some of them from the smallest to the largest, of names the best."""
    values = runs[axis].dropna().drop_duplicates().sort_values()
    if len(values) <= most:
        return Shown(axis, [text_of(value) for value in values])
    if pd.api.types.is_numeric_dtype(values):
        kept = evenly(list(values), most)
        return Shown(axis, [text_of(value) for value in kept], f"Shown are {most} of {len(values)} values of {axis}.")
    metric = default_metric(runs)
    means = order(runs.groupby(axis, sort=True)[metric].mean(), metric).sort_values(kind="stable").index[:most]
    kept = [value for value in values if value in set(means)]
    return Shown(axis, [text_of(value) for value in kept], f"Shown are the best {most} of {len(values)} values of {axis}.")


def evenly(values: Sequence[T], most: int) -> list[T]:
    """So many of some values, from the first to the last, evenly spaced."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _thinned(history: pd.DataFrame, most: int) -> pd.DataFrame:
    """So many evaluations, the first and the last among them, of those that there are."""
    epochs = sorted(history["epoch"].dropna().unique())
    if len(epochs) <= most:
        return history
    last = history.groupby("run_id")["epoch"].transform("max")
    return history[history["epoch"].isin(evenly(epochs, most)) | history["epoch"].eq(last)]
