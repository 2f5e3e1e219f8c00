"""Tables → verdicts: a pure function. The same claims and tables give the same answers, and the networks that are still missing.

Each arm is tuned on seeds of its own; at the chosen rate, arms are compared on judging seeds 0, 1, 2, …, at two looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from actbench.base.errors import UserError
from actbench.results.columns import EPOCHS_TO
from actbench.study.spec import RunSpec
from actbench.verdicts.answer import Verdict
from actbench.verdicts.check import Judged, evaluate
from actbench.verdicts.claim import OF_LAYERS, TO_TRAIN_LOSS, Arm, Cell, Claim
from actbench.verdicts.evidence import Evidence
from actbench.verdicts.looks import Look, combine, looks, verdict_over
from actbench.verdicts.tuning import QUICK_SEEDS, SEEDS, Choice, Missing, tune, tune_highest

Outcome = Literal["supported", "refuted", "mixed", "undecided", "holds", "fails"]
ALPHA = 0.05
PREDICTED = ("delta_norm_ratio", "sparsity")  # metrics that theory predicts at initialisation


@dataclass(frozen=True)
class Side:
    """One arm of a cell, as it was judged."""

    name: str
    tuned: Choice
    mean: float  # of the metric where it did not fail
    beside: Mapping[str, float] = field(default_factory=dict)  # further metrics, means where they are known
    networks: tuple[RunSpec, ...] = field(default=(), repr=False)  # of the judging seeds


@dataclass(frozen=True)
class CellResult:
    """One condition, judged."""

    name: str
    settings: Mapping[str, Any]
    judged: bool
    verdict: Verdict
    look: Look
    strict: str  # the outcome at the level shared by the claim's conditions
    treatment: Side
    control: Side


@dataclass(frozen=True)
class Foretold:
    """What theory predicts of networks at initialisation, beside what was measured."""

    metric: str
    settings: Mapping[str, Any]  # that tell these networks from the claim's others
    measured: float
    predicted: float
    tolerance: float  # that sampling allows, of delta_norm_ratio in decades
    deviates: bool


@dataclass(frozen=True)
class Result:
    """A claim, judged as far as the tables allow."""

    claim: Claim
    outcome: Outcome | None  # None: networks are missing, and without them there is nothing to say
    cells: tuple[CellResult, ...] = ()
    facts: tuple[tuple[str, Judged], ...] = ()  # of a kind fact: expression, answer
    shown: Mapping[str, float] = field(default_factory=dict)  # of a kind fact: expressions that stand beside
    seconds: Mapping[str, float] = field(default_factory=dict)  # of a kind timing: what was measured
    theory: tuple[Foretold, ...] = ()  # of metrics that the claim speaks of
    target: float = np.nan  # the training loss of `epochs_to_train_loss`
    missing: tuple[RunSpec, ...] = ()  # what has to be trained next; while there is something, the outcome may change
    trouble: str = ""  # why it cannot be judged
    stage: str = ""  # what they are for: tuning, or so many seeds


@dataclass(frozen=True)
class Bench:
    """How claims are judged: together with which others, how thoroughly, and on what."""

    family: int  # claims that share alpha; facts are none of them
    quick: bool
    evidence: Evidence
    timings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # claim's hash → what was measured

    @property
    def tuning_seeds(self) -> Sequence[int]:
        """Seeds on which rates are chosen."""
        return QUICK_SEEDS if self.quick else SEEDS

    def looks(self, cells: int = 1, *, fact: bool = False) -> tuple[Look, ...]:
        """When a claim is judged; ``cells`` of them share its level."""
        if self.quick:
            return looks(1, ALPHA / cells, quick=True)
        return looks((1 if fact else self.family) * cells, ALPHA)


def judge(claim: Claim, bench: Bench) -> Result:
    """The verdict on a claim, or what has to be trained before there is one.

    Figures that a claim cannot be judged by (a ratio of 0) are its own trouble: it stays undecided, and other claims go on.
    """
    try:
        return _judge(claim, bench)
    except UserError as error:
        return Result(claim, "undecided", trouble=str(error))


def _judge(claim: Claim, bench: Bench) -> Result:
    if claim.kind == "fact":
        return _fact(claim, bench)
    if claim.kind == "timing":
        return _timing(claim, bench)
    target = _target(claim, bench)
    if isinstance(target, Missing):
        return Result(claim, None, missing=target.networks, stage="tuning")
    tuned = [_tuned_pair(claim, cell, bench, target) for cell in claim.cells]
    if missing := [spec for one in tuned if isinstance(one, Missing) for spec in one.networks]:
        return Result(claim, None, missing=tuple(missing), stage="tuning")
    pairs = [one for one in tuned if not isinstance(one, Missing)]
    stages = bench.looks(fact=claim.fact)
    result, networks = Result(claim, None), []
    for look in stages:
        sides = [
            tuple(
                tuple(arm.specs(choice.values, range(look.seeds)))
                for arm, choice in zip((cell.treatment, cell.control), pair, strict=True)
            )
            for cell, pair in zip(claim.cells, pairs, strict=True)
        ]
        missing = [spec for pair in sides for side in pair for spec in side if not bench.evidence.has(spec)]
        if missing:
            return Result(claim, result.outcome, result.cells, target=target, missing=tuple(missing), stage=f"{look.seeds} seeds")
        judged = sum(cell.judged for cell in claim.cells)
        cells = [
            one
            for cell, pair, networks in zip(claim.cells, pairs, sides, strict=True)
            for one in _cells(claim, cell, pair, networks, bench, target, judged)
        ]
        counted = [cell for cell in cells if cell.judged]
        outcome = combine([cell.verdict.outcome for cell in counted], [cell.strict for cell in counted], claim.need)
        result = Result(claim, _as_fact(outcome) if claim.fact else outcome, tuple(cells), target=target)
        networks = [spec for pair in sides for side in pair for spec in side]
        if outcome != "undecided":
            break
    return replace(result, theory=_theory(claim, networks, bench.evidence))


def _theory(claim: Claim, networks: Sequence[RunSpec], evidence: Evidence) -> tuple[Foretold, ...]:
    """What theory predicts of a claim's networks at initialisation, in the metrics that the claim speaks of."""
    spoken = " ".join((claim.metric, *claim.beside, *claim.expect))
    found = []
    for metric in (name for name in PREDICTED if name in spoken):
        for row in evidence.theory(networks, metric).to_dict("records"):
            measured, predicted, tolerance = (float(row.pop(name)) for name in ("measured", "predicted", "tolerance"))
            deviates, _ = bool(row.pop("deviates")), row.pop("seeds")
            settings = {str(key): value for key, value in row.items()}
            found.append(Foretold(metric, settings, measured, predicted, tolerance, deviates))
    return tuple(found)


