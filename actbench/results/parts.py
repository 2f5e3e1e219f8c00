"""A finished pack on the disk: a folder of its own, whole or not at all, until the run merges it into the tables.

Whoever trained the pack writes it, wherever that was; nothing finished travels in a message.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actbench.base.errors import UserError
from actbench.results.columns import COLUMNS, HEADERS, TABLES
from actbench.results.reading import Tables, fields_of, read_table
from actbench.results.rows import Rows

HIDDEN = "tmp-"  # folders that are still written, or no longer needed


class WriteError(UserError):
    """Results cannot be written, which ends a run: a smaller pack would not fare better."""


@dataclass(frozen=True)
class Part:
    """A finished pack: its rows by table and run_id, and seconds by what they went into."""

    tables: Tables
    seconds: Mapping[str, float]

    def last(self, column: str) -> np.ndarray:
        """[R] figures of runs.csv, NaN where a field is empty."""
        place = COLUMNS["runs"].index(column)
        return np.array([float(fields_of(line)[place] or "nan") for line, *_ in self.tables["runs"].values()])


def part_name(run_ids: Iterable[str]) -> str:
    """The name of the folder of these networks, in any order: a pack that is trained twice is written once."""
    return hashlib.sha256(" ".join(sorted(run_ids)).encode()).hexdigest()[:32]


def write_part(parts: Path, rows: Rows, seconds: Mapping[str, float]) -> Path:
    """Writes the folder of a finished pack; when this returns, it is on the disk.

    Raises:
        WriteError: it cannot be written.
    """
    name = part_name(line.partition(",")[0] for line in rows.runs)
    final, hidden = parts / name, None
    try:
        parts.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f"{HIDDEN}{name}-{os.getpid()}-", dir=parts))
        for table in TABLES:
            write_synced(hidden / f"{table}.csv", [HEADERS[table], *getattr(rows, table)])
        write_synced(hidden / "part.json", [json.dumps(dict(seconds)) + "\n"])
        _rename_unless_there(hidden, final)
        sync_folder(parts)
    except OSError as error:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)
        raise write_error(parts.parent, error) from error
    return final


def _rename_unless_there(hidden: Path, final: Path) -> None:
    try:
        os.rename(hidden, final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(hidden, ignore_errors=True)  # somebody has written the same networks


def read_part(path: Path) -> Part:
    """Reads a part; UserError if it is not whole."""
    tables = {table: read_table(path / f"{table}.csv", table, must_exist=True) for table in TABLES}
    try:
        seconds = json.loads((path / "part.json").read_text(encoding="utf-8"))
        return Part(tables, {str(name): float(value) for name, value in seconds.items()})
    except FileNotFoundError:  # version 0.1.0 wrote none
        return Part(tables, {})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"'{path / 'part.json'}' cannot be read ({error}); nothing was changed") from error


def finished_parts(parts: Path) -> Iterator[Path]:
    """The parts that are whole; what was cut off while it was written is removed."""
    for path in sorted(parts.iterdir()) if parts.is_dir() else ():
        if path.name.startswith(HIDDEN):
            shutil.rmtree(path, ignore_errors=True)
        else:
            yield path


def remove_part(path: Path) -> None:
    """Removes a part that the tables have taken in, so that half of it is never seen."""
    hidden = path.with_name(f"{HIDDEN}merged-{path.name}")
    try:
        os.rename(path, hidden)
    except OSError:
        return  # it is merged once more next time, which changes nothing
    shutil.rmtree(hidden, ignore_errors=True)


def write_error(folder: Path, error: OSError) -> WriteError:
    """The one line for a result folder that cannot be written."""
    return WriteError(f"cannot write to '{folder}': {error.strerror or error}; what was finished is kept")


def write_synced(path: Path, lines: Iterable[str]) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
