"""Which rate (and strength) an arm is judged at: chosen on tuning seeds, which never judge, by what the claim judges.

Where the best value is the first or last of its grid, the grid is widened there, at most three times (science: a best rate at
the edge may not be the best).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from actbench.base.errors import UserError
from actbench.study.spec import RunSpec, check_value
from actbench.verdicts.claim import Arm
from actbench.verdicts.evidence import Evidence
from actbench.verdicts.quick import TUNING_SEEDS

SEEDS = tuple(range(1000, 1005))
QUICK_SEEDS = SEEDS[:TUNING_SEEDS]
WIDENINGS = 3
# (networks of one grid point, one a tuning seed) -> (how many failed, a score of which the smallest is best)
Score = Callable[[Sequence[RunSpec]], tuple[int, float]]


@dataclass(frozen=True)
class Choice:
    """What was chosen for an arm."""

    values: Mapping[str, Any]  # tuned setting → its value; empty if nothing is tuned
    at_edge: tuple[str, ...] = ()  # the settings whose value is at an edge of the grid, though it was widened
    widened: int = 0  # how often
    networks: tuple[RunSpec, ...] = ()  # of the tuning seeds, at these values


@dataclass(frozen=True)
class Missing:
    """Networks that have to be trained before it can be said."""

    networks: tuple[RunSpec, ...]


def tune(
    arm: Arm, evidence: Evidence, score: Score, seeds: Sequence[int] = SEEDS, *, widenings: int = WIDENINGS
) -> Choice | Missing:
    """The combination of tuned values with the fewest failures, and the best score among these."""
    if not arm.tune:
        return Choice({})
    grids = {name: list(values) for name, values in arm.tune.items()}
    for widened in range(widenings + 1):
        points = [dict(zip(grids, values, strict=True)) for values in product(*grids.values())]
        networks = [tuple(arm.specs(point, seeds, tuning=True)) for point in points]
        if missing := tuple(spec for some in networks for spec in some if not evidence.has(spec)):
            return Missing(missing)
        scores = [score(some) for some in networks]
        best = min(range(len(points)), key=lambda place: (scores[place][0], np.nan_to_num(scores[place][1], nan=np.inf), place))
        if scores[best][0] == len(seeds):  # all fail wherever they are tried: no value is better than another
            return Choice(points[best], (), widened, networks[best])
        edges = {name: side for name in grids if (side := _edge(grids[name], points[best][name]))}
        wider = {name: value for name, side in edges.items() if (value := _beyond(name, grids[name], side)) is not None}
        if not wider or widened == widenings:
            return Choice(points[best], tuple(edges), widened, networks[best])
        for name, value in wider.items():
            grids[name] = sorted([*grids[name], value])
    raise AssertionError


def tune_highest(arm: Arm, evidence: Evidence, seeds: Sequence[int] = SEEDS, *, widenings: int = WIDENINGS) -> Choice | Missing:
    """The highest value of the one tuned setting at which no tuning seed fails."""
    ((name, values),) = arm.tune.items()
    grid = list(values)
    for widened in range(widenings + 1):
        networks = [tuple(arm.specs({name: value}, seeds, tuning=True)) for value in grid]
        if missing := tuple(spec for some in networks for spec in some if not evidence.has(spec)):
            return Missing(missing)
        works = [bool(evidence.learned(some, "validation").all()) for some in networks]
        best = max((place for place, whole in enumerate(works) if whole), default=0)
        side = "high" if works[-1] else "low" if not any(works) else ""
        value = _beyond(name, grid, side) if side else None
        if value is None or widened == widenings:
            return Choice({name: grid[best]}, (name,) * bool(side), widened, networks[best])
        grid = sorted([*grid, value])
    raise AssertionError


def _edge(grid: Sequence[float], value: float) -> str:
    """At which edge of its grid a value is: low, high or neither (of a grid of one, which is no choice, neither)."""
    if len(grid) < 2:
        return ""
    return "low" if value == grid[0] else "high" if value == grid[-1] else ""


def _beyond(name: str, grid: Sequence[float], side: str) -> float | None:
    """The next value beyond an edge, in the grid's own step; None if there is none that the setting may have."""
    if len(grid) < 2:
        return None
    near, next_to_it = (grid[0], grid[1]) if side == "low" else (grid[-1], grid[-2])
    try:
        return float(check_value(name, float(f"{near * near / next_to_it:.6g}"))) if next_to_it else None
    except (UserError, ZeroDivisionError):
        return None
