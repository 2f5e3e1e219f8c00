"""Lines, points and bars of cells: means with their intervals, series told apart by colour, dash and mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from actbench.base.lazy import altair
from actbench.figures import style
from actbench.figures.measured import METRICS, shown
from actbench.figures.words import titled, words
from actbench.report.stats import text_of
from actbench.results.measures import counts_units, order

if TYPE_CHECKING:
    from actbench.figures.figure import Chart

Drawn = tuple["Chart", pd.DataFrame, list[str]]  # the chart, the figures in it, and sentences on what is not in it
LOG_AXES = ("lr",)
LOG_METRICS = ("grad_norm", "grad_norm_total", "delta_norm", "delta_norm_ratio", "update_ratio")
SPREAD = 50  # of losses, largest over smallest, from which on they are on a log scale
MOST_TICKS = 8  # values of an axis that all get a tick of their own
MOST_MARKED = 12  # values of an axis at which lines are marked
HEIGHT = {"column": 190, "wide": 270}  # pixels
PANEL = {"column": 120, "wide": 160}
ACROSS = {"column": 2, "wide": 3}  # panels beside each other
BAR = 15  # pixels
NUMBERS = ".4~g"  # d3's format of the ticks of numbers


@dataclass(frozen=True)
class Series:
    """The columns of a figure: the metric, and the axes that its parts show."""

    metric: str
    x: str
    hue: str | None = None
    facet: str | None = None
    size: str = "column"

    @property
    def axes(self) -> list[str]:
        """The columns that make a cell."""
        return [axis for axis in (self.facet, self.hue, self.x) if axis is not None]


class Frame:
    """Cells as a chart needs them: columns x, hue, facet (as text, but numbers of x), mean, low, high.

    Attributes:
        frame: the cells that are drawn.
        data: all of them, for reading.
        log: whether the metric is on a log scale.
        flat: whether x is a name, best read along a line.
    """

    def __init__(self, cells: pd.DataFrame, of: Series, *, may_be_log: bool = True) -> None:
        self.of, self.remarks = of, list[str]()
        figures = {name: shown(cells[name], of.metric) for name in ("mean", "low", "high")}
        cells = cells.assign(**figures)
        self.data = cells.drop(columns="networks").rename(columns={"mean": titled(of.metric)})
        if cells[of.x].isna().any():
            self.remarks.append(f"Networks without {words(of.x)} are left out.")
        cells = cells[cells[of.x].notna() & cells["mean"].notna()]
        self.log = may_be_log and _is_log(cells["mean"], of.metric)
        if self.log and (cells["mean"] <= 0).any():
            self.remarks.append("Figures of 0 have no place on a log scale and are left out.")
            cells = cells[cells["mean"] > 0]
        if self.log:  # an interval that reaches 0 ends at the smallest figure
            bounds = cells[["mean", "low"]].to_numpy(float)
            cells = cells.assign(low=cells["low"].clip(lower=float(bounds[bounds > 0].min())))
        self.flat = not pd.api.types.is_numeric_dtype(cells[of.x])
        parts: dict[str, Any] = {}
        if of.hue:
            self.numbered = pd.api.types.is_numeric_dtype(cells[of.hue])
            parts["hue"] = cells[of.hue].map(text_of)
            parts["place"] = pd.factorize(parts["hue"])[0]
        if of.facet:
            parts["facet"] = panel_names(cells[of.facet])
        self.frame = pd.DataFrame({"x": cells[of.x], **parts, **{name: cells[name] for name in figures}})
        self.bounded = bool(self.frame["low"].notna().any())

    @property
    def alone(self) -> bool:
        """Whether some series is a single point, which no line shows."""
        parts = [part for part in ("hue", "facet") if part in self.frame]
        return bool(parts) and bool(self.frame.groupby(parts).size().eq(1).any())

    def few(self, most: int) -> bool:
        """Whether x has at most so many values."""
        return self.frame["x"].nunique() <= most

    def names(self, part: str) -> list[str]:
        """Values of a part as text, in their order; names of x the best first."""
        if part == "x" and self.flat:
            means = self.frame.groupby("x", sort=True)["mean"].mean()
            return [str(name) for name in order(means, self.of.metric).sort_values(kind="stable").index]
        values = self.frame[part].sort_values() if part == "x" else self.frame[part]
        return list(dict.fromkeys(values.map(text_of)))

    def told_apart(self, *, by_dash: bool) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Encodings of the series: their colours, dashes and marks; the legend shows marks, or dashes if ``by_dash``."""
        if self.of.hue is None:
            return {"color": altair.value(style.SERIES[0])}, {}, {}
        names = self.names("hue")
        colours, dashes, marks = style.series(len(names))
        title = words(self.of.hue) if self.numbered else None  # names need none
        shape = {"symbolType": "stroke"} if by_dash else {}
        legend = altair.Legend(columns=legend_columns([title or "", *names], self.of.size), **shape)
        # by place where the legend shows marks: Vega-Lite would merge scales of one domain, and draw the marks dashed
        domain: list[Any] = list(names) if by_dash else list(range(len(names)))
        dash, mark = (legend if one else None for one in (by_dash, not by_dash))
        return (
            {
                "color": altair.Color(
                    "hue:N", title=title, scale=altair.Scale(domain=names, range=colours), sort=names, legend=legend
                )
            },
            {
                "strokeDash": altair.StrokeDash(
                    "hue:N" if by_dash else "place:O", title=title, scale=altair.Scale(domain=domain, range=dashes), legend=dash
                )
            },
            {"shape": altair.Shape("hue:N", title=title, scale=altair.Scale(domain=names, range=marks), sort=names, legend=mark)},
        )

    def composed(self, layers: Sequence[Any], rows: int = 0) -> Chart:
        """The layers as one chart, of the figure's size; with panels, where it has any. ``rows``: of bars or points that lie."""
        of, wide = self.of, style.PIXELS[self.of.size]
        high = rows * BAR if rows else HEIGHT[of.size]
        if of.facet is None:
            fit = altair.AutoSizeParams(type="fit-x", contains="padding")
            return altair.layer(*layers, data=self.frame).properties(width=wide, height=high, autosize=fit)
        chart = altair.layer(*layers, data=self.frame)
        labels = max(map(len, self.names("x"))) * 6 + 10 if self.flat else 45
        return in_panels(chart, self.names("facet"), of.size, labels, high if rows else PANEL[of.size])

    def value(self, channel: str, field: str, *, zero: bool = False) -> Any:
        """The metric's axis."""
        metric = self.of.metric
        scale: dict[str, Any] = {"type": "log"} if self.log else {"zero": zero or counts_units(metric)}
        axis = altair.Axis(format=NUMBERS, grid=True, **(_log_ticks() if self.log else {"tickCount": 6}))
        kind = {"x": altair.X, "y": altair.Y}[channel]
        return kind(f"{field}:Q", title=titled(metric), scale=altair.Scale(**scale), axis=axis)

    def along(self, channel: str, *, steps: bool) -> dict[str, Any]:
        """The axis of x: its values a step each (with one place per series in it), or as numbers."""
        kind = {"x": altair.X, "y": altair.Y}[channel]
        title = titled(self.of.x)
        if steps or self.flat:
            axis = altair.Axis(grid=False, format=NUMBERS) if not self.flat else altair.Axis(grid=False)
            place = {channel: kind("x:O", title=title, sort=self.names("x") if self.flat else "ascending", axis=axis)}
            if steps and self.of.hue:
                offset = {"x": altair.XOffset, "y": altair.YOffset}[channel]
                place[f"{channel}Offset"] = offset("hue:N", sort=self.names("hue"))
            return place
        values = sorted(self.frame["x"].unique())
        log = values[0] > 0 and (self.of.x in LOG_AXES or (self.of.x in LOG_METRICS and values[-1] >= 10 * values[0]))
        ticks: dict[str, Any] = {"tickMinStep": 1} if self._whole() else {}
        if len(values) <= MOST_TICKS and self.of.x not in METRICS:
            ticks = {"values": values}
        scale = altair.Scale(type="log" if log else "linear", zero=False, nice=False, padding=6)
        return {channel: kind("x:Q", title=title, scale=scale, axis=altair.Axis(format=NUMBERS, **ticks))}

    def _whole(self) -> bool:
        return bool((self.frame["x"] % 1 == 0).all())


