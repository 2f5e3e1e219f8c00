"""Arguments of ``Probe`` that are checked before anything is run."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from actbench.base.errors import UserError, shown


def whole(name: str, value: object, least: int = 0) -> int:
    """A whole number, numpy's among them; UserError for anything else, or less than ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}: {value!r} is not a whole number of at least {least}")
    return int(value)


def check_function(name: str, given: Any, example: str) -> None:
    """UserError for what cannot be called, and for a class in place of what is made of it."""
    if isinstance(given, type):
        raise UserError(f"{name}: {given.__name__} is a class; give one that is made of it, such as {given.__name__}()")
    if given is not None and not callable(given):
        raise UserError(f"{name}: {shown(repr(given))} is not a function, such as {example}")


def name_of(loss: Any) -> str | None:
    """A loss by its usual name."""
    if loss is None:
        return None
    name = getattr(loss, "__name__", type(loss).__name__)
    return {"CrossEntropyLoss": "cross_entropy", "mse_loss": "mse", "MSELoss": "mse", "<lambda>": "own"}.get(name, name)
