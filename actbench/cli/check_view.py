"""What `actbench check` shows: a line for each expression, as text, JSON or JUnit's XML."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from actbench.base.errors import UserError
from actbench.cli.junit import Case, as_junit
from actbench.report.tables import write_report
from actbench.verdicts.gate import Checked, Gate, check_folder

STYLES = {"pass": "green", "fail": "bold red", "undecided": "yellow", "error": "bold magenta"}
KINDS = {
    "pass": ("pass", ""),
    "fail": ("failure", "failed"),
    "undecided": ("failure", "undecided"),
    "error": ("error", "mistake"),
}


def check_and_show(path: Path, expressions: Sequence[str], against: Path | None, junit: Path | None, *, as_json: bool) -> int:
    """Checks a folder, writes the JUnit file, prints what each expression came to; returns the exit code 0 or 1.

    Raises:
        UserError: an expression is a mistake, or nothing can be checked. A JUnit file says so as well: one that is missing, or
            is from another day, might count as passed.
    """
    start = time.perf_counter()
    folders = [folder for folder in (path, against) if folder is not None]

    def write(gate: Gate) -> None:
        if junit is not None:
            text = as_junit(f"actbench check {path}", cases(gate, path), time.perf_counter() - start)
            write_report(junit, text, folders, "--junit")

    def nothing(why: str) -> Gate:
        return Gate(tuple(Checked(text, None, why) for text in expressions or ["no expression"]))

    write(nothing("the check did not come to its end"))  # which stays if it is killed
    try:
        gate = check_folder(path, expressions, against)
    except UserError as error:
        write(nothing(str(error)))
        raise
    write(gate)
    for note in gate.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps(as_object(gate, path, against)))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for line in lines(gate):
            console.print(line, soft_wrap=True)
    mistakes = [(place, one.error) for place, one in enumerate(gate.checked, 1) if one.judged is None]
    if mistakes:
        place, mistake = mistakes[0]
        more = f" ({len(mistakes) - 1} more: --json tells all)" if len(mistakes) > 1 else ""
        raise UserError(f"expression {place}: {mistake}{more}" if len(gate.checked) > 1 else mistake)
    return gate.exit_code


def lines(gate: Gate) -> list[Text]:
    """A line for each expression, followed by the rows that break it; at last how many hold."""
    found = []
    for one in gate.checked:
        figures = f"  →  {one.judged.text}" if one.judged else ""
        found.append(Text.assemble((f"{one.outcome:<11}", STYLES[one.outcome]), (_plain(one.expression), "bold"), figures))
        found += [Text(f"{'':11}breaks it: {offender}", "dim") for offender in (one.judged.breaks if one.judged else ())]
    held, count = gate.count("pass"), len(gate.checked)
    found.append(Text(f"{held} of {count} hold{'s' * (held == count == 1)}", STYLES["pass" if held == count else "fail"]))
    return found


def as_object(gate: Gate, path: Path, against: Path | None) -> dict[str, Any]:
    """The outcome as one JSON object; what is not there is null."""
    results = []
    for one in gate.checked:
        fields: dict[str, Any] = {"expression": one.expression, "outcome": one.outcome}
        if one.judged is None:
            fields["error"] = one.error
        else:
            figures = {name: getattr(one.judged, name) for name in ("value", "low", "high", "threshold")}
            words = {name: getattr(one.judged, name) for name in ("comparison", "n", "networks", "method", "reason", "text")}
            breaks = [{**offender.where, "figure": _or_null(offender.figure)} for offender in one.judged.breaks]
            fields |= {**{name: _or_null(value) for name, value in figures.items()}, **words, "breaks": breaks}
        results.append(fields)
    return {
        "folder": str(path), "against": None if against is None else str(against), "hold": gate.count("pass"),
        "expressions": len(gate.checked), "exit_code": gate.exit_code, "results": results, "notes": list(gate.notes),
    }  # fmt: skip


def cases(gate: Gate, path: Path) -> list[Case]:
    """A test case for each expression. One that is undecided is a failure of its own type."""
    found = []
    for one in gate.checked:
        kind, type_ = KINDS[one.outcome]
        text, breaks = (one.judged.text, one.judged.breaks) if one.judged else (one.error, ())
        found.append(Case(str(path), one.expression, kind, type_, text, [f"breaks it: {offender}" for offender in breaks]))
    return found


def _plain(text: str) -> str:
    """An expression in one line, without letters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _or_null(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
