"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from actbench.errors import UserError


def user_path(told: str | Path, what: str) -> Path:
    """A path with ``~`` expanded; UserError if it is empty or cannot be one.

    Args:
        told: what the user wrote.
        what: what it is for, named in the error.
    """
    if not str(told).strip():
        raise UserError(f"{what}: an empty path")
    try:
        path = Path(told).expanduser()
        path.exists()  # a name that is too long, or a loop of links, is found out here
        return path
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"{what}: '{str(told)[:80]}' is not a usable path ({getattr(error, 'strerror', None) or error})"
        ) from error