def _log_ticks() -> dict[str, Any]:
    """Of a log axis: powers of ten, with 2 and 5 between them where there are few; Vega has all of 1 to 9."""
    digit = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"
    few = f"indexof([1, 2, 5], {digit}) >= 0"
    seen = {"condition": {"test": few, "value": 1}, "value": 0}
    label = f"{few} ? format(datum.value, '{NUMBERS}') : ''"
    return {"tickCount": 4, "gridOpacity": seen, "tickOpacity": seen, "labelExpr": label, "labelOverlap": False}


def lines(cells: pd.DataFrame, of: Series) -> Drawn:
    """A line per series, with a band for the interval; marked where x has few values."""
    drawn = Frame(cells, of)
    marked = drawn.few(MOST_MARKED) or drawn.alone
    colour, dash, mark = drawn.told_apart(by_dash=not marked)
    base = altair.Chart().encode(**drawn.along("x", steps=False), **colour)
    layers = [base.mark_area().encode(y=drawn.value("y", "low"), y2="high:Q")] if drawn.bounded else []
    layers.append(base.mark_line().encode(y=drawn.value("y", "mean"), **dash))
    if marked:
        layers.append(base.mark_point(filled=True).encode(y=drawn.value("y", "mean"), **mark))
    return drawn.composed(layers), drawn.data, drawn.remarks


