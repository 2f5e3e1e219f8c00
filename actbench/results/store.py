"""One result folder, held by the run that writes its tables. Nothing finished is lost, whatever is killed when.

A folder holds runs.csv, history.csv, layers.csv and meta.json. While a run is on, each finished pack lies whole in
``.actbench-parts/SESSION/`` (parts.py); parts are merged into the tables, each table being written whole and renamed, and are
removed only then. A part that is merged twice changes nothing: rows go by ``run_id``. meta.json has the checksums of the tables;
while these are written, it has those of the old ones as well, so that a folder can be read after a kill at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.results.columns import FORMAT_VERSION, HEADERS, TABLES
from actbench.results.lock import LOCK, OWNER, FolderLock
from actbench.results.parts import Part, finished_parts, part_name, read_part, remove_part, replace_file, sync_folder, write_error
from actbench.results.reading import JOBS, PARTS, check_whole, checksum_of, finished_of, read_folder, runs_column
from actbench.results.rows import Rows, rows_of_failed
from actbench.study.spec import RunSpec

SET_ASIDE = "set-aside"  # where foreign files go that lie among parts
_SESSION = re.compile("[0-9]{1,9}")
_PART = re.compile("[0-9a-f]{32}|[0-9]+-[0-9]+-[0-9]+")  # of this version, of version 0.1.0


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
    be written, is in use, or holds files that are not results. ``fresh``: what it holds is set aside. ``takeover``: see
    `FolderLock`.

    Attributes:
        parts: where packs of this session write their parts.
        notes: what a user should know.
    """

    def __init__(self, folder: Path, *, fresh: bool = False, takeover: str | None = None) -> None:
        self.folder, self.fresh, self._takeover = folder, fresh, takeover
        self.notes: list[str] = []
        self._nodes: dict[int, dict[str, Mapping[str, Any]]] = {}  # session → host → what machine it is
        self._merged: set[Path] = set()  # parts whose rows are in the tables here, and not yet on the disk

    def __enter__(self) -> Store:
        if self.fresh and self.folder.exists():
            self._set_results_aside()
        self._lock = FolderLock(self.folder, self._takeover)
        try:
            contents = read_folder(self.folder, merging=True)
            self.meta, self.tables, self._checksums = contents.meta, contents.tables, contents.checksums
            self.session = len(self.meta.get("sessions", [])) + 1
            self.parts = self.folder / PARTS / str(self.session)
            self.take_in_parts()
            check_whole(self.folder, self.tables)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for path in (*(self.folder / PARTS).glob("*"), self.folder / PARTS) if self._nobody_else_writes else ():
            with contextlib.suppress(OSError):  # if it is empty; a part that could not be merged stays
                path.rmdir()
        self._lock.release(self.folder)

    @property
    def _nobody_else_writes(self) -> bool:
        return not (self.folder / JOBS).exists()

    @property
    def status(self) -> dict[str, str]:
        """run_id → status of every network in the folder."""
        return runs_column(self.tables, "status")

    @property
    def finished(self) -> set[str]:
        """The run_ids of networks that need no more training."""
        return finished_of(self.tables)

    def errors(self, run_ids: Iterable[str]) -> list[str]:
        """The distinct reasons of failed networks."""
        known = runs_column(self.tables, "error")
        return sorted({known[run_id] for run_id in run_ids if known.get(run_id)})

    @_uninterrupted()
    def take_in(self, run_ids: Collection[str]) -> Part:
        """Takes in the part of a finished pack, whose networks are these; UserError if it is not whole."""
        name = part_name(run_ids)
        path = next((self.folder / PARTS).glob(f"*/{name}"), self.parts / name)  # of this session, or of jobs of an earlier one
        part = read_part(path)
        if set(part.tables["runs"]) != set(run_ids):
            raise UserError(f"'{path}' does not hold the networks that it is named after; nothing was changed")
        self._merge(path, part, path.parent.name)
        return part

    @_uninterrupted()
    def take_in_parts(self) -> None:
        """Takes in all parts on the disk, whoever wrote them."""
        parts, clean = self.folder / PARTS, self._nobody_else_writes
        if os.path.lexists(parts) and not parts.is_dir():
            self._set_foreign_aside(parts)
        for path in finished_parts(parts, clean=clean):
            if _SESSION.fullmatch(path.name) and path.is_dir():
                for part in finished_parts(path, clean=clean):
                    self._take_in_one(part, path.name)
            else:
                self._take_in_one(path, str(max(1, self.session - 1)))

    def _take_in_one(self, path: Path, session: str) -> None:
        if not _PART.fullmatch(path.name) or not path.is_dir():
            self._set_foreign_aside(path)
        elif path not in self._merged:
            self._merge(path, read_part(path), session)

    @_uninterrupted()
    def add_failed(self, specs: Sequence[RunSpec], reason: str) -> None:
        """Keeps a row for each network that could not be trained; the next run tries them again."""
        for spec, line in zip(specs, rows_of_failed(specs, reason), strict=True):
            for table in TABLES:
                self.tables[table][spec.run_id] = [_of_session(line, str(self.session))] if table == "runs" else []

    @_uninterrupted()
    def put(self, run_id: str, rows: Rows, session: int) -> None:
        """Keeps a network's rows in place of those that it had."""
        for table in TABLES:
            self.tables[table][run_id] = [_of_session(line, str(session)) for line in rows[table]]

    def _merge(self, path: Path, part: Part, session: str) -> None:
        self._merged.add(path)
        if part.node is not None:
            self._nodes.setdefault(int(session), {})[str(part.node.get("host"))] = part.node
        for run_id in part.tables["runs"]:
            for table in TABLES:
                self.tables[table][run_id] = [_of_session(line, session) for line in part.tables[table].get(run_id, ())]

    @_uninterrupted()
    def save(self, order: Iterable[str], meta: Mapping[str, Any]) -> None:
        """Writes the four files: networks of ``order`` (run_ids) in that order, after those of other studies."""
        runs = self.tables["runs"]
        ours = dict.fromkeys(run_id for run_id in order if run_id in runs)
        order = [*(run_id for run_id in runs if run_id not in ours), *ours]
        lines = {
            table: [HEADERS[table], *(line for run_id in order for line in self.tables[table].get(run_id, ()))]
            for table in TABLES
        }
        new = {table: checksum_of(line.encode() for line in lines[table]) for table in TABLES}
        changed = [table for table in reversed(TABLES) if new[table] != self._checksums.get(table)]
        try:
            # meta.json first: tables without it would not be taken for results; runs.csv last: it says what is finished
            if changed:
                both = {table: [known for known in {new[table]: 0, self._checksums.get(table): 0} if known] for table in TABLES}
                self._write_meta(meta, both)
            for table in changed:
                replace_file(self.folder / f"{table}.csv", lines[table])
            sync_folder(self.folder)
            self._checksums = new
            self._write_meta(meta, new)
            sync_folder(self.folder)
            while self._merged:
                remove_part(self._merged.pop())
        except OSError as error:
            raise write_error(self.folder, error) from error

    def _write_meta(self, meta: Mapping[str, Any], checksums: Mapping[str, Any]) -> None:
        for number, session in enumerate(meta.get("sessions", ()), 1):
            if found := self._nodes.get(number):
                known = session.get("nodes")
                before = (
                    {str(node.get("host")): node for node in known if isinstance(node, dict)} if isinstance(known, list) else {}
                )
                session["nodes"] = [*{**before, **found}.values()]
        content = {"format_version": FORMAT_VERSION, **meta, "checksums": checksums}
        replace_file(self.folder / "meta.json", [json.dumps(content, indent=2) + "\n"])

    def _set_foreign_aside(self, path: Path) -> None:
        """Moves what is not a part out of the way, since what lies among parts would be read."""
        target = _free_name(self.folder / SET_ASIDE / path.name)
        try:
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        except OSError as error:
            raise UserError(
                f"'{path}' is none of actbench's files, and cannot be set aside: {error.strerror or error}"
            ) from error
        self.notes.append(f"'{path}' is none of actbench's files; set aside as '{target}'")

    def _set_results_aside(self) -> None:
        """Renames the folder to FOLDER.old-1, -2, …, once no other run holds it."""
        ours = ("meta.json", PARTS, LOCK, OWNER, *(f"{table}.csv" for table in TABLES))
        if not self.folder.is_dir() or (any(self.folder.iterdir()) and not any((self.folder / one).exists() for one in ours)):
            raise UserError(f"'{self.folder}' is not a result folder, so --fresh leaves it alone; name another --out")
        if not any(self.folder.iterdir()):
            return
        if Path.cwd().is_relative_to(self.folder.resolve()):  # which would go with it, and the new results into the old folder
            raise UserError(f"--fresh: the working folder lies in '{self.folder}'; change to another, or name another --out")
        if not self._nobody_else_writes:
            raise UserError(f"--fresh: jobs may still be training for '{self.folder}'; end them first with launcher.cancel=true")
        lock, folder = FolderLock(self.folder, self._takeover), self.folder.absolute()
        if os.name == "nt":  # which renames no folder of an open file
            lock.release(folder)
        target = _free_name(folder.with_name(f"{folder.name}.old"))
        try:
            folder.rename(target)
        except OSError as error:
            target = folder
            raise UserError(f"cannot set '{folder}' aside: {error.strerror or error}") from error
        finally:
            lock.release(target)
        self.notes.append(f"old results set aside in {target}")


def _free_name(path: Path) -> Path:
    """PATH-1, PATH-2, …: the first that is not there."""
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}-{number}")):
        number += 1
    return target


def _of_session(line: str, session: str) -> str:
    """A row with its session, the last column, if it has none yet."""
    return f"{line[:-1]}{session}\n" if line.endswith(",\n") else line
