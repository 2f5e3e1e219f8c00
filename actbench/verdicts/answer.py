"""What a verdict says: its figures, and one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from actbench.verdicts.failures import Failures, upper_bound
from actbench.verdicts.sign_flip import TIE, bounds

Answer = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """The answer, its figures, and what they rest on.

    ``effect`` is the mean of treatment - control where both learn (of a ``ratio``: the geometric mean of treatment / control), in
    the metric's own direction, whichever is better.
    """

    outcome: Answer
    effect: float
    p_supported: float  # of the endpoint that decided, else of the score: small where the claim holds
    p_refuted: float  # likewise: small where it does not
    failed: Failures
    pairs: int  # seeds on which both learned
    decided_by: Literal["score", "failure", ""]
    note: str  # why an endpoint that would have decided does not; else ""
    level: float  # one-sided, of both endpoints together
    level_score: float
    level_failure: float
    margin: float
    better: str
    kind: str
    sign_supported: float  # p of the plain sign test, which does not assume symmetry, beside the score's
    sign_refuted: float
    would_take: int | None  # seeds to decide by the score, where it is undecided and they can be estimated
    differences: tuple[float, ...] = field(repr=False)  # treatment - control (of a ratio: of logarithms) where both learn

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The sign-flip test's own, at the level of the score, one-sided at each end.

        Infinite (of a ratio: from 0) where so few pairs can reject nothing; NaN where all differences are equal and it would
        have no width.
        """
        differences = np.array(self.differences)
        if self.pairs and np.ptp(differences) <= TIE * np.abs(differences).max():
            return math.nan, math.nan
        low, high = bounds(differences, self.level_score or self.level)
        return (exp(low), exp(high)) if self.kind == "ratio" else (low, high)

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.interval[1]

    @property
    def advantage(self) -> tuple[float, float, float]:
        """Effect, low and high in the treatment's favour: comparable with ``margin``, whichever direction is better."""
        if self.better == "higher":
            return self.effect, self.low, self.high
        if self.kind == "ratio":
            return _inverse(self.effect), _inverse(self.high), _inverse(self.low)
        return -self.effect, -self.high, -self.low

    def sentence(self, number: Callable[[float], str] | None = None, unit: str = "") -> str:
        """One plain sentence; ``number`` writes a figure (an effect, a bound, the margin) and ``unit`` follows it."""
        write = number or (lambda value: f"{value:.3g}" if self.kind == "ratio" else f"{value:+.3g}")
        outcome = f"{self.outcome} by failures alone" if self.decided_by == "failure" else self.outcome
        parts = [f"{outcome}: {_score(self, write, unit)}", _failures(self), self.note]
        if self.would_take is not None and self.would_take > self.failed.of:
            parts.append(f"about {self.would_take} seeds would decide, if they go on like this")
        return "; ".join(part for part in parts if part)

    def __str__(self) -> str:
        return self.sentence()


def _score(v: Verdict, write: Callable[[float], str], unit: str) -> str:
    if not v.pairs:
        return f"no seed of {v.failed.of} on which both learn"
    pairs = f"where both learn ({v.pairs} {'pair' if v.pairs == 1 else 'pairs'})"
    times = " times" if v.kind == "ratio" else ""
    effect = f"{write(v.effect)}{times}"
    if math.isnan(v.low):
        interval = f" in every pair, and at most {100 * upper_bound(0, v.pairs, v.level):.0f} % of seeds would differ,"
    elif math.isinf(v.high):
        interval = ""
        pairs += ", too few for an interval"
    else:
        interval = f" [{write(v.low)}, {write(v.high)}]"
    lower = ", lower is better" if v.better == "lower" and v.kind != "equivalence" else ""
    margin = write(v.margin) if v.margin and v.kind != "equivalence" else write(v.margin).lstrip("+")
    against = f"a margin of {'±' if v.kind == 'equivalence' else ''}{margin}{times}{lower}"
    return f"{effect}{interval}{' ' + unit if unit else ''} against {against} {pairs}"


def _failures(v: Verdict) -> str:
    f = v.failed
    most = [f"{100 * rate:.0f} %" for rate in f.upper(v.level)]
    if f.treatment == f.control < f.of:
        return f"failed {f.treatment} of {f.of} against {f.control} of {f.of}, which excludes more than {most[0]}"
    counts = [
        f"{count} of {f.of}" + (f" (at most {rate})" if count < f.of else "")
        for count, rate in zip((f.treatment, f.control), most, strict=True)
    ]
    return "failed " + " against ".join(counts)


def exp(value: float) -> float:
    """A ratio from its logarithm; infinite where floats end."""
    return math.inf if value >= 700 else math.exp(value)


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio else math.inf
