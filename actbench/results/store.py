"""One result folder, held by the run that writes its tables. Nothing finished is lost, whatever is killed when.

A folder holds runs.csv, history.csv, layers.csv and meta.json. While a run is on, each finished pack lies whole in
``.actbench-parts/`` (parts.py); parts are merged into the tables, each table being written whole and renamed, and are removed
only then. A part that is merged twice changes nothing: rows go by ``run_id``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.results.columns import HEADERS, TABLES
from actbench.results.parts import Part, finished_parts, part_name, read_part, remove_part, sync_folder, write_error, write_synced
from actbench.results.reading import FINISHED, FORMAT_VERSION, PARTS, Tables, check_whole, read_folder, runs_column
from actbench.results.rows import rows_of_failed
from actbench.study.spec import RunSpec


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block is done: half of a pack in memory must never be saved as a whole."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears of it
        yield
        return
    held_back: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held_back.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held_back:
        raise KeyboardInterrupt


class Store:
    """One result folder, held by one process at a time. Use as a context manager: on entering, UserError if the folder cannot
    be written, is in use, or holds files that are not this version's results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / PARTS
        self._merged: set[Path] = set()  # parts whose rows are in the tables here, and not yet on the disk

    def __enter__(self) -> Store:
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".actbench-lock")
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"'{self.folder}' is in use by another actbench run; wait for it, or name another --out") from None
        except OSError as error:
            raise UserError(f"cannot write to '{self.folder}': {error.strerror or error}") from error
        try:
            self.tables = read_folder(self.folder)
            self.take_in_parts()
            check_whole(self.folder, self.tables)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # if it is empty; a part that could not be merged stays
            self.parts.rmdir()
        # removed while it is still held: who opened it meanwhile finds it unlinked and tries anew
        with contextlib.suppress(OSError):
            (self.folder / ".actbench-lock").unlink()
        self._lock.release()

    @property
    def status(self) -> dict[str, str]:
        """run_id → status of every network in the folder."""
        return runs_column(self.tables, "status")

    @property
    def finished(self) -> set[str]:
        """The run_ids of networks that need no more training."""
        return {run_id for run_id, status in self.status.items() if status in FINISHED}

    def errors(self, run_ids: Iterable[str]) -> list[str]:
        """The distinct reasons of failed networks."""
        known = runs_column(self.tables, "error")
        return sorted({known[run_id] for run_id in run_ids if known.get(run_id)})

    @_uninterrupted()
    def take_in(self, run_ids: Collection[str]) -> Part:
        """Takes in the part of a finished pack, whose networks are these; UserError if it is not whole."""
        path = self.parts / part_name(run_ids)
        part = read_part(path)
        if set(part.tables["runs"]) != set(run_ids):
            raise UserError(f"'{path}' does not hold the networks that it is named after; nothing was changed")
        self._merge(path, part.tables)
        return part

    @_uninterrupted()
    def take_in_parts(self) -> None:
        """Takes in all parts on the disk, whoever wrote them. Nobody may be writing any more."""
        for path in finished_parts(self.parts):
            if path not in self._merged:
                self._merge(path, read_part(path).tables)

    @_uninterrupted()
    def add_failed(self, specs: Sequence[RunSpec], reason: str) -> None:
        """Keeps a row for each network that could not be trained; the next run tries them again."""
        for spec, line in zip(specs, rows_of_failed(specs, reason), strict=True):
            for table in TABLES:
                self.tables[table][spec.run_id] = [line] if table == "runs" else []

    def _merge(self, path: Path, tables: Tables) -> None:
        self._merged.add(path)
        for run_id in tables["runs"]:
            for table in TABLES:
                self.tables[table][run_id] = tables[table].get(run_id, [])

    @_uninterrupted()
    def save(self, order: Iterable[str], meta: Mapping[str, Any]) -> None:
        """Writes the four files: networks of ``order`` (run_ids) in that order, after those of other studies."""
        runs = self.tables["runs"]
        ours = dict.fromkeys(run_id for run_id in order if run_id in runs)
        order = [*(run_id for run_id in runs if run_id not in ours), *ours]
        try:
            # meta.json first: tables without it would not be taken for results; runs.csv last: it says what is finished
            _replace(self.folder / "meta.json", [json.dumps({"format_version": FORMAT_VERSION, **meta}, indent=2) + "\n"])
            for table in reversed(TABLES):
                lines = (line for run_id in order for line in self.tables[table].get(run_id, ()))
                _replace(self.folder / f"{table}.csv", [HEADERS[table], *lines])
            sync_folder(self.folder)
            while self._merged:
                remove_part(self._merged.pop())
        except OSError as error:
            raise write_error(self.folder, error) from error


def set_aside(folder: Path) -> Path | None:
    """Renames a result folder to FOLDER.old-1, -2, …; returns the new name, None if there was nothing."""
    if not folder.exists():
        return None
    ours = ("meta.json", PARTS, *(f"{table}.csv" for table in TABLES))
    if not folder.is_dir() or (any(folder.iterdir()) and not any((folder / name).exists() for name in ours)):
        raise UserError(f"'{folder}' is not a result folder, so --fresh leaves it alone; name another --out")
    folder, number = folder.absolute(), 1
    while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    try:
        folder.rename(target)
    except OSError as error:
        raise UserError(f"cannot set '{folder}' aside: {error.strerror or error}") from error
    return target


def _replace(path: Path, lines: list[str]) -> None:
    hidden = path.with_name(f".actbench-{path.name}.tmp")
    try:
        write_synced(hidden, lines)
        os.replace(hidden, path)
    except OSError:
        hidden.unlink(missing_ok=True)
        raise