def _as_fact(outcome: str) -> Outcome:
    names: dict[str, Outcome] = {"supported": "holds", "refuted": "fails", "mixed": "fails"}
    return names.get(outcome, "undecided")


def _cells(
    claim: Claim,
    cell: Cell,
    tuned: tuple[Choice, Choice],
    networks: Sequence[Sequence[RunSpec]],
    bench: Bench,
    target: float,
    count: int,
) -> list[CellResult]:
    """A cell, judged; of a metric of layers, one for each hidden layer."""
    found = [bench.evidence.figures(one, claim.metric, learning=claim.judges_learning, target=target) for one in networks]
    layers: list[tuple[str, list[np.ndarray]]] = [(cell.name, found)]
    if claim.metric.startswith(OF_LAYERS):
        count *= found[0].shape[1]
        prefix = f"{cell.name}, " if cell.name else ""
        layers = [(f"{prefix}layer {place + 1}", [values[:, place] for values in found]) for place in range(found[0].shape[1])]
    how: dict[str, Any] = {"margin": claim.margin, "better": claim.better, "kind": claim.kind}
    results = []
    for name, (ours, theirs) in layers:
        verdict, look = verdict_over(bench.looks(fact=claim.fact), list(ours), list(theirs), **how)
        strict, _ = verdict_over(bench.looks(count, fact=claim.fact), list(ours), list(theirs), **how)
        sides = []
        for arm, choice, some, values in zip((cell.treatment, cell.control), tuned, networks, (ours, theirs), strict=True):
            beside = {metric: _mean(bench.evidence.figures(some, metric, learning=False)) for metric in claim.beside}
            sides.append(Side(arm.name, choice, _mean(values[: look.seeds]), beside, tuple(some[: look.seeds])))
        results.append(CellResult(name, cell.settings, cell.judged, verdict, look, strict.outcome, *sides))
    return results


