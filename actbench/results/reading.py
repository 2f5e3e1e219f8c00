"""Reading a result folder, for every command alike: only whole tables are read; the rest is refused, and nothing changed.

Tables are read by the names of their columns, so that those of earlier formats are read as if they had been written today.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError, shown
from actbench.results.columns import COLUMNS, FIELDS, FINISHED, FORMAT_VERSION, HEADERS, NEEDED, NUMBER, TABLES
from actbench.results.rows import csv_line, fields_of
from actbench.study.spec import KEY_COLUMNS, SETTINGS, TYPES, check_own_value, check_value, run_id_of

FORMAT_2 = 2  # the format before sessions and checksums
PARTS = ".actbench-parts"
JOBS = ".actbench-jobs"  # what jobs of a cluster are to train; while it is there, they may be writing parts
Tables = dict[str, dict[str, list[str]]]  # table → run_id → its lines, in the columns of today
REMEDY = "nothing was changed; set the folder aside with --fresh, or name another --out"
EDITED = "edited"  # stands in meta.json for the checksum of a table that was edited on purpose
ATTEMPTS = 5  # at reading a folder that a run is writing


@dataclass
class Contents:
    """What a result folder holds.

    Attributes:
        meta: meta.json as of today's format, empty if there is none.
        tables: all rows.
        checksums: table → SHA-256 of its file, of those that are there.
    """

    meta: dict[str, Any] = field(default_factory=dict)
    tables: Tables = field(default_factory=lambda: {table: {} for table in TABLES})
    checksums: dict[str, str] = field(default_factory=dict)


def finished_in(folder: Path) -> set[str]:
    """The run_ids that a folder has results for, as far as its tables say."""
    return finished_of(read_folder(folder).tables)


def finished_of(tables: Tables) -> set[str]:
    """The run_ids of networks that have a result."""
    return {run_id for run_id, status in runs_column(tables, "status").items() if status in FINISHED}


def read_results(folder: Path) -> Contents:
    """Everything in a result folder; UserError unless it holds whole tables."""
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}'" if not folder.exists() else f"'{folder}' is not a folder of results")
    if not (folder / "meta.json").exists():
        raise UserError(f"'{folder}' is not a result folder: it has no meta.json")
    return read_folder(folder, must_exist=True)


def read_folder(folder: Path, *, must_exist: bool = False, merging: bool = False) -> Contents:
    """Everything in a result folder, empty where there is nothing unless tables ``must_exist``. Reads only.

    UserError for what is no result folder, or not whole. Who is ``merging`` its parts checks with `check_whole` afterwards.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file, not a folder")
    for attempt in range(1, ATTEMPTS + 1):
        written = text_of(folder / "meta.json")
        try:
            contents = _read_once(folder, written, must_exist=must_exist)
            if not merging:
                check_whole(folder, contents.tables, orphans=not (folder / PARTS).exists())
            return contents
        except UserError:  # unless a run has written the folder meanwhile
            if attempt == ATTEMPTS or text_of(folder / "meta.json") == written:
                raise
    raise AssertionError


def _read_once(folder: Path, written: str | None, *, must_exist: bool) -> Contents:
    found = [table for table in TABLES if (folder / f"{table}.csv").exists()]
    if written is None and found:
        raise UserError(
            f"'{folder}' has a {found[0]}.csv but no meta.json, so it is not a result folder of actbench; "
            "name another --out, or set it aside with --fresh"
        )
    contents = Contents() if written is None else Contents(_meta_of(folder, written))
    for table in TABLES:
        path = folder / f"{table}.csv"
        if table not in found and must_exist:
            raise UserError(f"no file '{path}'")
        if table in found:
            contents.tables[table], checksum = read_table(path, table, session="1")
            contents.checksums[table] = checksum
            known = contents.meta["checksums"].get(table, [EDITED])
            if checksum not in known and EDITED not in known:
                raise UserError(
                    f"'{path}' is not as actbench wrote it: its checksum differs. Restore it; or, if it was edited on purpose, "
                    f'write "{table}": "{EDITED}" under "checksums" in \'{folder / "meta.json"}\''
                )
    return contents


