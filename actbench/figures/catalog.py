"""The figures of a page by name: which there are, and each of them. One with nothing to show is not among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from actbench.base.errors import UserError, unknown
from actbench.figures import arms, claims, curves, functions, heatmaps, life, predicted, ranked, rates
from actbench.figures.figure import Figure
from actbench.figures.questions import KINDS
from actbench.figures.trial import verdicts
from actbench.report.stats import finished
from actbench.results.columns import FINISHED
from actbench.results.frames import Results

Trial = Mapping[str, Any]
Pair = tuple[Callable[..., bool], Callable[..., Figure]]  # whether there is something to show, and the figure

# figures of a study, of its results; heat maps are by name, and come after the curves
CURVES: dict[str, Pair] = {
    "ranking": (ranked.has_ranking, ranked.ranked),
    **{
        name: (partial(curves.has_training, name=name), partial(curves.over_training, name=name)) for name in curves.OVER_TRAINING
    },
}
STUDY: dict[str, Pair] = {
    **CURVES,
    **{one: (partial(curves.has_layers, name=one), partial(curves.by_layer, name=one)) for one in curves.BY_LAYER},
    "activations": (functions.has_functions, functions.activations),
    "unit_life": (life.has_life, life.unit_life),
    "accuracy_by_lr": (rates.has_rates, rates.accuracy_by_rate),
    "predicted": (predicted.has_predictions, predicted.predicted),
}
# of a trial's results and one of its claims
CLAIM: dict[str, Pair] = {
    "claim": (claims.has_figure, claims.claim_figure),
    "curves": (arms.has_curves, arms.curves),
    "rates": (arms.has_rates, arms.rates),
}
# of a trial besides its verdicts; other figures of a study would pool networks of unlike claims
OF_TRIAL = ("activations",)


def figure_names(results: Results, trial: Trial | None = None) -> list[str]:
    """The figures that there are, in the order of the page.

    Args:
        results: of one or more folders, perhaps of an unfinished run.
        trial: what ``verdict_file.read_verdicts`` gives, for the folder of a trial.
    """
    if trial is not None:
        of_claims = [f"{kind}_{claim['id']}" for claim in trial["claims"] for kind in CLAIM]
        names = ["verdicts", *of_claims, *OF_TRIAL, "predicted"]
        return [name for name in names if _found(results, name, trial)]
    if not results.runs["status"].isin(FINISHED).any():
        return []
    names = [name for name in STUDY if _found(results, name, None)]
    first = sum(name in CURVES for name in names)
    return [*names[:first], *heatmaps.heatmap_names(results), *names[first:]]


def figure(results: Results, name: str, trial: Trial | None = None) -> Figure:
    """A figure by its name, of a heat map with its axes in either order; UserError for one that there is not."""
    found = _found(results, name, trial)
    if found is None:
        if trial is None:
            finished(results.runs)
        known = [*figure_names(results, trial), *KINDS]
        if name in STUDY:
            raise UserError(f"figure '{name}': there is nothing to show in it of these results; there are {', '.join(known)}")
        raise unknown("figure", name, known)
    return found()


def _found(results: Results, name: str, trial: Trial | None) -> Callable[[], Figure] | None:
    """What draws a figure; None if there is none of this name, or it has nothing to show."""
    if trial is not None:
        if name == "verdicts":
            return partial(verdicts, trial) if trial["claims"] else None
        if name == "predicted":
            return partial(predicted.predicted_of, trial) if predicted.has_predictions_of(trial) else None
        kind, _, which = name.partition("_")
        claim = next((one for one in trial["claims"] if one["id"] == which), None)
        if kind in CLAIM and claim is not None:
            has, draw = CLAIM[kind]
            return partial(draw, results, claim) if has(results, claim) else None
        if name not in OF_TRIAL:
            return None
    if not results.runs["status"].isin(FINISHED).any():
        return None
    if name in STUDY:
        has, draw = STUDY[name]
        return partial(draw, results) if has(results) else None
    known = heatmaps.as_heatmap(results, name) if trial is None else None
    return partial(heatmaps.heatmap, results, known) if known else None
