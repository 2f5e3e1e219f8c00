"""A finished pack on the disk: a folder of its own, whole or not at all, until the run merges it into the tables.

Whoever trained the pack writes it, wherever that was; nothing finished travels in a message.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actbench.base.errors import UserError
from actbench.results.columns import HEADERS, TABLES
from actbench.results.reading import Tables, read_table, runs_column, text_of
from actbench.results.rows import Rows

HIDDEN = "tmp-"  # folders that are still written, or no longer needed


class WriteError(UserError):
    """Results cannot be written, which ends a run: a smaller pack would not fare better."""


@dataclass(frozen=True)
class Part:
    """A finished pack: its rows by table and run_id, seconds by what they went into, and the machine, unless it was the run's."""

    tables: Tables
    seconds: Mapping[str, float]
    node: Mapping[str, Any] | None = None

    def last(self, column: str) -> np.ndarray:
        """[R] figures of runs.csv, NaN where a field is empty."""
        return np.array([float(figure or "nan") for figure in runs_column(self.tables, column).values()])


def part_name(run_ids: Iterable[str]) -> str:
    """The name of the folder of these networks, in any order: a pack that is trained twice is written once."""
    return hashlib.sha256(" ".join(sorted(run_ids)).encode()).hexdigest()[:32]


def write_part(parts: Path, rows: Rows, seconds: Mapping[str, float], node: Mapping[str, Any] | None = None) -> Path:
    """Writes the folder of a finished pack; when this returns, it is on the disk. WriteError if it cannot be written.

    ``node`` says what another machine than the run's is, for meta.json.
    """
    name = part_name(line.partition(",")[0] for line in rows["runs"])
    final, prefix = parts / name, f"{HIDDEN}{name}-{os.getpid()}-"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        # what it still holds in the end is removed, and that is nothing once it has its final name
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parts, ignore_cleanup_errors=True) as hidden:
            for table in TABLES:
                write_synced(Path(hidden, f"{table}.csv"), [HEADERS[table], *rows[table]])
            if node is not None:
                write_synced(Path(hidden, "node.json"), [json.dumps(dict(node)) + "\n"])
            write_synced(Path(hidden, "part.json"), [json.dumps(dict(seconds)) + "\n"])
            try:
                os.rename(hidden, final)
            except OSError:
                if not final.is_dir():  # else somebody has written the same networks
                    raise
        sync_folder(parts)
    except OSError as error:
        raise write_error(parts.parent, error) from error
    return final


def read_part(path: Path) -> Part:
    """Reads a part; UserError if it is not whole."""
    tables = {table: read_table(path / f"{table}.csv", table)[0] for table in TABLES}
    if (written := text_of(path / "part.json")) is None:  # version 0.1.0 wrote none
        return Part(tables, {})
    node = text_of(path / "node.json")
    try:
        seconds = {str(name): float(value) for name, value in json.loads(written).items()}
        return Part(tables, seconds, None if node is None else dict(json.loads(node)))
    except (ValueError, OverflowError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"'{path / 'part.json'}' cannot be read ({error}); nothing was changed") from error


def finished_parts(parts: Path, *, clean: bool = True) -> Iterator[Path]:
    """The parts that are whole. What was cut off while it was written is removed, if ``clean``: nobody writes any more."""
    for path in sorted(parts.iterdir()) if parts.is_dir() else ():
        if path.name.startswith(HIDDEN):
            if not clean:
                continue
            with contextlib.suppress(OSError):  # a pipe must not be opened, as rmtree does
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        else:
            yield path


def remove_part(path: Path) -> None:
    """Removes a part that the tables have taken in, so that half of it is never seen."""
    hidden = path.with_name(f"{HIDDEN}merged-{path.name}")
    with contextlib.suppress(OSError):  # then it is merged once more next time, which changes nothing
        os.rename(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def write_error(folder: Path, error: OSError) -> WriteError:
    """The one line for a result folder that cannot be written."""
    return WriteError(f"cannot write to '{folder}': {error.strerror or error}; what was finished is kept")


def write_synced(path: Path, lines: Iterable[str]) -> None:
    """Writes a file that is not there yet, and waits until it is on the disk."""
    with path.open("x", encoding="utf-8", newline="") as file:
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


def replace_file(path: Path, lines: Iterable[str]) -> None:
    """Writes a file of a result folder, whole or not at all; OSError if it cannot be written."""
    hidden = path.with_name(f".actbench-{path.name}.tmp")
    try:
        hidden.unlink(missing_ok=True)  # of a run that was killed; or a link or pipe, which must not be written through
        write_synced(hidden, lines)
        os.replace(hidden, path)
    except OSError:
        hidden.unlink(missing_ok=True)
        raise
