"""When a probe measures, in steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import count

from actbench.base.errors import UserError
from actbench.probe.arguments import whole

PER_DECADE = 10  # measurements per tenfold steps of the schedule "log"


class Schedule:
    """The steps at which a probe measures besides the first and the last.

    Args:
        every: every so many steps; None or 0: never.
        at: in place of ``every`` ``"log"``, ten times per tenfold steps, or the steps themselves.
    """

    def __init__(self, every: int | None, at: str | Iterable[int] | None) -> None:
        self.every, self.log = 0, at == "log"
        self.steps: list[int] | None = None
        if isinstance(at, str) and not self.log:
            raise UserError(f"at: '{at}' is not known; allowed: log, or a list of steps")
        if at is not None and not isinstance(at, str):
            if not isinstance(at, Iterable):
                raise UserError(f"at: {at!r} is no list of steps; allowed: log, or a list of steps")
            self.steps = sorted({whole("at", step) for step in at})
        elif not self.log:
            self.every = whole("every", 0 if every is None else every)

    def after(self, step: int) -> float:
        """The next step that is due after this one; infinite if there is none."""
        if self.steps is not None:
            return next((one for one in self.steps if one > step), math.inf)
        if self.log:
            start = max(0, int(PER_DECADE * math.log10(max(step, 1))) - 1)
            return next(due for due in (round(10 ** (k / PER_DECADE)) for k in count(start)) if due > step)
        return (step // self.every + 1) * self.every if self.every else math.inf
