"""A verdict on two paired samples: is the treatment better than the control, by more than a margin, beyond chance?

Two endpoints. *Failure*: the exact paired test of seeds on which only one arm failed. *Score*: the exact sign-flip test of the
differences of seeds on which both learned. They share one level (`shares`), so that a false answer in either direction comes up
with at most that probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, SupportsFloat

import numpy as np

from actbench.base.errors import UserError, shown, unknown
from actbench.verdicts.answer import Answer, Verdict, exp
from actbench.verdicts.failures import Failures, failures
from actbench.verdicts.power import seeds_to_decide
from actbench.verdicts.sign_flip import can_decide, p_above, p_below, sign_above, sign_below

KINDS = ("difference", "equivalence", "ratio")
BETTER = ("higher", "lower")
MOST_CLAIMS = 1_000_000
FAILURE_SHARE = 0.2  # of the level, where both endpoints could decide


def verdict(
    treatment: Iterable[float],
    control: Iterable[float],
    *,
    margin: float = 0.0,
    better: str = "higher",
    kind: str = "difference",
    claims: int = 1,
    alpha: float = 0.05,
) -> Verdict:
    """Puts "treatment is better than control by more than ``margin``" on trial, from two samples paired by place (by seed).

    NaN is a run that failed. ``supported`` says that the claim holds, ``refuted`` that it does not (the advantage is below the
    margin), each in error with probability ``alpha / claims`` at most, where differences are symmetric about their centre.
    ``kind``: a ``difference``; an ``equivalence`` (supported: the difference lies within ± margin; refuted: outside); a ``ratio``
    of positive figures (``margin`` is a ratio such as 1.2; an infinite figure failed). A negative margin, or a ratio below 1,
    asks whether the treatment is not worse by that much. UserError where arguments make no sense.

    >>> print(actbench.verdict([0.91, 0.92, 0.93, 0.92, 0.92, 0.9], [0.89, 0.9, 0.9, 0.9, 0.91, 0.89], margin=0.005))
    """
    if isinstance(claims, bool) or not isinstance(claims, (int, np.integer)) or not 1 <= claims <= MOST_CLAIMS:
        raise UserError(f"claims={shown(claims)}: how many claims share alpha is a whole number from 1 to {MOST_CLAIMS:,}")
    level = _number("alpha", alpha)
    if not 0 < level < 1:
        raise UserError(f"alpha={shown(alpha)}: a probability of error lies between 0 and 1, both excluded")
    return verdict_at(level / claims, treatment, control, margin=margin, better=better, kind=kind)


def verdict_at(
    level: float,
    treatment: Iterable[float],
    control: Iterable[float],
    *,
    margin: float = 0.0,
    better: str = "higher",
    kind: str = "difference",
) -> Verdict:
    """The verdict at a given one-sided level of this claim; arguments and errors as of `verdict`."""
    margin = _number("margin", margin)
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if better not in BETTER:
        raise unknown("better", better, BETTER)
    if kind != "difference" and margin <= 0:
        raise UserError(f"margin={margin:g}: of kind {kind} it is above 0" + (", a ratio such as 1.2" if kind == "ratio" else ""))
    differences, failed = _endpoints(treatment, control, kind)
    gains = -differences if better == "lower" else differences
    threshold = math.log(margin) if kind == "ratio" else margin

    two_sided = kind == "equivalence"  # failures refute it either way, which takes one discordant seed more
    level_score, level_failure = shares(level, len(gains), failed.discordant - two_sided)
    by_score = _p_of_claim(gains, threshold, kind, p_above, p_below)
    by_failure = _p_of_failure(failed, kind)
    outcome, decided_by, note = _weigh(_answer(*by_score, level_score), _answer(*by_failure, level_failure), failed, kind)

    mean = float(differences.mean()) if len(differences) else math.nan
    p_supported, p_refuted = by_failure if decided_by == "failure" else by_score
    sign_supported, sign_refuted = _p_of_claim(gains, threshold, kind, sign_above, sign_below)
    return Verdict(
        outcome=outcome,
        effect=exp(mean) if kind == "ratio" else mean,
        p_supported=p_supported,
        p_refuted=p_refuted,
        failed=failed,
        pairs=len(gains),
        decided_by=decided_by,
        note=note,
        level=level,
        level_score=level_score,
        level_failure=level_failure,
        margin=margin,
        better=better,
        kind=kind,
        sign_supported=sign_supported,
        sign_refuted=sign_refuted,
        would_take=seeds_to_decide(gains, threshold, level, kind) if outcome == "undecided" and not note else None,
        differences=tuple(differences.tolist()),
    )


def shares(level: float, pairs: int, discordant: int) -> tuple[float, float]:
    """What score and failure get of a claim's level: 4/5 and 1/5 where both can decide with that; else all for one of them.

    How many seeds tell the arms apart by failure, and on how many both learned, says nothing about which arm is better: given
    these two numbers each test is exact, so dividing by them keeps the level. An endpoint that cannot decide, whatever the signs,
    therefore leaves its part to the other: without failures the score has it all, and where one arm fails so often that too few
    pairs are left, failure alone decides. (With 20 seeds and 30 claims both can never decide.)
    """
    if not can_decide(discordant, FAILURE_SHARE * level):
        return (level, 0.0) if can_decide(pairs, level) else (0.0, level)
    failure = FAILURE_SHARE * level
    return (level - failure, failure) if can_decide(pairs, level - failure) else (0.0, level)


PTest = Callable[[np.ndarray, float], float]


def _p_of_claim(gains: np.ndarray, margin: float, kind: str, above: PTest, below: PTest) -> tuple[float, float]:
    """p of "the claim does not hold" and of "it holds", by a test of one side and of the other."""
    if kind != "equivalence":
        return above(gains, margin), below(gains, margin)
    # within both margins: both tests have to reject; outside: either may, which is two chances to err
    return max(above(gains, -margin), below(gains, margin)), min(1.0, 2 * min(above(gains, margin), below(gains, -margin)))


def _p_of_failure(failed: Failures, kind: str) -> tuple[float, float]:
    """The same by failures alone: failing less supports a claim; failing unequally refutes an equivalence."""
    if kind == "equivalence":
        return 1.0, min(1.0, 2 * min(failed.p_more, failed.p_fewer))
    return failed.p_fewer, failed.p_more


def _answer(p_supported: float, p_refuted: float, level: float) -> Answer:
    if (p_supported <= level) == (p_refuted <= level):  # both only at levels of one half and more
        return "undecided"
    return "supported" if p_supported <= level else "refuted"


def _weigh(score: Answer, failure: Answer, failed: Failures, kind: str) -> tuple[Answer, Literal["score", "failure", ""], str]:
    """Outcome, the endpoint that decided, and a note. A score never decides in favour of an arm that failed on more seeds."""
    if failure != "undecided":
        if kind != "equivalence" and score not in ("undecided", failure):
            return "undecided", "", "one arm is better where both learn, the other fails less often"
        return failure, "score" if score == failure else "failure", ""
    if score == "supported" and failed.treatment > failed.control:
        return "undecided", "", "supported where both learn, but the treatment failed more often"
    if score == "refuted" and kind != "equivalence" and failed.control > failed.treatment:
        return "undecided", "", "refuted where both learn, but the control failed more often"
    return score, "" if score == "undecided" else "score", ""


def _number(name: str, value: object) -> float:
    """A finite number, or a UserError that names it."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and abs(_float(value)) < math.inf:
        return float(value)
    raise UserError(f"{name}={shown(value)}: it has to be a finite number")


