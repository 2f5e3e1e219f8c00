"""Heat maps: a metric over two axes, its figure in each cell, its colour in seven steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from actbench.base.errors import UserError
from actbench.base.lazy import altair
from actbench.figures import style
from actbench.figures.measured import shown
from actbench.figures.series import ACROSS, LOG_METRICS, Drawn, Series, in_panels, panel_names
from actbench.figures.words import titled
from actbench.report.render import number
from actbench.report.stats import text_of
from actbench.results.measures import counts_units

CELL = {"column": 22, "wide": 26}  # pixels of a cell's height
MOST_COLUMNS = {"column": 10, "wide": 20}  # in which figures are legible
MOST_ROWS = 40


def heatmap(cells: pd.DataFrame, of: Series) -> Drawn:
    """A cell per combination of x and ``hue``, which is what its rows are."""
    across, down = of.x, of.hue
    assert down is not None
    panels = cells[of.facet].nunique(dropna=False) if of.facet else 1
    beside = min(panels, ACROSS[of.size])
    for axis, most in ((across, MOST_COLUMNS[of.size] // beside), (down, MOST_ROWS)):
        if (count := cells[axis].nunique(dropna=False)) > most:
            larger = "" if of.size == "wide" or axis == down else "; --size wide has room for more"
            raise UserError(f"heatmap: {axis} has {count} values; figures of at most {most} can be read{larger}")
    values = cells["mean"].to_numpy(float)
    steps = _steps(values, of.metric)
    frame = pd.DataFrame({"x": cells[across].map(text_of), "y": cells[down].map(text_of), "step": steps,
                          "text": [number(value, of.metric) for value in values]})  # fmt: skip
    if of.facet:
        frame["facet"] = panel_names(cells[of.facet])
    columns, rows = (_names(cells[axis]) for axis in (across, down))
    # the largest number stands at the top, as on an axis
    rows = rows[::-1] if pd.api.types.is_numeric_dtype(cells[down]) else rows
    base = altair.Chart().encode(
        x=altair.X("x:O", title=titled(across), sort=columns, axis=altair.Axis(domain=False, ticks=False)),
        y=altair.Y("y:O", title=titled(down), sort=rows, axis=altair.Axis(domain=False, ticks=False, grid=False)),
    )
    domain = list(range(len(style.SEQUENTIAL)))
    inks = [style.BG if step >= style.INVERSE_FROM else style.FG for step in domain]
    scales = [altair.Scale(domain=domain, range=colours) for colours in (style.SEQUENTIAL, inks)]
    layers = [
        base.mark_rect(stroke=style.BG, strokeWidth=1).encode(color=altair.Color("step:O", scale=scales[0], legend=None)),
        base.mark_text().encode(text="text:N", fill=altair.Fill("step:O", scale=scales[1], legend=None)),
    ]
    chart = altair.layer(*layers, data=frame)
    high = len(rows) * CELL[of.size]
    data = cells.assign(**{name: shown(cells[name], of.metric) for name in ("mean", "low", "high")})
    data = data.drop(columns="networks").rename(columns={"mean": titled(of.metric)})
    if of.facet:
        labels = max(map(len, rows)) * 6 + 30
        return in_panels(chart, list(dict.fromkeys(frame["facet"])), of.size, labels, high), data, []
    fit = altair.AutoSizeParams(type="fit-x", contains="padding")
    return chart.properties(width=style.PIXELS[of.size], height=high, autosize=fit), data, []


def _names(values: pd.Series) -> list[str]:
    """The values of an axis in their order, what is missing last."""
    return list(dict.fromkeys(values.sort_values().map(text_of)))


def _steps(values: np.ndarray, metric: str) -> np.ndarray:
    """The step of colour of each figure, from 0 to 6; -1 where there is none. Shares of units begin at none."""
    if metric in LOG_METRICS:
        values = np.log(np.where(values > 0, values, np.nan))
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if counts_units(metric):
        low, high = 0.0, max(high, 0.1)
    count = len(style.SEQUENTIAL)
    parts = (values - low) / ((high - low) or 1.0) * count
    return np.where(np.isfinite(parts), np.clip(np.nan_to_num(parts, posinf=0, neginf=0), 0, count - 1), -1).astype(int)
