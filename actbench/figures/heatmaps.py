"""Heat maps of dead units and accuracy over two swept axes, and how they are called."""

from __future__ import annotations

from dataclasses import replace

from actbench.figures.arrangement import Arrangement, arranged
from actbench.figures.cells import MOST_COLUMNS, MOST_ROWS
from actbench.figures.figure import Figure
from actbench.figures.questions import ask
from actbench.figures.remembered import remembered
from actbench.figures.words import words
from actbench.results.frames import Results
from actbench.results.measures import never_silent

METRICS = {"dead": "dead_fraction", "accuracy": "test_accuracy"}


@remembered
def heatmap_names(results: Results) -> list[str]:
    """The heat maps of a study: ``dead_by_X_and_Y``, ``accuracy_by_X_and_Y``; the axes that matter most first."""
    study = arranged(results)
    shown = [name for name in METRICS if has_metric(study, name)]
    return [f"{name}_by_{one}_and_{other}" for one, other in study.pairs if _fits(study, one, other) for name in shown]


def has_metric(study: Arrangement, name: str) -> bool:
    """Whether some network has the metric, and could have dead units if it is about these."""
    known = study.runs[study.runs[METRICS[name]].notna()]
    return len(known) > 0 and not (name == "dead" and never_silent(known))


def as_heatmap(results: Results, name: str) -> str | None:
    """The name of ``heatmap_names`` that a name means, with its axes in either order; None if none is meant."""
    names = heatmap_names(results)
    metric, _, axes = name.partition("_by_")
    one, _, other = axes.partition("_and_")
    return next((known for known in (name, f"{metric}_by_{other}_and_{one}") if known in names), None)


def heatmap(results: Results, name: str) -> Figure:
    """The heat map of this name, which is one of ``heatmap_names``."""
    study = arranged(results)
    metric, _, axes = name.partition("_by_")
    one, _, other = axes.partition("_and_")
    across, down = sorted((one, other), key=lambda axis: study.runs[axis].nunique(dropna=False))
    what = "Dead units" if metric == "dead" else "Test accuracy"
    title = f"{what} (%) by {words(one)} and {words(other)}"
    figure = ask(study.results, "heatmap", x=across, y=down, hue=METRICS[metric], size="wide", name=name, title=title)
    places = study.runs[[across, down]].drop_duplicates()
    missing = study.runs[across].nunique(dropna=False) * study.runs[down].nunique(dropna=False) - len(places)
    note = " Cells without a figure have no network here." if missing else ""
    return replace(figure, text=f"{figure.text}{note}")


def _fits(study: Arrangement, one: str, other: str) -> bool:
    """Whether the figures of all cells can be read."""
    few, many = sorted(study.runs[axis].nunique(dropna=False) for axis in (one, other))
    return few <= MOST_COLUMNS["wide"] and many <= MOST_ROWS
