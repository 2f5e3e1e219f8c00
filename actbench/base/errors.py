"""The one error type that is a user's to read: one line that names the wrong word and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in configuration, values, names, files or devices. Its text is one line, shown as ``error: …``."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


def unknown(kind: str, word: object, allowed: Iterable[str], *, hint: str = "") -> UserError:
    """The error for a name that is not in a table: repeats the word, suggests the nearest, lists what is allowed."""
    names = sorted(str(name) for name in allowed)
    lower = str(word).lower()
    near = [name for name in names if lower and name.startswith(lower)] or get_close_matches(lower, names, n=1, cutoff=0.5)
    guess = f"did you mean '{near[0]}'? " if near else ""
    listed = ", ".join(names) if len(names) <= 45 else ", ".join(names[:45]) + ", …"
    return UserError(f"{kind} '{word}' is not known; {guess}allowed: {listed or 'nothing'}{hint and '; '}{hint}")
