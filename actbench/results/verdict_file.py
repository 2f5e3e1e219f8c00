"""verdicts.json, which `actbench judge` leaves in a result folder: what was judged, and from which tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.results.columns import TABLES
from actbench.results.parts import replace_file
from actbench.results.reading import checksum_of

VERDICTS = "verdicts.json"
FORMAT = 1


def write_verdicts(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes what was judged, whole or not at all, with the checksums of the tables that it was judged from."""
    whole = {"format_version": FORMAT, "checksums": _checksums(folder), **content}
    try:
        folder.mkdir(parents=True, exist_ok=True)  # claims about time alone train nothing
        replace_file(folder / VERDICTS, [json.dumps(whole, indent=2, ensure_ascii=False) + "\n"])
    except OSError as error:
        raise UserError(f"cannot write to '{folder}': {error.strerror or error}") from error


def kept_timings(folder: Path) -> dict[str, dict[str, float]]:
    """What claims about time were found to take, from whatever tables the rest was judged; empty if none is known."""
    try:
        timings = json.loads((folder / VERDICTS).read_text(encoding="utf-8"))["timings"]
        return {str(key): {str(name): _number(value) for name, value in one.items()} for key, one in timings.items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}


def read_verdicts(folder: Path) -> dict[str, Any]:
    """What was judged in a folder; UserError if nothing was, or the tables have changed since."""
    path = folder / VERDICTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"'{folder}' has no verdicts; actbench judge --out {folder} gives them") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); actbench judge --out {folder} writes it anew") from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT or not _is_list_of_claims(content.get("claims")):
        raise UserError(f"'{path}' does not hold verdicts as this actbench writes them; actbench judge writes it anew")
    if content.get("checksums") != _checksums(folder):
        raise UserError(f"'{path}' was judged from other tables than those that lie beside it; run actbench judge again")
    return content


def _number(value: Any) -> float:
    """A number as it is, whole ones whole, so that what is judged again is written as it was; TypeError for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return value


def _is_list_of_claims(claims: Any) -> bool:
    return isinstance(claims, list) and all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in claims)


def _checksums(folder: Path) -> dict[str, str]:
    """Table → SHA-256 of its file."""
    paths = {table: folder / f"{table}.csv" for table in TABLES}
    return {table: checksum_of([path.read_bytes()]) for table, path in paths.items() if path.is_file()}
