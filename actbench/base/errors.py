"""The one error type that is a user's to read: one line that names the wrong word and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 200  # letters of what a user gave that a message repeats
LONGEST_LINE = 2000  # of a whole message, in which names that are allowed take the most


class UserError(Exception):
    """A mistake in configuration, values, names, files or devices. Its text is one line, shown as ``error: …``."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """A message in one line of reasonable length, whatever it repeats."""
    line = " ".join(str(message)[: 10 * LONGEST_LINE].split())
    line = re.sub(rf"\S{{{LONGEST + 20},}}", lambda word: shown(word[0]), line)
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"


def shown(value: object) -> str:
    """What a user gave, as text of at most 200 letters."""
    try:
        text = str(value)
    except ValueError:  # Python refuses to write long numbers out
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def unknown(kind: str, word: object, allowed: Iterable[str], *, hint: str = "") -> UserError:
    """The error for a name that is not in a table: repeats the word, suggests the nearest, lists what is allowed."""
    names = sorted(str(name) for name in allowed)
    lower = shown(word).lower()
    near = [name for name in names if lower and name.startswith(lower)] or get_close_matches(lower, names, n=1, cutoff=0.5)
    guess = f"did you mean '{near[0]}'? " if near else ""
    listed = ", ".join(names) if len(names) <= 45 else ", ".join(names[:45]) + ", …"
    return UserError(f"{kind} '{shown(word)}' is not known; {guess}allowed: {listed or 'nothing'}{hint and '; '}{hint}")
