"""The only code that touches result files. Nothing finished is lost, whatever is killed when.

A folder holds runs.csv, history.csv, layers.csv and meta.json. While a run is on, each finished pack lies whole in
``.actbench-parts/`` (written to a temporary file, synced, renamed); parts are merged into the tables, each table being written
whole and renamed, and are removed only then. A part that is merged twice changes nothing: rows go by ``run_id``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.results.reading import FINISHED, FORMAT_VERSION, PARTS, by_run, check_whole, fields_of, read_folder, read_table
from actbench.results.columns import COLUMNS, HEADERS, TABLES, Rows


class Store:
    """One result folder, held by one process at a time. Use as a context manager.

    Raises:
        UserError: the folder cannot be written, is in use, or holds files that are not this version's results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / PARTS
        self._part_number = 0

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
            self._take_in_parts()
            check_whole(self.folder, self.tables)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._release()

    def _release(self) -> None:
        # removed while it is still held: who opened it meanwhile finds it unlinked and tries anew
        with contextlib.suppress(OSError):
            (self.folder / ".actbench-lock").unlink()
        self._lock.release()

    @property
    def status(self) -> dict[str, str]:
        """run_id → status of every network in the folder."""
        place = COLUMNS["runs"].index("status")
        return {run_id: fields_of(lines[0])[place] for run_id, lines in self.tables["runs"].items()}

    @property
    def finished(self) -> set[str]:
        """The run_ids of networks that need no more training."""
        return {run_id for run_id, status in self.status.items() if status in FINISHED}

    def errors(self, run_ids: Iterable[str]) -> list[str]:
        """The distinct reasons of failed networks."""
        place = COLUMNS["runs"].index("error")
        lines = (self.tables["runs"][run_id][0] for run_id in run_ids if run_id in self.tables["runs"])
        return sorted({reason for line in lines if (reason := fields_of(line)[place])})

    def add(self, rows: Rows) -> None:
        """Keeps a finished pack: when this returns, it is on the disk. Ctrl-C waits until then."""
        with _uninterrupted():
            self._add(rows)

    def _add(self, rows: Rows) -> None:
        self._part_number += 1
        name = f"{time.time_ns():020d}-{os.getpid()}-{self._part_number}"
        hidden, final = self.parts / f"tmp-{name}", self.parts / name
        try:
            hidden.mkdir(parents=True)
            for table in TABLES:
                _write_synced(hidden / f"{table}.csv", [HEADERS[table], *getattr(rows, table)])
            os.rename(hidden, final)
            _sync_folder(self.parts)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            raise UserError(f"cannot write to '{self.folder}': {error.strerror or error}; what was finished is kept") from error
        self._take_in(rows)

    def _take_in(self, rows: Rows) -> None:
        by_table = {table: by_run(getattr(rows, table)) for table in TABLES}
        for run_id in by_table["runs"]:
            for table in TABLES:
                self.tables[table][run_id] = by_table[table].get(run_id, [])

    def _take_in_parts(self) -> None:
        if not self.parts.is_dir():
            return
        for part in sorted(self.parts.iterdir()):
            if part.name.startswith("tmp-"):  # cut off while it was written: it was never said to be finished
                shutil.rmtree(part, ignore_errors=True)
                continue
            lines = {table: read_table(part / f"{table}.csv", table, must_exist=True) for table in TABLES}
            for run_id in lines["runs"]:
                for table in TABLES:
                    self.tables[table][run_id] = lines[table].get(run_id, [])

    def save(self, order: Iterable[str], meta: Mapping[str, Any]) -> None:
        """Writes the four files: networks of ``order`` (run_ids) in that order, after those of other studies."""
        with _uninterrupted():
            self._save(order, meta)

    def _save(self, order: Iterable[str], meta: Mapping[str, Any]) -> None:
        order = [run_id for run_id in order if run_id in self.tables["runs"]]
        ours = set(order)
        order = [run_id for run_id in self.tables["runs"] if run_id not in ours] + order
        try:
            # meta.json first: tables without it would not be taken for results; runs.csv last: it says what is finished
            _replace(self.folder / "meta.json", [json.dumps({"format_version": FORMAT_VERSION, **meta}, indent=2) + "\n"])
            for table in reversed(TABLES):
                rows = self.tables[table]
                lines = (line for run_id in order for line in rows.get(run_id, ()))
                _replace(self.folder / f"{table}.csv", [HEADERS[table], *lines])
            _sync_folder(self.folder)
            shutil.rmtree(self.parts, ignore_errors=True)
        except OSError as error:
            raise UserError(f"cannot write to '{self.folder}': {error.strerror or error}; what was finished is kept") from error


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
        _write_synced(hidden, lines)
        os.replace(hidden, path)
    except OSError:
        hidden.unlink(missing_ok=True)
        raise


def _write_synced(path: Path, lines: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
