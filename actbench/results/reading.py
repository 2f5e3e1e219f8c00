"""Reading a result folder: only whole tables of this format version are read; the rest is refused, and nothing changed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.results.columns import COLUMNS, HEADERS, TABLES
from actbench.study.spec import TYPES

FORMAT_VERSION = 2
PARTS = ".actbench-parts"
FINISHED = ("completed", "diverged")
# every other column holds a number or nothing
TEXT_COLUMNS = {"run_id", "status", "error", *(name for name, kind in TYPES.items() if kind in ("str", "bool"))}
Tables = dict[str, dict[str, list[str]]]  # table → run_id → its lines
REMEDY = "nothing was changed; set the folder aside with --fresh, or name another --out"


def read_meta(folder: Path) -> dict[str, Any] | None:
    """meta.json, None where there is none; UserError if it is unreadable or of another format version."""
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); set the folder aside with --fresh, or name another") from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"'{folder}' holds results of format version {version!r}, this actbench reads and writes {FORMAT_VERSION!r}; "
            "name another --out, or set it aside with --fresh"
        )
    datasets = meta.get("datasets", {})
    if not isinstance(datasets, dict) or not all(isinstance(one, dict) for one in datasets.values()):
        raise UserError(f"'{path}' is damaged: its 'datasets' is not a table of data sets")
    if not isinstance(meta.get("earlier", []), list):
        raise UserError(f"'{path}' is damaged: its 'earlier' is not a list")
    return meta


def finished_in(folder: Path) -> set[str]:
    """The run_ids that a folder has results for, as far as its tables say; reads only."""
    tables = read_folder(folder)
    check_whole(folder, tables, orphans=not (folder / PARTS).exists())
    return {run_id for run_id, status in runs_column(tables, "status").items() if status in FINISHED}


def check_tables(folder: Path) -> None:
    """UserError unless a folder holds whole result tables of this version; reads only."""
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}'" if not folder.exists() else f"'{folder}' is not a folder of results")
    if read_meta(folder) is None:
        raise UserError(f"'{folder}' is not a result folder: it has no meta.json")
    check_whole(folder, read_folder(folder, must_exist=True), orphans=not (folder / PARTS).exists())


def read_folder(folder: Path, *, must_exist: bool = False) -> Tables:
    """All tables of a folder, empty where there are none unless they ``must_exist``; UserError for what is no result folder."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file, not a folder")
    meta = read_meta(folder)
    found = [table for table in TABLES if (folder / f"{table}.csv").exists()]
    if meta is None and found:
        raise UserError(
            f"'{folder}' has a {found[0]}.csv but no meta.json, so it is not a result folder of actbench; "
            "name another --out, or set it aside with --fresh"
        )
    return {table: read_table(folder / f"{table}.csv", table, must_exist=must_exist) for table in TABLES}


def check_whole(folder: Path, tables: Tables, *, orphans: bool = True) -> None:
    """UserError if a finished network lacks rows of its evaluations, or rows have no network: a table was cut off.

    While parts wait to be merged there may be such ``orphans``.
    """
    for run_id, (line, *more) in tables["runs"].items():
        row = dict(zip(COLUMNS["runs"], fields_of(line), strict=True))
        if more:
            raise UserError(f"'{folder / 'runs.csv'}' has network {run_id} twice; {REMEDY}")
        if row["status"] not in FINISHED:
            continue
        evaluations, depth = (int(float(row[name] or 0)) for name in ("evaluations", "depth"))
        for table, rows in (("history", evaluations), ("layers", evaluations * depth)):
            if len(tables[table].get(run_id, ())) != rows:
                raise UserError(f"'{folder / table}.csv' is not whole: network {run_id} should have {rows} rows in it; {REMEDY}")
    for table in ("history", "layers"):
        lost = next((run_id for run_id in tables[table] if run_id not in tables["runs"]), None)
        if orphans and lost:
            raise UserError(f"'{folder / 'runs.csv'}' is not whole: it lacks network {lost}, which {table}.csv has; {REMEDY}")


def read_table(path: Path, table: str, *, must_exist: bool = False) -> dict[str, list[str]]:
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
    if not lines or lines[0] != HEADERS[table]:
        raise UserError(f"'{path}' is not a {table}.csv of this version of actbench (its header differs); {REMEDY}")
    numbers = [place for place, name in enumerate(COLUMNS[table]) if name not in TEXT_COLUMNS]
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not _is_row(line, len(COLUMNS[table]), numbers):
            raise UserError(f"'{path}' is cut off or damaged at line {number}; {REMEDY}")
        rows.setdefault(line.partition(",")[0], []).append(line)
    return rows


def _is_row(line: str, width: int, numbers: list[int]) -> bool:
    """Whether a line is whole: it ends, has its fields, and numbers where they belong."""
    try:
        fields = fields_of(line)
        for place in numbers if len(fields) == width else ():
            float(fields[place] or 0)
    except (ValueError, csv.Error, StopIteration):
        return False
    return len(fields) == width and line.endswith("\n")


def fields_of(line: str) -> list[str]:
    """The fields of one line of CSV."""
    return next(csv.reader([line], strict=True)) if '"' in line else line.rstrip("\n").split(",")


def runs_column(tables: Tables, column: str) -> dict[str, str]:
    """run_id → a field of runs.csv."""
    place = COLUMNS["runs"].index(column)
    return {run_id: fields_of(lines[0])[place] for run_id, lines in tables["runs"].items()}
