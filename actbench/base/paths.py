"""Paths as users write them, and where this package lies."""

from __future__ import annotations

from pathlib import Path

from actbench.base.errors import UserError

PACKAGE = Path(__file__).parent.parent


def user_path(given: str | Path, what: str) -> Path:
    """What a user wrote, with ``~`` expanded; UserError, which names ``what`` it is for, if it is empty or cannot be a path."""
    if not str(given).strip():
        raise UserError(f"{what}: an empty path")
    try:
        if "\0" in str(given):  # which some calls take for a file that is not there
            raise ValueError("it has a null character")
        path = Path(given).expanduser()
        path.exists()  # a name that is too long, or a loop of links, is found out here
        return path
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{what}: '{str(given)[:80]}' is not a usable path ({reason})") from error
