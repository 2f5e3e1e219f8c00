"""Alerts: expressions of `actbench check` that should hold while a network trains."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actbench.base.errors import UserError, unknown
from actbench.study.spec import AXES
from actbench.verdicts.check import judge
from actbench.verdicts.expression import Arithmetic, ClaimIs, Comparison, parse, parts_of
from actbench.verdicts.selection import METRICS, WHEN, Tables, matching

if TYPE_CHECKING:
    import pandas as pd

    from actbench.results.frames import Results

ACTIONS = ("warn", "raise")
HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


class AlertError(UserError):
    """An expression that was to hold while a network trains does not."""


class AlertWarning(UserWarning):
    """The same, as a warning."""


@dataclass
class Alert:
    """An expression, what to do where it does not hold, and how it stood at the last measurement (None: not judged yet)."""

    expression: str
    comparison: Comparison
    action: str
    held: bool | None = None

    def judge(self, results: Results, chance: Mapping[str, tuple[float, float]]) -> tuple[bool, str] | None:
        """Whether it holds, and the figures; None where they are empty so far. A mean over one network is its figure."""
        try:
            judged = judge(self.comparison, Tables(results.runs, results.history, results.layers, chance))
        except UserError:  # an empty figure, such as the last update's before any
            return None
        holds = bool(HOLDS[judged.comparison](judged.value, judged.threshold))
        return holds, f"{judged.value:.4g} against {judged.threshold:.4g}"


def new_alert(expression: str, action: str, layers: pd.DataFrame) -> Alert:
    """An alert; UserError for what is no expression, names no metric or setting, or a layer that is not in these rows."""
    if action not in ACTIONS:
        raise unknown("action", action, ACTIONS)
    if not isinstance(expression, str):
        raise UserError(f"{expression!r} is no expression; write one such as 'max(dead_fraction) <= 0.5'")
    found = parse(expression)
    if isinstance(found, ClaimIs):
        raise UserError(f"'{expression}': a claim is judged by `actbench judge`, not by a probe")
    for part in parts_of(Arithmetic(found.left, "-", found.right)):
        if part.old:
            raise UserError(f"'{expression}': a probe knows no old folder")
        if part.metric is not None and part.metric not in METRICS[part.table]:
            raise unknown(f"metric of {part.table}.csv", part.metric, METRICS[part.table])
        for name, _ in part.where:
            if name not in (*AXES, *WHEN, "run_id", "status"):
                raise unknown("filter", name, (*AXES, *WHEN, "run_id", "status"))
        matching(layers, [(name, value) for name, value in part.where if name in ("layer", "layer_name")])
    return Alert(expression, found, action)


def give(alert: Alert, text: str) -> None:
    """Warns or raises; the text says what was found, and when."""
    message = f"{alert.expression} does not hold: {text}"
    if alert.action == "raise":
        raise AlertError(message)
    warnings.warn(message, AlertWarning, stacklevel=4)


def unjudged(alerts: list[Alert]) -> list[str]:
    """Lines for alerts that could never be judged, so that they do not pass for holding."""
    return [f"{alert.expression} was never judged: its figures are empty" for alert in alerts if alert.held is None]
