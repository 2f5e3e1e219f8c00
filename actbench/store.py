"""The only code that touches result files. Nothing finished is lost, whatever is killed when.

A folder holds runs.csv, history.csv, layers.csv and meta.json. While a run is on, each finished pack lies whole in
``.parts/`` (written to a temporary file, synced, renamed); parts are merged into the tables, each table being written
whole and renamed, and are removed only then. A part that is merged twice changes nothing: rows go by ``run_id``.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from actbench.errors import UserError
from actbench.tables import COLUMNS, HEADERS, TABLES, Rows

FORMAT_VERSION = 1
FINISHED = ("completed", "diverged")


class Store:
    """One result folder, held by one process at a time. Use as a context manager.

    Raises:
        UserError: the folder cannot be written, is in use, or holds files that are not this version's results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / ".parts"
        self._part_number = 0

    def __enter__(self) -> Store:
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".lock")
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"'{self.folder}' is in use by another actbench run; wait for it, or name another --out") from None
        except OSError as error:
            raise UserError(f"cannot write to '{self.folder}': {error.strerror or error}") from error
        try:
            self._check_version()
            self.tables = {table: _read_table(self.folder / f"{table}.csv", table) for table in TABLES}
            self._take_in_parts()
            self._check_whole()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._release()

    def _release(self) -> None:
        # removed while it is still held: who opened it meanwhile finds it unlinked and tries anew
        with contextlib.suppress(OSError):
            (self.folder / ".lock").unlink()
        self._lock.release()

    def _check_version(self) -> None:
        meta = read_meta(self.folder)
        tables = [table for table in TABLES if (self.folder / f"{table}.csv").exists()]
        if meta is None and tables:
            raise UserError(
                f"'{self.folder}' has a {tables[0]}.csv but no meta.json, so it is not a result folder of actbench; "
                "name another --out, or set it aside with --fresh"
            )

    def _check_whole(self) -> None:
        """UserError if a finished network lacks rows of its evaluations: a table was cut off between lines."""
        place = {name: COLUMNS["runs"].index(name) for name in ("status", "epochs", "eval_every", "depth")}
        for run_id, (line, *_) in self.tables["runs"].items():
            fields = next(csv.reader([line]))
            if fields[place["status"]] not in FINISHED:
                continue
            epochs, every = int(fields[place["epochs"]]), int(fields[place["eval_every"]])
            evaluations = len(range(0, epochs, every)) + 1
            wanted = {"history": evaluations, "layers": evaluations * int(fields[place["depth"]])}
            for table, rows in wanted.items():
                if len(self.tables[table].get(run_id, ())) != rows:
                    raise UserError(
                        f"'{self.folder / table}.csv' is not whole: network {run_id} should have {rows} rows in it; "
                        "nothing was changed; set the folder aside with --fresh, or name another --out"
                    )

    @property
    def status(self) -> dict[str, str]:
        """run_id → status of every network in the folder."""
        place = COLUMNS["runs"].index("status")
        return {run_id: next(csv.reader(lines[:1]))[place] for run_id, lines in self.tables["runs"].items()}

    @property
    def finished(self) -> set[str]:
        """The run_ids of networks that need no more training."""
        return {run_id for run_id, status in self.status.items() if status in FINISHED}

    def errors(self, run_ids: Iterable[str]) -> list[str]:
        """The distinct reasons of failed networks."""
        place = COLUMNS["runs"].index("error")
        lines = (self.tables["runs"][run_id][0] for run_id in run_ids if run_id in self.tables["runs"])
        return sorted({reason for line in lines if (reason := next(csv.reader([line]))[place])})

    def add(self, rows: Rows) -> None:
        """Keeps a finished pack: when this returns, it is on the disk."""
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
        by_table = {table: _by_run(getattr(rows, table)) for table in TABLES}
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
            lines = {table: _read_table(part / f"{table}.csv", table, must_exist=True) for table in TABLES}
            for run_id in lines["runs"]:
                for table in TABLES:
                    self.tables[table][run_id] = lines[table].get(run_id, [])

    def save(self, order: Iterable[str], meta: Mapping[str, Any]) -> None:
        """Writes the four files: networks of ``order`` (run_ids) in that order, after those of other studies."""
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


def read_meta(folder: Path) -> dict[str, Any] | None:
    """meta.json, None where there is none; UserError if it is unreadable or of another format version."""
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); set the folder aside with --fresh, or name another") from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"'{folder}' holds results of format version {version}, this actbench reads and writes {FORMAT_VERSION}; "
            "name another --out, or set it aside with --fresh"
        )
    return meta


def finished_in(folder: Path) -> set[str]:
    """The run_ids that a folder has results for, as far as its tables say; reads only."""
    read_meta(folder)
    place = COLUMNS["runs"].index("status")
    rows = _read_table(folder / "runs.csv", "runs")
    return {run_id for run_id, lines in rows.items() if next(csv.reader(lines[:1]))[place] in FINISHED}


def check_tables(folder: Path) -> None:
    """UserError unless a folder holds whole result tables of this version; reads only."""
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}'" if not folder.exists() else f"'{folder}' is not a folder of results")
    if read_meta(folder) is None:
        raise UserError(f"'{folder}' is not a result folder: it has no meta.json")
    for table in TABLES:
        _read_table(folder / f"{table}.csv", table, must_exist=True)


def set_aside(folder: Path) -> Path | None:
    """Renames a result folder to FOLDER.old-1, -2, …; returns the new name, None if there was nothing."""
    if not folder.exists():
        return None
    number = 1
    while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    try:
        folder.rename(target)
    except OSError as error:
        raise UserError(f"cannot set '{folder}' aside: {error.strerror or error}") from error
    return target


def _read_table(path: Path, table: str, *, must_exist: bool = False) -> dict[str, list[str]]:
    """run_id → its lines, in the file's order. UserError for a foreign or truncated file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = file.readlines()
    except FileNotFoundError:
        if must_exist:
            raise UserError(f"no file '{path}'") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); nothing was changed") from error
    remedy = "nothing was changed; set the folder aside with --fresh, or name another --out"
    if not lines or lines[0] != HEADERS[table]:
        raise UserError(f"'{path}' is not a {table}.csv of this version of actbench (its header differs); {remedy}")
    width = len(COLUMNS[table])
    for number, (line, fields) in enumerate(zip(lines[1:], csv.reader(lines[1:]), strict=False), 2):
        if len(fields) != width or not line.endswith("\n"):
            raise UserError(f"'{path}' is cut off or damaged at line {number}; {remedy}")
    return _by_run(lines[1:])


def _by_run(lines: Iterable[str]) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in lines:
        rows.setdefault(line.partition(",")[0], []).append(line)
    return rows


def _replace(path: Path, lines: list[str]) -> None:
    hidden = path.with_name(f".{path.name}.tmp")
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
