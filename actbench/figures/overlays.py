"""What some figures show besides their series: rings and holes at some of their marks, theory's lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from actbench.base.lazy import altair as alt
from actbench.figures.series import Series, panel_names
from actbench.figures.style import BG, FG
from actbench.figures.words import titled
from actbench.report.stats import text_of

if TYPE_CHECKING:
    from actbench.figures.figure import Chart


def with_rings(chart: Chart, of: Series, cells: pd.DataFrame) -> None:
    """Puts rings around some cells of a chart of ``series.lines``: those in which ``ringed`` is true."""
    _join(chart, of, cells, "ringed")
    ring = alt.Chart().mark_point(filled=False, shape="circle", size=150, stroke=FG, strokeWidth=1.5)
    _add(chart, ring.transform_filter("datum.ringed").encode(x=_x(of), y=_y(of, "mean")))


def with_holes(chart: Chart, of: Series, cells: pd.DataFrame) -> None:
    """Makes holes in the marks of some cells: those in which ``hollow`` is true."""
    _join(chart, of, cells, "hollow")
    hole = alt.Chart().mark_point(filled=True, shape="circle", size=11, color=BG)
    _add(chart, hole.transform_filter("datum.hollow").encode(x=_x(of), y=_y(of, "mean")))


def with_theory(chart: Chart, of: Series, cells: pd.DataFrame) -> None:
    """Draws dotted lines through the figures in ``theory``, one for each series, in its colour."""
    _join(chart, of, cells, "theory")
    line = alt.Chart().mark_line(strokeWidth=1.2, strokeDash=[1, 2], stroke=FG)
    if of.hue:
        line = line.encode(detail="hue:N")
    _add(chart, line.transform_filter("isValid(datum.theory)").encode(x=_x(of), y=_y(of, "theory")))


def _x(of: Series) -> alt.X:
    return alt.X("x:Q", title=titled(of.x))


def _y(of: Series, column: str) -> alt.Y:
    return alt.Y(f"{column}:Q", title=titled(of.metric))


def _join(chart: Chart, of: Series, cells: pd.DataFrame, column: str) -> None:
    """Gives the chart's rows a column of their cells."""
    parts = {"x": cells[of.x]}
    if of.hue:
        parts["hue"] = cells[of.hue].map(text_of)
    if of.facet:
        parts["facet"] = panel_names(cells[of.facet])
    frame = chart.data
    assert isinstance(frame, pd.DataFrame)
    chart.data = frame.merge(pd.DataFrame({**parts, column: cells[column]}), on=list(parts), how="left")


def _add(chart: Chart, layer: alt.Chart) -> None:
    inner = getattr(chart, "spec", chart)
    inner.layer = [*inner.layer, layer]
