"""Curves of a study: accuracy, loss and dead units over training; gradients by layer, with theory's line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from actbench.base.errors import UserError
from actbench.figures.arrangement import (
    AT_START,
    MOST_PANELS,
    MOST_POINTS,
    Arrangement,
    Shown,
    arranged,
    evenly,
    layers_at_the_end,
    limited,
)
from actbench.figures.figure import Figure
from actbench.figures.measured import measure
from actbench.figures.overlays import with_theory
from actbench.figures.remembered import remembered
from actbench.figures.series import Series, lines
from actbench.figures.words import words
from actbench.report.render import listed
from actbench.report.stats import text_of
from actbench.results.columns import FINISHED
from actbench.results.frames import Results
from actbench.verdicts.theory import delta_ratios, network_of

# figure → the metric, and what stands before "over training"
OVER_TRAINING: Mapping[str, tuple[str, str]] = {
    "accuracy_by_epoch": ("test_accuracy", "Test accuracy"),
    "loss_by_epoch": ("train_loss", "Training loss"),
    "dead_by_epoch": ("dead_fraction", "Dead units"),
}
BY_LAYER = {"grad_norm_by_layer": "grad_norm", "delta_by_layer": "delta_norm"}  # figure → column of layers.csv


def over_training(results: Results, name: str) -> Figure:
    """Curves over training, a line for each value of the leading axis, a panel for each of the next."""
    metric, what = OVER_TRAINING[name]
    study = arranged(results)
    return _drawn(study, study.results, name, f"{what} over training", metric, _time(results), study.panels)


def has_training(results: Results, name: str) -> bool:
    """Whether there is a curve: a metric at two evaluations."""
    history = results.history
    return history.loc[history[OVER_TRAINING[name][0]].notna(), _time(results)].nunique() > 1


def _time(results: Results) -> str:
    """What time is counted in: steps where a probe did not know its epochs."""
    return "epoch" if results.history["epoch"].notna().all() else "step"


def by_layer(results: Results, name: str) -> Figure:
    """The gradient norm by layer at the last evaluation, or δ by layer at the first; a panel for each depth."""
    study = arranged(results)
    depth = next((one for one in (study.lines, study.panels) if one and one.axis == "depth"), None)
    panels = study.panels
    if depth is None and study.runs["depth"].nunique() > 1 and study.lines:
        panels = limited(study.runs, "depth", MOST_PANELS)
    if name == "grad_norm_by_layer":
        return _drawn(study, study.results, name, "Gradient norm by layer", "grad_norm", "layer", panels)
    title = "δ by layer over that of the last hidden layer, at the start"
    return _drawn(study, _starts(study.results), name, title, BY_LAYER[name], "layer", panels)


def has_layers(results: Results, name: str) -> bool:
    """Whether some network has two hidden layers and a figure of them."""
    layers = layers_at_the_end(results) if name == "grad_norm_by_layer" else results.layers
    return bool((layers.loc[layers[BY_LAYER[name]].gt(0), "layer"] > 1).any())


@remembered
def _starts(results: Results) -> Results:
    """Networks at epoch 0, those that differ in training alone once, with ``delta_norm`` over that of the last hidden layer."""
    runs, layers = results.runs, results.layers
    runs = runs[runs["status"].isin(FINISHED)].drop_duplicates([*AT_START, "seed"]).assign(status="completed")
    key = [name for name in ("run_id", "folder") if name in layers]
    rows = layers[(layers["epoch"] == 0) & layers["run_id"].isin(runs["run_id"])].sort_values([*key, "layer"])
    last = rows.groupby(key)["delta_norm"].transform("last")
    return replace(results, runs=runs, layers=rows.assign(delta_norm=rows["delta_norm"] / last.where(last > 0)))


def _drawn(study: Arrangement, results: Results, name: str, title: str, metric: str, x: str, panels: Shown | None) -> Figure:
    parts = [one for one in (study.lines, panels) if one is not None]
    of = Series(metric, x, study.lines.axis if study.lines else None, panels.axis if panels else None, "wide")
    measured = measure(results, metric, of.axes, where={one.axis: one.values for one in parts if one.note})
    cells, notes = measured.cells, [*measured.notes, *(one.note for one in parts if one.note)]
    if name == "delta_by_layer":
        notes[0] = notes[0].replace("at the last evaluation", "before any step")
    if x == "layer":
        layers = sorted(cells["layer"].unique())
        kept = evenly(layers, max(12, MOST_POINTS * len(layers) // len(cells)))
        cells = cells[cells["layer"].isin(kept)].reset_index(drop=True)
    chart, data, remarks = lines(cells, of)
    if name == "delta_by_layer":
        cells["theory"] = _theory(study, of, cells)
        if cells["theory"].notna().any():
            with_theory(chart, of, cells)
            data["theory"] = cells["theory"]
            notes.append("Dotted: what mean-field theory predicts, where it does.")
    over = listed([words(axis) for axis in of.axes[:-1]])
    heading = f"{title}, by {over}" if over else title
    return Figure(name, heading, " ".join([f"{heading}.", *notes, *remarks]), chart, data, "wide")


def _theory(study: Arrangement, of: Series, cells: pd.DataFrame) -> list[float]:
    """What theory predicts of each cell; NaN where it says nothing of one of the networks."""
    axes = of.axes[:-1]
    classes = {name: facts.get("classes") or 0 for meta in study.results.meta for name, facts in meta.get("datasets", {}).items()}
    rows = study.runs.drop_duplicates([*AT_START, "parameters"])
    known: dict[tuple[str, ...], list[list[float]]] = {}
    for row in rows.to_dict("records"):
        try:
            found = [np.nan if one is None else one.value for one in delta_ratios(*network_of(row, classes))]
        except (UserError, ValueError, OverflowError):
            found = []
        known.setdefault(tuple(text_of(row[axis]) for axis in axes), []).append(found)
    values = []
    for cell in cells.to_dict("records"):
        of_cell = known.get(tuple(text_of(cell[axis]) for axis in axes), [])
        at_layer = [one[int(cell["layer"]) - 1] if cell["layer"] <= len(one) else np.nan for one in of_cell]
        values.append(float(np.mean(at_layer)) if at_layer else np.nan)
    return values