def text_of(path: Path) -> str | None:
    """What a file holds, None if it is not there."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"'{path}' is not a file; {REMEDY}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); set the folder aside with --fresh, or name another") from error


def _meta_of(folder: Path, written: str) -> dict[str, Any]:
    """meta.json in the format of today; UserError if it is damaged or of a later format."""
    path = folder / "meta.json"
    try:
        meta = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); set the folder aside with --fresh, or name another") from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if type(version) is not int or not FORMAT_2 <= version <= FORMAT_VERSION:
        raise UserError(
            f"'{folder}' holds results of format version {shown(repr(version))}, this actbench reads {FORMAT_2} to "
            f"{FORMAT_VERSION}; name another --out, or set it aside with --fresh"
        )
    if version == FORMAT_2:  # its session, and commands before it
        session = {key: meta.get(key) for key in SESSION}
        session = {"session": 1, **session, "earlier": meta.pop("earlier", [])}
        meta |= {"format_version": FORMAT_VERSION, "sessions": [session], "checksums": {}}
    meta["checksums"] = {
        table: known if isinstance(known, list) else [known] for table, known in _mapping(path, meta, "checksums").items()
    }
    if not all(isinstance(one, dict) for one in _mapping(path, meta, "datasets").values()):
        raise UserError(f"'{path}' is damaged: its 'datasets' is not a table of data sets; {REMEDY}")
    study, names = _mapping(path, meta, "study"), meta["study"].get("report_by") or []
    figures = [study.get("networks"), study.get("others")]
    figures += [facts.get(name) for facts in meta["datasets"].values() for name in ("test", "classes", "majority")]
    if not all(figure is None or (isinstance(figure, (int, float)) and 0 <= figure < math.inf) for figure in figures):
        raise UserError(f"'{path}' is damaged: it has something else where a number belongs; {REMEDY}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"'{path}' is damaged: its 'report_by' is not a list of names; {REMEDY}")
    sessions = meta.setdefault("sessions", [])
    if not isinstance(sessions, list) or not all(isinstance(session, dict) for session in sessions):
        raise UserError(f"'{path}' is damaged: its 'sessions' is not a list of sessions; {REMEDY}")
    return meta


# what meta.json keeps of every session
SESSION = ("command", "started", "finished", "git_commit", "versions", "hardware")


def _mapping(path: Path, meta: dict[str, Any], key: str) -> dict[str, Any]:
    found = meta.setdefault(key, {})
    if not isinstance(found, dict):
        raise UserError(f"'{path}' is damaged: its '{key}' is not a table; {REMEDY}")
    return found


def check_whole(folder: Path, tables: Tables, *, orphans: bool = True) -> None:
    """UserError if a network's settings are not those of its run_id, or it lacks rows of its evaluations, or its rows differ in
    their keys, or rows have no network: a table was edited or cut off.

    While parts wait to be merged there may be such ``orphans``.
    """
    for run_id, (line, *more) in tables["runs"].items():
        fields = fields_of(line)
        row = dict(zip(COLUMNS["runs"], fields, strict=True))
        if more:
            raise UserError(f"'{folder / 'runs.csv'}' has network {run_id} twice; {REMEDY}")
        try:
            read = _own_value if row["model_checksum"] else _value
            found = run_id_of({name: read(name, row[name]) for name in SETTINGS})
        except UserError as error:
            raise UserError(f"'{folder / 'runs.csv'}': network {run_id}: {error}; {REMEDY}") from error
        if found != run_id:
            raise UserError(
                f"'{folder / 'runs.csv'}': the settings of network {run_id} are not those that it was trained with (they are "
                f"those of {found}): restore its row, or delete it and its rows in history.csv and layers.csv"
            )
        if row["status"] not in FINISHED:
            continue
        key = csv_line(fields[: len(KEY_COLUMNS)])[:-1] + ","
        evaluations = int(row["evaluations"] or 0)
        for table, rows in (("history", evaluations), ("layers", evaluations * int(row["depth"]))):
            lines = tables[table].get(run_id, ())
            if len(lines) != rows:
                raise UserError(f"'{folder / table}.csv' is not whole: network {run_id} should have {rows} rows in it; {REMEDY}")
            if not all(line.startswith(key) for line in lines):
                raise UserError(
                    f"'{folder / table}.csv': rows of network {run_id} disagree with runs.csv on its settings; {REMEDY}"
                )
    for table in ("history", "layers"):
        lost = next((run_id for run_id in tables[table] if run_id not in tables["runs"]), None)
        if orphans and lost:
            raise UserError(f"'{folder / 'runs.csv'}' is not whole: it lacks network {lost}, which {table}.csv has; {REMEDY}")


def _own_value(name: str, text: str) -> Any:
    """A setting of a network of a user's own as it is read; UserError if none may have it."""
    return check_own_value(name, text or None) if TYPES[name] == "str" or not text else _value(name, text)