def _float(value: SupportsFloat) -> float:
    """A float; infinite above 1e300, where sums leave what floats can say."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    return math.copysign(math.inf, number) if abs(number) > 1e300 else number


def _endpoints(treatment: Iterable[float], control: Iterable[float], kind: str) -> tuple[np.ndarray, Failures]:
    """Differences (of a ratio: of logarithms) of the seeds on which both arms learned, and what failed on the others."""
    ours, theirs = _arm("treatment", treatment, kind), _arm("control", control, kind)
    if len(ours) != len(theirs):
        raise UserError(f"treatment has {len(ours)} values and control {len(theirs)}: they are paired by place, a seed each")
    if not len(ours):
        raise UserError("treatment and control are empty: a verdict takes at least one pair")
    failed = failures(np.isnan(ours), np.isnan(theirs))
    both = ~np.isnan(ours + theirs)
    ours, theirs = ours[both], theirs[both]
    rounding = np.abs(ours - theirs) <= 1e-14 * np.maximum(np.abs(ours), np.abs(theirs))  # equal, but computed in another order
    differences = np.log(ours) - np.log(theirs) if kind == "ratio" else ours - theirs
    return np.where(rounding, 0.0, differences), failed


def _arm(name: str, values: Iterable[float], kind: str) -> np.ndarray:
    """An arm's figures as float64, NaN where it failed, or a UserError that names the first value that is none."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(plain, (str, bytes, dict, set, frozenset)) or not isinstance(plain, Iterable):
        raise UserError(
            f"{name}={shown(values)}: it has to be a sequence of numbers, one a seed, in the order of the other arm's"
        )
    figures: list[float] = []
    for value in plain:
        if not hasattr(value, "__float__"):
            raise UserError(f"{name}: value {len(figures) + 1} is {shown(value)}, not a number (NaN for a run that failed)")
        figures.append(_float(value))
    arm = np.array(figures, float)
    if kind == "ratio":
        arm[arm == math.inf] = math.nan
    wrong = arm <= 0 if kind == "ratio" else np.isinf(arm)
    if wrong.any():
        rule = "a ratio takes figures above 0" if kind == "ratio" else "figures are finite, and NaN is a run that failed"
        raise UserError(f"{name}: value {int(wrong.argmax()) + 1} is {arm[wrong.argmax()]:g}; {rule}")
    return arm
