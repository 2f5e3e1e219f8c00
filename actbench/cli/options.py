"""Options that several commands have."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from actbench.base.errors import UserError, shown


def workers_of(text: str) -> int:
    """The number that `--workers` gives; UserError if it is none."""
    if not re.fullmatch("0*[1-9][0-9]{0,5}", text):
        raise UserError(f"--workers: '{shown(text)}' is not a whole number of at least 1")
    return int(text)


def said(*, quiet: bool) -> dict[str, Any]:
    """Options of every command that trains: the command line, and where notes go."""
    return {
        "command": shlex.join(["actbench", *sys.argv[1:]]),
        "on_note": lambda text: None if quiet else print(f"note: {text}", file=sys.stderr),
    }


DataDir = Annotated[Path | None, Option(metavar="DIR", help="Folder of data sets. [default: $ACTBENCH_DATA or the cache]")]
WithPage = Annotated[bool, Option("--report", help="Write the page, report.html, into the result folder, too.")]
Fresh = Annotated[bool, Option("--fresh", help="Set old results aside (never delete them) and start anew.")]
Device = Annotated[str, Option(metavar="auto|cpu|cuda|cuda:N", help="Where to train.")]
Workers = Annotated[int | None, Option(metavar="N", parser=workers_of, help="Packs at a time. [default: one per core]")]
AsJson = Annotated[bool, Option("--json", help="One JSON object on stdout when done.")]
