"""How well networks do at each learning rate: which one is chosen, and which work."""

from __future__ import annotations

import numpy as np
import pandas as pd

from actbench.figures.arrangement import Arrangement, arranged
from actbench.figures.figure import Figure
from actbench.figures.measured import measure
from actbench.figures.overlays import with_holes, with_rings
from actbench.figures.series import Series, lines
from actbench.figures.words import titled, words
from actbench.results.frames import Results
from actbench.results.measures import choosing_metric

WITHIN = 0.01  # of the best validation accuracy, up to which a rate works
WITHIN_LOSS = 0.05  # of the best loss, as a share of it, where nothing is classified


def has_rates(results: Results) -> bool:
    """Whether several rates were tried."""
    study = arranged(results)
    return "lr" in study.axes and bool(study.runs[choosing_metric(study.runs)].notna().any())


def accuracy_by_rate(results: Results) -> Figure:
    """Validation accuracy over learning rates, a line for each value of the leading axis; rings around the chosen rates, holes in
    the marks of those that do not work."""
    study = arranged(results)
    metric = choosing_metric(study.runs)
    lead = study.lines if study.lines and study.lines.axis != "lr" else None
    where = {lead.axis: lead.values} if lead and lead.note else {}
    of = Series(metric, "lr", lead.axis if lead else None, None, "wide")
    measured = measure(study.results, metric, of.axes, where=where, choose_among=())
    cells = _judged(study, measured.cells, of)
    chart, data, remarks = lines(cells[measured.cells.columns], of)
    with_rings(chart, of, cells.rename(columns={"chosen": "ringed"}))
    with_holes(chart, of, cells.assign(hollow=~cells["works"]))
    data = data.assign(chosen=cells["chosen"], works=cells["works"])
    by = f" by {words(lead.axis)}" if lead else ""
    title = f"{titled(metric).partition(' (')[0]} over learning rates{by}"
    near = f"{100 * WITHIN:g} point" if metric.endswith("_accuracy") else f"{100 * WITHIN_LOSS:g} %"
    text = (
        f"{title}. {' '.join(measured.notes)} A ring is around the rate that does best among those with the fewest diverged "
        f"networks. Marks without a hole are rates that work: their mean is within {near} of the best, and no network diverged."
    )
    notes = [lead.note] if lead and lead.note else []
    return Figure("accuracy_by_lr", title, " ".join([text, *notes, *remarks]), chart, data)


def _judged(study: Arrangement, cells: pd.DataFrame, of: Series) -> pd.DataFrame:
    """Cells with ``diverged``, ``chosen`` and ``works``."""
    axes = of.axes
    shares = study.runs.assign(diverged=study.runs["status"].eq("diverged")).groupby(axes, dropna=False)["diverged"].sum()
    cells = cells.merge(shares.reset_index(), on=axes, how="left")
    sign = 1.0 if of.metric.endswith("_accuracy") else -1.0
    score = sign * cells["mean"].where(np.isfinite(cells["mean"]))
    part = cells[of.hue] if of.hue else pd.Series(0, cells.index)
    first = cells.assign(score=score, part=part).sort_values(["diverged", "score"], ascending=[True, False], kind="stable")
    chosen = first.drop_duplicates("part").index
    best = score.groupby(part, dropna=False).transform("max")
    slack = WITHIN if sign > 0 else WITHIN_LOSS * best.abs()
    return cells.assign(chosen=cells.index.isin(chosen), works=(score >= best - slack) & cells["diverged"].eq(0))
