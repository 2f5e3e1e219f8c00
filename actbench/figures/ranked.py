"""The cells of a report's ranking as points with intervals, best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from actbench.base.lazy import altair as alt
from actbench.figures.figure import Figure
from actbench.figures.measured import shown
from actbench.figures.style import FG, MUTED, PIXELS, SERIES
from actbench.figures.words import titled
from actbench.report.render import MOST_ROWS, heading
from actbench.report.stats import Ranking, ranking, text_of
from actbench.report.tables import with_units
from actbench.results.columns import FINISHED
from actbench.results.frames import Results
from actbench.results.measures import chance_levels, chance_of, default_metric, order
from actbench.science.activations import ACTIVATIONS
from actbench.study.spec import SETTINGS

LAST = 5  # of the shown cells that are the worst, where there are too many
ROW = 16  # pixels


def has_ranking(results: Results) -> bool:
    """Whether some network has a finite figure to be ranked by."""
    runs = results.runs
    return bool(np.isfinite(runs.loc[runs["status"].isin(FINISHED), default_metric(runs)].astype(float)).any())


def ranked(results: Results) -> Figure:
    """The figure of the report on a study."""
    named = {tuple(meta["study"].get("report_by") or ()) for meta in results.meta}
    axes = [axis for axis in (named.pop() if len(named) == 1 else ()) if axis in SETTINGS]
    chance = chance_levels(results.meta)
    runs = with_units(results)
    found = ranking(runs, axes, choose_all=bool(axes), chance=chance)
    return ranking_figure(found, guessing_in(results))


def guessing_in(results: Results) -> float | None:
    """The accuracy of guessing, if all of the data have one."""
    chance = chance_levels(results.meta)
    guessing = {chance_of(str(name), chance)[0] for name in results.runs["dataset"].unique()}
    return guessing.pop() if len(guessing) == 1 else None


def ranking_figure(found: Ranking, guessing: float | None = None) -> Figure:
    """A ranking by its first metric.

    Args:
        found: of any axes and metrics.
        guessing: the accuracy of guessing, if all of the data have one.
    """
    metric = found.metrics[0]
    cells = found.cells.sort_values(metric, key=lambda column: _best_first(column, found), kind="stable").reset_index(drop=True)
    labels = [_label(row) for row in cells[found.by].to_dict("records")]
    figures = {name: shown(cells[column], metric) for name, column in (("mean", metric), ("low", f"{metric}_low"),
                                                                      ("high", f"{metric}_high"))}  # fmt: skip
    frame = pd.DataFrame({"cell": labels, **figures, "seeds": cells["seeds"], "networks": cells["networks"]})
    frame = frame[np.isfinite(frame["mean"])]
    count, without = len(frame), len(labels) - len(frame)
    if count > MOST_ROWS:
        frame = pd.concat([frame[: MOST_ROWS - LAST], frame[-LAST:]])
    notes = [heading(found).removesuffix(":") + "."]
    if count > MOST_ROWS:
        notes.append(f"Shown are the best {MOST_ROWS - LAST} and the last {LAST} of {count:,} cells.")
    if without:
        notes.append(f"{without:,} cells have no finite figure and are left out.")
    line = 100 * guessing if guessing and metric.endswith("_accuracy") else None
    if line is not None:
        notes.append(f"Dashed: guessing ({line:g} %).")
    title = f"{titled(metric).partition(' (')[0]} by {', '.join(found.by)}, best first"
    return Figure("ranking", title, " ".join([*notes, *map(_sentence, found.remarks)]), _chart(frame, metric, line), frame)


def _best_first(column: pd.Series, found: Ranking) -> pd.Series:
    """The order of the ranking, without its groups."""
    return order(column, found.metrics[0])


def _label(row: Mapping[Any, Any]) -> str:
    """A cell's values: ``relu, depth 2``."""
    parts = [text_of(value) if isinstance(value, str) else f"{axis} {text_of(value)}" for axis, value in row.items()]
    return ", ".join(parts)


def _sentence(remark: str) -> str:
    """A remark of a report in a caption, where no option of the command helps."""
    text = remark.partition("; --")[0]
    named = text.partition(" ")[0].strip(",") in ACTIVATIONS
    return f"{text if named else text[0].upper() + text[1:]}."


def _chart(frame: pd.DataFrame, metric: str, line: float | None) -> Any:
    axis = alt.Axis(grid=True, tickCount=6, format=".4~g")
    names = alt.Axis(ticks=False, domain=False, labelLimit=300, grid=False)
    base = alt.Chart(frame).encode(y=alt.Y("cell:N", sort=list(frame["cell"]), title=None, axis=names))

    def x(column: str) -> Any:
        return alt.X(f"{column}:Q", title=titled(metric), axis=axis, scale=alt.Scale(zero=False))

    layers = []
    if line is not None:
        at = alt.Chart(pd.DataFrame({"guessing": [line]}))
        layers.append(at.mark_rule(strokeDash=[4, 3], color=FG).encode(x=x("guessing")))
    if frame["low"].notna().any():
        layers.append(base.mark_rule(strokeWidth=1.5, color=MUTED).encode(x=x("low"), x2="high:Q"))
    layers.append(base.mark_point(filled=True, color=SERIES[0]).encode(x=x("mean")))
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    return alt.layer(*layers).properties(width=PIXELS["wide"], height=alt.Step(ROW), autosize=fit)