@lru_cache(2**17)
def _value(name: str, text: str) -> Any:
    """A setting as it is read; UserError if no network may have it."""
    if not text:
        return check_value(name, None)
    if TYPES[name] == "bool":
        return text == "true"
    return check_value(name, {"int": int, "float": float}.get(TYPES[name], str)(text))


def read_table(path: Path, table: str, session: str = "") -> tuple[dict[str, list[str]], str]:
    """run_id → its lines, in the file's order and the columns of today, and the file's checksum; ``session`` is that of rows of
    a format without. UserError for a foreign or damaged file.
    """
    try:
        if not path.is_file():
            raise UserError(f"'{path}' is not a file; {REMEDY}" if path.exists() else f"no file '{path}'")
        with path.open("rb") as file:
            raw = file.readlines()
        lines = [line.decode() for line in raw]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); nothing was changed") from error
    names = lines[0].rstrip("\n").split(",") if lines else []
    if len(set(names)) < len(names) or not NEEDED[table] <= set(names) <= set(COLUMNS[table]):
        strange = next(
            (f"it has no column '{shown(name)}'" for name in names if name not in COLUMNS[table]), "columns are missing"
        )
        raise UserError(f"'{path}' is not a {table}.csv of this version of actbench (its header differs: {strange}); {REMEDY}")
    is_row = _row_reader(tuple(names))
    as_today = None if lines[0] == HEADERS[table] else _translator(table, names, session)
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not is_row(line):
            raise UserError(f"'{path}' is cut off or damaged at line {number}; {REMEDY}")
        rows.setdefault(line[:16], []).append(as_today(line) if as_today else line)
    return rows, checksum_of(raw)


def checksum_of(lines: Iterable[bytes]) -> str:
    """Of a table's lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return f"sha256:{digest.hexdigest()}"


@lru_cache(16)
def _row_reader(names: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a line is whole: it ends, has its fields, and in each what may stand there."""
    pattern = re.compile(",".join(f"(?:{FIELDS.get(name, NUMBER)})" for name in names) + "\n")

    def is_row(line: str) -> bool:
        return pattern.fullmatch(line) is not None and ("e+" not in line or all(map(_is_finite, names, fields_of(line))))

    return is_row


def _is_finite(name: str, text: str) -> bool:
    """Whether a field is no number beyond the largest, which would be read as infinity."""
    return FIELDS.get(name, NUMBER) != NUMBER or math.isfinite(float(text or 0))


def _translator(table: str, names: Sequence[str], session: str) -> Callable[[str], str]:
    """From a line of these columns to one of today's. What it lacks is empty, or the value that all networks had."""
    lacking = {name: setting.metadata["before"] for name, setting in SETTINGS.items()} | {"session": session}

    def as_today(line: str) -> str:
        row = lacking | dict(zip(names, fields_of(line), strict=True))
        return csv_line(row.get(name) for name in COLUMNS[table])

    return as_today


def runs_column(tables: Tables, column: str) -> dict[str, str]:
    """run_id → a field of runs.csv."""
    place = COLUMNS["runs"].index(column)
    return {run_id: fields_of(lines[0])[place] for run_id, lines in tables["runs"].items()}