def points(cells: pd.DataFrame, of: Series) -> Drawn:
    """A mark per cell, with a rule for the interval."""
    drawn = Frame(cells, of)
    colour, _, mark = drawn.told_apart(by_dash=False)
    along, across = ("y", "x") if drawn.flat else ("x", "y")
    base = altair.Chart().encode(**drawn.along(along, steps=drawn.flat or drawn.few(MOST_TICKS)), **colour)
    layers = [
        base.mark_rule(strokeWidth=1.5).encode(**{across: drawn.value(across, "low"), f"{across}2": "high:Q"}),
        base.mark_point(filled=True).encode(**{across: drawn.value(across, "mean")}, **mark),
    ]
    return drawn.composed(layers if drawn.bounded else layers[1:], rows=_rows(drawn)), drawn.data, drawn.remarks


def bars(cells: pd.DataFrame, of: Series) -> Drawn:
    """A bar per cell, from 0, with a rule for the interval; lying where x is a name."""
    drawn = Frame(cells, of, may_be_log=False)
    colour, _, _ = drawn.told_apart(by_dash=False)
    along, across = ("y", "x") if drawn.flat else ("x", "y")
    base = altair.Chart().encode(**drawn.along(along, steps=True))
    layers = [
        base.mark_bar().encode(**{across: drawn.value(across, "mean", zero=True)}, **colour),
        base.mark_rule(strokeWidth=1.5, color=style.FG).encode(
            **{across: drawn.value(across, "low", zero=True), f"{across}2": "high:Q"}
        ),
    ]
    return drawn.composed(layers if drawn.bounded else layers[:1], rows=_rows(drawn)), drawn.data, drawn.remarks


def _rows(drawn: Frame) -> int:
    """The bars or points that lie above each other, with a gap below each name."""
    if not drawn.flat:
        return 0
    return max(drawn.frame["x"].nunique() * ((len(drawn.names("hue")) + 1) if drawn.of.hue else 1), 4)


def _is_log(values: pd.Series, metric: str) -> bool:
    positive = values[values > 0]
    if positive.empty:
        return False
    return metric in LOG_METRICS or (metric.endswith("_loss") and positive.max() >= SPREAD * positive.min())


def legend_columns(names: Sequence[str], size: str) -> int:
    """So many entries beside each other that a legend, whose title is the first of ``names``, is no wider than its figure."""
    title, *entries = names
    room = style.PIXELS[size] - 60 - 6 * len(title)
    return max(1, min(len(entries), room // (6 * max(map(len, entries)) + 28)))


def panel_names(values: pd.Series) -> pd.Series:
    """What stands above a panel: a name, or a number with what it is of."""
    texts = values.map(text_of)
    return f"{words(str(values.name))} " + texts if pd.api.types.is_numeric_dtype(values) else texts


def in_panels(chart: Any, names: Sequence[str], size: str, labels: int, high: int) -> Chart:
    """A chart as panels beside and below each other, as wide together as the figure; ``labels`` are as wide, in pixels."""
    columns = min(len(names), ACROSS[size])
    width = (style.PIXELS[size] - labels - 20 * columns) // columns
    facet = altair.Facet("facet:N", title=None, sort=list(names))
    return chart.properties(width=max(width, 50), height=high).facet(facet=facet, columns=columns)
