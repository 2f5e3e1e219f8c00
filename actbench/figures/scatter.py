"""One metric over another: a point for each cell of the study, with the intervals of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actbench.base.errors import UserError
from actbench.base.lazy import altair
from actbench.figures.figure import Figure
from actbench.figures.measured import measure, shown
from actbench.figures.series import Frame, Series
from actbench.figures.words import titled, words
from actbench.report.render import listed
from actbench.report.stats import everywhere, swept_axes
from actbench.results.frames import Results

MOST = 2000  # points


def scattered(
    results: Results,
    of: Series,
    *,
    choose_among: Sequence[str],
    where: Mapping[str, Any] | None,
    name: str,
    title: str | None,
) -> Figure:
    """A point per combination of all swept axes but the seed and what is chosen; ``of.x`` and ``of.metric`` are metrics."""
    named = [axis for axis in (of.facet, of.hue) if axis is not None]
    swept = everywhere(results.runs, swept_axes(results.runs))
    axes = [*named, *(axis for axis in swept if axis not in ("seed", *choose_among, *named))] or ["activation"]
    across, down = (measure(results, metric, axes, choose_among=choose_among, where=where) for metric in (of.x, of.metric))
    cells = down.cells.merge(across.cells[[*axes, "mean", "low", "high"]], on=axes, suffixes=("", "_of_x"))
    if len(cells) > MOST:
        raise UserError(f"points: {len(cells):,} cells of {listed(axes)}; at most {MOST:,} are drawn")
    figures = {f"{edge}_of_x": shown(cells[f"{edge}_of_x"], of.x) for edge in ("mean", "low", "high")}
    cells = cells.assign(**figures).rename(columns={"mean_of_x": of.x})
    drawn = Frame(cells, of)
    drawn.frame = drawn.frame.join(cells[["low_of_x", "high_of_x"]])
    colour, _, mark = drawn.told_apart(by_dash=False)
    base = altair.Chart().encode(**drawn.along("x", steps=False), **colour)
    place, axis = drawn.value("y", "mean"), drawn.along("x", steps=False)["x"]
    ends = axis.copy()
    ends.shorthand = "low_of_x:Q"
    layers = [
        base.mark_rule().encode(y=drawn.value("y", "low"), y2="high:Q"),
        base.mark_rule().encode(x=ends, x2="high_of_x:Q", y=place),
        base.mark_point(filled=True).encode(y=place, **mark),
    ]
    data = drawn.data.rename(columns={of.x: titled(of.x), "low_of_x": f"{of.x} low", "high_of_x": f"{of.x} high"})
    heading = title or f"{words(of.metric)[0].upper()}{words(of.metric)[1:]} over {words(of.x)}"
    text = f"{heading}, a point for each {listed([words(one) for one in axes])}."
    return Figure(name, heading, " ".join([text, *down.notes, *drawn.remarks]), drawn.composed(layers), data, of.size)
