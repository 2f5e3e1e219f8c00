"""Colours, type and sizes of figures, chosen once, here.

A chart is drawn in the light colours, each of which stands for one token. Files keep them, on white; in the page, `export`
turns them into CSS variables, whose dark values follow the reader's system. Colour never tells alone: series have dashes and
marks of their own, verdicts a symbol, cells of a heat map their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actbench.figures.figure import Chart

# token → (light, dark). Light values are all different, since they say which token a colour in a chart is.
# Series differ for colour-blind readers, too (Machado 2009: ΔE of at least 8 in pairs), and by 3:1 from the background.
TOKENS: dict[str, tuple[str, str]] = {
    "fg": ("#1b1f24", "#e6e9ed"),
    "muted": ("#57606a", "#9aa4af"),
    "grid": ("#e3e6ea", "#2b3138"),
    "bg": ("#ffffff", "#14171c"),
    "series-1": ("#2f7fc1", "#56aef0"),
    "series-2": ("#d55e00", "#ff8a4c"),
    "series-3": ("#0f9d76", "#14b88a"),
    "series-4": ("#cf6fae", "#f5aedb"),
    "series-5": ("#1f2a5a", "#f4e57c"),
    "series-6": ("#98861f", "#8478ea"),
    "series-7": ("#7c8188", "#dfe3e8"),
    "series-8": ("#6e1f12", "#b0683a"),
    "good": ("#1a7f37", "#4ac26b"),
    "bad": ("#c2261d", "#ff7b72"),
    "mixed": ("#8a5a00", "#e0a63c"),
    "unsure": ("#646c75", "#98a2ad"),
    # from none to much: light to dark on white, dark to light on black
    "seq-0": ("#f1f5f9", "#1c222a"),
    "seq-1": ("#d6e4f0", "#22364a"),
    "seq-2": ("#b3cfe6", "#2a4c6b"),
    "seq-3": ("#86b4d8", "#38658d"),
    "seq-4": ("#3a79ab", "#5b94c4"),
    "seq-5": ("#235c90", "#8fbde3"),
    "seq-6": ("#123f6b", "#c9e1f6"),
}
LIGHT = {name: light for name, (light, _) in TOKENS.items()}
FG, MUTED, GRID, BG = (LIGHT[name] for name in ("fg", "muted", "grid", "bg"))
GOOD, BAD, MIXED, UNSURE = (LIGHT[name] for name in ("good", "bad", "mixed", "unsure"))
SERIES = [LIGHT[f"series-{number}"] for number in range(1, 9)]
DASHES: list[list[int]] = [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [10, 3], [1, 3], [6, 2, 1, 2, 1, 2]]
# paths are Vega's own names; all can be told apart in grey
MARKS = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
MOST_SERIES = 2 * len(SERIES)  # that can be told apart: beyond eight, a colour comes again with another dash and mark
SEQUENTIAL = [LIGHT[f"seq-{number}"] for number in range(7)]
INVERSE_FROM = 4  # the step of SEQUENTIAL from which on text in a cell is written in BG instead of FG

# verdict → (symbol, colour)
VERDICTS: dict[str, tuple[str, str]] = {
    "supported": ("▲", GOOD), "refuted": ("▼", BAD), "mixed": ("◆", MIXED), "undecided": ("○", UNSURE),
    "holds": ("✓", GOOD), "fails": ("✗", BAD),
}  # fmt: skip

# Widths of a journal's column and page. A unit of a chart is 1/96 inch, so that letters are 8 points high on paper.
SIZES = {"column": 85.0, "wide": 175.0}  # mm
PIXELS = {size: round(mm / 25.4 * 96) for size, mm in SIZES.items()}  # 321, 661
# vl-convert brings the first, whatever a machine has; the next have its widths.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
TEXT, SMALL = 11, 10  # pixels


def page_variables() -> dict[str, tuple[str, str]]:
    """CSS variable → (light, dark), for the page: ``--fg``, ``--series-1``, …"""
    return {f"--{name}": values for name, values in TOKENS.items()}


def series(count: int) -> tuple[list[str], list[list[int]], list[str]]:
    """Colours, dashes and marks of so many series (``MOST_SERIES`` at most), in their order."""
    rounds = [(place % len(SERIES), place // len(SERIES)) for place in range(count)]
    return (
        [SERIES[place] for place, _ in rounds],
        [DASHES[(place + 3 * turn) % len(DASHES)] for place, turn in rounds],
        [MARKS[(place + 5 * turn) % len(MARKS)] for place, turn in rounds],
    )


def sequential(bounds: Sequence[float]) -> dict[str, Any]:
    """Arguments of ``alt.Scale`` for a heat map: figures from ``bounds[0]`` to ``bounds[1]`` in seven steps of colour."""
    low, high = bounds
    steps = len(SEQUENTIAL)
    return {"type": "threshold", "domain": [low + (high - low) * step / steps for step in range(1, steps)], "range": SEQUENTIAL}


def config() -> dict[str, Any]:
    """The configuration of every chart, for Vega-Lite."""
    letters = {"labelColor": FG, "titleColor": FG, "labelFontSize": SMALL, "titleFontSize": TEXT, "titleFontWeight": "normal"}
    return {
        "font": FONT,
        "background": BG,
        "padding": 4,
        "view": {"stroke": None},
        "axis": {**letters, "gridColor": GRID, "domainColor": MUTED, "tickColor": MUTED, "tickSize": 4, "labelLimit": 200,
                 "titlePadding": 6, "labelFlush": False},
        "axisX": {"grid": False, "labelAngle": 0},
        "legend": {**letters, "orient": "top", "direction": "horizontal", "titleOrient": "left", "symbolStrokeWidth": 2,
                   "symbolOpacity": 1, "symbolSize": 60, "labelLimit": 160, "columnPadding": 12, "offset": 8},
        "header": {**letters, "labelPadding": 4},
        "title": {"color": FG, "fontSize": TEXT, "fontWeight": "normal", "anchor": "start"},
        "line": {"strokeWidth": 2},
        "rule": {"color": MUTED},
        "text": {"color": FG, "fontSize": SMALL},
        "area": {"opacity": 0.15},
        "point": {"size": 36, "filled": True, "opacity": 1},
        "bar": {"color": SERIES[0]},
    }  # fmt: skip


def themed(chart: Chart) -> Chart:
    """The chart in this style."""
    return chart.configure(**config())
