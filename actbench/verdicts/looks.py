"""When a claim of a family is judged, at which level, and how its conditions make one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from actbench.base.errors import UserError, unknown
from actbench.verdicts.answer import Answer, Verdict
from actbench.verdicts.power import fewest_pairs
from actbench.verdicts.verdict import verdict_at

FIRST, LAST, QUICK = 12, 20, 8  # judging seeds of the looks
NEEDS = ("all", "any")


@dataclass(frozen=True)
class Look:
    """Judging with the first ``seeds`` seeds at ``level``, one-sided, score and failures together."""

    seeds: int
    level: float


def looks(claims: int, alpha: float = 0.05, *, quick: bool = False) -> tuple[Look, ...]:
    """The looks of one claim of a family of ``claims``, which share ``alpha``.

    The first decides only if all 12 seeds agree, which costs 2^-12 = 0.00024; the second has the rest (30 claims: 0.0014). Where
    2^-12 is more than a quarter of a claim's part (above 51 claims at 0.05), the first cannot decide and the second has it all.
    ``quick``: one look of 8 seeds at an unshared ``alpha``.
    """
    if claims < 1:
        raise UserError(f"a family of {claims} claims: at least 1")
    if quick:
        return (Look(QUICK, alpha),)
    level, agree = alpha / claims, 2.0**-FIRST
    if agree > level / 4:
        return (Look(LAST, level),)
    return Look(FIRST, agree), Look(LAST, level - agree)


def seeds_needed(claims: int, alpha: float = 0.05) -> int:
    """The fewest seeds that can decide a claim of a family at all (30 claims: 10)."""
    return fewest_pairs(looks(claims, alpha)[-1].level)


def verdict_over(
    stages: Sequence[Look],
    treatment: Sequence[float],
    control: Sequence[float],
    *,
    margin: float = 0.0,
    better: str = "higher",
    kind: str = "difference",
) -> tuple[Verdict, Look]:
    """The verdict of the first look that decides, else of the last one for which there are seeds; and that look.

    A look uses the first of its seeds and never others, so more seeds later do not undo what was decided. With fewer seeds
    than the first look takes, the outcome is undecided, whatever the figures.
    """
    have = min(len(treatment), len(control))
    last: tuple[Verdict, Look] | None = None
    for look in stages:
        if look.seeds <= have:
            arms = (list(islice(arm, look.seeds)) for arm in (treatment, control))
            last = verdict_at(look.level, *arms, margin=margin, better=better, kind=kind), look
            if last[0].outcome != "undecided":
                break
    if last is None:
        early = verdict_at(stages[0].level, treatment, control, margin=margin, better=better, kind=kind)
        last = replace(early, outcome="undecided", decided_by="", note=f"only {have} of {stages[0].seeds} seeds"), stages[0]
    return last


def combine(plain: Sequence[str], strict: Sequence[str], need: str = "all") -> Literal["mixed"] | Answer:
    """One answer from a claim's conditions: ``plain`` are the cells' outcomes at the claim's level, ``strict`` at level / cells.

    The strict ones are those of a family of claims × cells (`looks`). Where ``all`` cells have to hold: supported if every plain
    outcome is (no correction: an error takes a cell that does not hold, and that one errs at the claim's level); else, if a
    strict outcome is refuted, mixed if another strict one is supported, else refuted; else undecided. Where ``any`` cell is
    enough, the mirror image: supported if a strict outcome is, refuted if every plain one is, else undecided.
    """
    if need not in NEEDS:
        raise unknown("need", need, NEEDS)
    if not plain or len(plain) != len(strict):
        raise UserError(
            f"{len(plain)} outcomes of cells at the claim's level and {len(strict)} at the strict one: the same number, 1 or more"
        )
    if need == "any":
        if "supported" in strict:
            return "supported"
        return "refuted" if all(outcome == "refuted" for outcome in plain) else "undecided"
    if all(outcome == "supported" for outcome in plain):
        return "supported"
    if "refuted" in strict:
        return "mixed" if "supported" in strict else "refuted"
    return "undecided"