def _mean(values: np.ndarray) -> float:
    """Of those that are known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _tuned_pair(claim: Claim, cell: Cell, bench: Bench, target: float) -> tuple[Choice, Choice] | Missing:
    """What is chosen for both arms of a cell."""
    arms = (cell.treatment, cell.control)
    found = [None if arm.shares_tuning else _tuned(claim, arm, bench, target) for arm in arms]
    missing = tuple(spec for one in found if isinstance(one, Missing) for spec in one.networks)
    if missing:
        return Missing(missing)
    ours, theirs = (one if isinstance(one, Choice) else None for one in found)
    treatment, control = ours or theirs, theirs or ours
    assert treatment is not None and control is not None
    return treatment, control


def _tuned(claim: Claim, arm: Arm, bench: Bench, target: float) -> Choice | Missing:
    widenings = {"widenings": 0} if bench.quick else {}
    if claim.choose == "highest" and arm.tune:
        return tune_highest(arm, bench.evidence, bench.tuning_seeds, **widenings)
    return tune(arm, bench.evidence, _score(claim, bench.evidence, target), bench.tuning_seeds, **widenings)


def _score(claim: Claim, evidence: Evidence, target: float) -> Callable[[Sequence[RunSpec]], tuple[int, float]]:
    """How a grid point does on tuning seeds: failures, then the mean of what the claim judges, on validation data."""
    metric = claim.chosen_by

    def score(networks: Sequence[RunSpec]) -> tuple[int, float]:
        if metric in (*EPOCHS_TO, TO_TRAIN_LOSS):
            epochs = evidence.figures(networks, metric, learning=True, target=target)
            return int(np.isnan(epochs).sum()), _mean(epochs)
        failed = ~evidence.learned(networks, "validation")
        values = evidence.plain(networks, metric)[~failed]
        return int(failed.sum()), (-1 if metric.endswith("_accuracy") else 1) * _mean(values)

    return score


def _target(claim: Claim, bench: Bench) -> float | Missing:
    """The training loss that networks have to reach, if the claim has one."""
    if claim.target is None:
        return np.nan
    arms = {"treatment": claim.cells[0].treatment, "control": claim.cells[0].control}
    epoch, evidence = claim.target.epoch, bench.evidence

    def score(networks: Sequence[RunSpec]) -> tuple[int, float]:
        losses = evidence.loss_at(networks, epoch)
        return int(np.isinf(losses).sum()), float(losses.mean())

    choice = tune(arms[claim.target.arm], evidence, score, bench.tuning_seeds, **({"widenings": 0} if bench.quick else {}))
    return choice if isinstance(choice, Missing) else float(evidence.loss_at(choice.networks, epoch).mean())


def _fact(claim: Claim, bench: Bench) -> Result:
    if missing := tuple(spec for spec in claim.study if not bench.evidence.has(spec)):
        return Result(claim, None, missing=missing, stage="facts")
    tables = bench.evidence.rows(claim.study)
    answers = [(text, evaluate(text, *tables, bench.evidence.chance)) for text in claim.expect]
    shown = {text: evaluate(f"{text} >= 0", *tables, bench.evidence.chance).value for text in claim.beside}
    outcomes = {judged.outcome for _, judged in answers}
    outcome: Outcome = "fails" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "holds"
    return Result(claim, outcome, facts=tuple(answers), shown=shown, theory=_theory(claim, claim.study, bench.evidence))


def _timing(claim: Claim, bench: Bench) -> Result:
    measured = bench.timings.get(claim.hash)
    if measured is None:
        return Result(claim, None, stage="timing")
    low, high = measured["low"], measured["high"]
    outcome: Outcome = "holds" if low > claim.margin else "fails" if high < claim.margin else "undecided"
    return Result(claim, outcome, seconds=measured)
