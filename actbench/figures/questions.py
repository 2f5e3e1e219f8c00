"""Figures of one's own question: any metric over any axes of the three tables, as lines, points, bars or a heat map."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from actbench.base.errors import UserError, shown, unknown
from actbench.figures import style
from actbench.figures.cells import heatmap
from actbench.figures.figure import Figure
from actbench.figures.measured import AXES, METRICS, measure, table_of
from actbench.figures.scatter import scattered
from actbench.figures.series import Series, bars, lines, points
from actbench.figures.words import words
from actbench.report.render import listed
from actbench.results.frames import Results

KINDS = {"lines": lines, "points": points, "bars": bars, "heatmap": heatmap}
MOST_PANELS = 12


def check_question(
    kind: str, *, x: str | None, y: str | None, hue: str | None = None, facet: str | None = None, size: str = "column"
) -> Series:
    """The columns of a question by their part in the figure; UserError, before any file is read, for one that makes no sense."""
    if kind not in KINDS:
        raise unknown("figure", kind, KINDS)
    if size not in style.SIZES:
        raise unknown("size", size, style.SIZES)
    metric = "hue" if kind == "heatmap" else "y"
    given = {"x": x, "y": y, "hue": hue, "facet": facet}
    for part in ("x", "y", *(["hue"] if kind == "heatmap" else [])):
        if given[part] is None:
            wanted = "a metric" if part == metric else "an axis"
            raise UserError(f"{kind}: {part} is missing; name {wanted}, such as {_such(part, metric)}")
    over_metric = kind == "points" and x in METRICS
    measured = {metric, "x"} if over_metric else {metric}
    for part, name in given.items():
        if name is not None:
            _check(part, name, METRICS if part in measured else AXES, AXES if part in measured else METRICS)
    axes = [name for part, name in given.items() if name is not None and part not in measured]
    if twice := [name for name in axes if axes.count(name) > 1]:
        parts = listed([part for part, name in given.items() if name == twice[0]])
        raise UserError(f"'{twice[0]}' cannot be {parts} at once; name another column for one of them")
    value = given[metric]
    assert value is not None and x is not None
    for name in (given[part] for part in measured):
        table_of(str(name), axes)
    if kind == "heatmap":
        return Series(value, x, y, facet, size)
    return Series(value, x, hue, facet, size)


def _such(part: str, metric: str) -> str:
    return "dead_fraction" if part == metric else {"x": "lr", "y": "bias"}.get(part, "activation")


def _check(part: str, name: str, allowed: Collection[str], others: Collection[str]) -> None:
    if name in allowed:
        return
    if name in others:
        wanted = "is measured, not set; name an axis" if allowed is AXES else "is set, not measured; name a metric"
        raise UserError(f"{part}: '{name}' {wanted}, such as {'lr' if allowed is AXES else 'dead_fraction'}")
    raise unknown(part, name, allowed)


def ask(
    results: Results,
    kind: str,
    *,
    x: str,
    y: str,
    hue: str | None = None,
    facet: str | None = None,
    size: str = "column",
    where: Mapping[str, Any] | None = None,
    choose_among: Sequence[str] = ("lr",),
    name: str | None = None,
    title: str | None = None,
) -> Figure:
    """A figure of means over seeds with 95 % intervals, each at its best learning rate unless ``lr`` is one of its axes.

    Args:
        results: of one or more folders.
        kind: ``lines``, ``points``, ``bars`` or ``heatmap``.
        x: an axis: a setting, ``layer``, ``epoch``, ``step`` or ``folder``; of points, a metric, too.
        y: a metric: any measured column of the three tables; of a heat map, another axis.
        hue: an axis whose values are told apart by colour, dash and mark; of a heat map, the metric.
        facet: an axis each of whose values gets a panel of its own.
        size: the width on paper: ``column`` (85 mm) or ``wide`` (175 mm).
        where: only networks with these settings.
        choose_among: settings whose best value each cell is shown at, unless they are axes; others are pooled.
        name: as ``--figure`` takes it.
        title: one line.

    Raises:
        UserError: a column is not known, or does not fit; there is nothing to draw, or more than can be told apart.
    """
    if where is not None and not isinstance(where, Mapping):
        raise UserError(f"where: {shown(where)} is not a mapping of settings to values, such as {{'activation': 'relu'}}")
    question = check_question(kind, x=x, y=y, hue=hue, facet=facet, size=size)
    if kind == "points" and x in METRICS:
        return scattered(results, question, choose_among=choose_among, where=where, name=name or kind, title=title)
    measured = measure(results, question.metric, question.axes, choose_among=choose_among, where=where)
    counts = {axis: measured.cells[axis].nunique() for axis in question.axes}
    if kind == "lines" and counts[x] < 2:
        raise UserError(f"x: all of these networks have one {words(x)}, so there is no line to draw")
    if question.hue and kind != "heatmap" and counts[question.hue] > style.MOST_SERIES:
        raise UserError(
            f"hue: {question.hue} has {counts[question.hue]} values; {style.MOST_SERIES} can be told apart. Make it x or facet"
        )
    if facet and counts[facet] > MOST_PANELS:
        raise UserError(f"facet: {facet} has {counts[facet]} values; at most {MOST_PANELS} panels are drawn")
    chart, data, remarks = KINDS[kind](measured.cells, question)
    over = listed([words(axis) for axis in question.axes])
    heading = title or f"{words(question.metric)[0].upper()}{words(question.metric)[1:]} by {over}"
    return Figure(name or kind, heading, " ".join([f"{heading}.", *measured.notes, *remarks]), chart, data, size)
