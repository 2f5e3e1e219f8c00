"""What theory predicts of networks at initialisation, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from actbench.base.lazy import altair as alt
from actbench.figures.arrangement import AT_START, arranged, evenly
from actbench.figures.figure import Figure
from actbench.figures.remembered import remembered
from actbench.figures.style import BAD, MUTED, PIXELS, SERIES
from actbench.figures.words import titled
from actbench.report.stats import swept_axes, text_of
from actbench.results.columns import FINISHED
from actbench.results.frames import Results
from actbench.results.measures import is_fraction
from actbench.verdicts.theory import VARIANCES, at_start, predictions

METRICS = ("sparsity", "delta_norm_ratio")
MOST = 150  # cells that are drawn of a metric
COLUMNS = ("cell", "metric", "predicted", "measured", "tolerance", "deviates")
SIDE = 230  # pixels of a panel


def has_predictions(results: Results) -> bool:
    """Whether theory speaks of some network of a study."""
    runs = results.runs
    known = runs["model"].eq("mlp") & runs["norm"].eq("none") & runs["init"].isin(VARIANCES) & runs["status"].eq("completed")
    return bool(known.any()) and not _of_study(results).empty


def predicted(results: Results) -> Figure:
    """Theory and measurement in each cell of a study."""
    return _drawn(_of_study(results))


def has_predictions_of(trial: Mapping[str, Any]) -> bool:
    """Whether theory speaks of some claim."""
    return not _of_trial(trial).empty


def predicted_of(trial: Mapping[str, Any]) -> Figure:
    """Theory and measurement as the claims of a trial have them."""
    return _drawn(_of_trial(trial))


def _drawn(frame: pd.DataFrame) -> Figure:
    """On the line both are equal."""
    metrics = [metric for metric in METRICS if (frame["metric"] == metric).any()]
    drawn, notes = [], []
    for metric in metrics:
        some = frame[frame["metric"] == metric]
        if len(some) > MOST:
            kept = [*some.index[some["deviates"]][:MOST], *evenly(list(some.index[~some["deviates"]]), MOST)][:MOST]
            notes.append(f"Shown are {MOST} of {len(some):,} cells for {titled(metric).partition(' (')[0].lower()}.")
            some = some.loc[sorted(kept)]
        drawn.append(some)
    shown = pd.concat(drawn, ignore_index=True)
    charts = [_panel(shown[shown["metric"] == metric], metric) for metric in metrics]
    deviating = frame[frame["deviates"]]
    if deviating.empty:
        found = f"None of {len(frame):,} figures deviates from theory by more than sampling explains."
    else:
        told = ", ".join(deviating["cell"].head(5))
        more = f" and {len(deviating) - 5:,} more" if len(deviating) > 5 else ""
        found = f"{len(deviating):,} of {len(frame):,} figures deviate by more than sampling explains (crosses): {told}{more}."
    text = (
        f"{found} Of networks at initialisation, before any step: mean-field theory across, the mean over seeds up; on the line "
        "they are equal."
    )
    chart = alt.hconcat(*charts, spacing=40) if len(charts) > 1 else charts[0]
    figures = ("predicted", "measured", "tolerance")
    data = shown.assign(**{name: [float(f"{value:.4g}") for value in shown[name]] for name in figures})
    return Figure("predicted", "Predicted beside measured, at initialisation", " ".join([text, *notes]), chart, data)


def _of_trial(trial: Mapping[str, Any]) -> pd.DataFrame:
    """What the claims of a trial say of theory."""
    rows = []
    for claim in trial["claims"]:
        for one in claim.get("theory") or ():
            if one["metric"] in METRICS:
                settings = {name: value for name, value in one["settings"].items() if value is not None and name != "dtype"}
                cell = ", ".join([claim["id"], *(_setting(name, value) for name, value in settings.items())])
                rows.append({**one, "cell": cell})
    return pd.DataFrame(rows, columns=list(COLUMNS)).drop_duplicates(ignore_index=True)


@remembered
def _of_study(results: Results) -> pd.DataFrame:
    """Of the cells of a study, by all that was swept and matters at initialisation; networks that diverged later count, too."""
    runs = arranged(results).runs
    by = [name for name in swept_axes(runs) if name in AT_START] or ["model"]
    classes = {name: facts.get("classes") or 0 for meta in results.meta for name, facts in meta.get("datasets", {}).items()}
    starts = at_start(results)
    starts = starts[starts["status"].isin(FINISHED)].drop_duplicates([*AT_START, "seed"]).assign(status="completed")
    found = []
    for metric in METRICS:
        rows = predictions(starts[starts[metric].notna()], by, metric, classes)
        cells = [", ".join(_setting(name, row[name]) for name in by) for row in rows.to_dict("records")]
        found.append(rows.assign(cell=cells, metric=metric)[list(COLUMNS)])
    return pd.concat(found, ignore_index=True).astype({"deviates": bool})


def _setting(name: str, value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{name} {text_of(value)}"


def _panel(frame: pd.DataFrame, metric: str) -> Any:
    """One metric: fractions from 0 to 100 %, ratios on a log scale."""
    times = 100 if is_fraction(metric) else 1
    frame = frame.assign(predicted=times * frame["predicted"], measured=times * frame["measured"])
    logarithmic = metric == "delta_norm_ratio"
    if logarithmic:
        frame = frame[(frame["predicted"] > 0) & (frame["measured"] > 0)]
    values = frame[["predicted", "measured"]].to_numpy(float)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.5, 2.0)
    room = (high / low) ** 0.05 * 1.1 if logarithmic else 0.05 * (high - low) + 1
    domain = [low / room, high * room] if logarithmic else [max(low - room, 0.0), min(high + room, 100.0)]
    ticks = {}
    if logarithmic and domain[1] > 100 * domain[0]:
        powers = range(int(np.ceil(np.log10(domain[0]))), int(np.log10(domain[1])) + 1)
        ticks = {"values": [10.0**power for power in evenly(list(powers), 6)]}
    scale = alt.Scale(type="log" if logarithmic else "linear", domain=domain, nice=False)
    axis = alt.Axis(format=".2~g" if logarithmic else ".4~g", tickCount=5, grid=True, **ticks)

    def place(channel: Any, field: str, title: str) -> Any:
        return channel(f"{field}:Q", scale=scale, axis=axis, title=title)

    what = titled(metric)
    x, y = place(alt.X, "predicted", f"{what}, predicted"), place(alt.Y, "measured", f"{what}, measured")
    ends = alt.Chart(pd.DataFrame({"predicted": domain, "measured": domain}))
    line = ends.mark_line(color=MUTED, strokeWidth=1).encode(x=x, y=y)
    kinds = [False, True]
    base = alt.Chart(frame.drop(columns=["tolerance", "metric", "cell"]))
    marks = base.mark_point(filled=True).encode(
        x=x,
        y=y,
        shape=alt.Shape("deviates:N", scale=alt.Scale(domain=kinds, range=["circle", "cross"]), legend=None),
        color=alt.Color("deviates:N", scale=alt.Scale(domain=kinds, range=[SERIES[0], BAD]), legend=None),
        size=alt.Size("deviates:N", scale=alt.Scale(domain=kinds, range=[30, 70]), legend=None),
    )
    side = min(SIDE, PIXELS["wide"] // 2 - 90)
    return alt.layer(line, marks).properties(width=side, height=side)
