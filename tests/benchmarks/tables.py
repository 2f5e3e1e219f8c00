"""The output of benchmarks: a CSV and a markdown table in results/, with the machine, versions and date."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actbench.base import machine


def measured_on(*more: str) -> str:
    """The machine, the versions (and more of them, as ``name 1.2``) and the date."""
    hardware, versions = machine.hardware("cpu"), machine.versions()
    parts = [f"torch {versions['torch']}", *more, f"Python {versions['python']}", time.strftime("%Y-%m-%d")]
    return ", ".join([hardware["cpu"], f"{hardware['cores']} cores", *parts])


def write_csv(name: str, head: Sequence[str], rows: Sequence[Sequence[Any]], machine_line: str) -> None:
    """results/NAME.csv, with the machine and versions in a last column."""
    with (Path("results") / f"{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*head, "machine"], *([*row, machine_line] for row in rows)])


def write_markdown(name: str, lines: Sequence[str]) -> None:
    """results/NAME.md, and the same to stdout."""
    (Path("results") / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table whose first column is text and whose others are numbers."""
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
