"""verdicts.json, which `actbench judge` leaves in a result folder: what was judged, and from which tables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.results.columns import TABLES
from actbench.results.reading import checksum_of

VERDICTS = "verdicts.json"
FORMAT = 1


def write_verdicts(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes what was judged, whole or not at all, with the checksums of the tables that it was judged from."""
    whole = {"format_version": FORMAT, "checksums": _checksums(folder), **content}
    hidden = folder / f".actbench-{VERDICTS}.tmp"
    try:
        hidden.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(hidden, folder / VERDICTS)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise UserError(f"cannot write to '{folder}': {error.strerror or error}") from error


def read_verdicts(folder: Path, *, stale: bool = False) -> dict[str, Any]:
    """What was judged in a folder; UserError if nothing was, or, unless ``stale`` will do, the tables have changed since."""
    path = folder / VERDICTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"'{folder}' has no verdicts; actbench judge --out {folder} gives them") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); actbench judge --out {folder} writes it anew") from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT or not _is_list_of_claims(content.get("claims")):
        raise UserError(f"'{path}' does not hold verdicts as this actbench writes them; actbench judge writes it anew")
    if not stale and content.get("checksums") != _checksums(folder):
        raise UserError(f"'{path}' was judged from other tables than those that lie beside it; run actbench judge again")
    return content


def _is_list_of_claims(claims: Any) -> bool:
    return isinstance(claims, list) and all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in claims)


def _checksums(folder: Path) -> dict[str, str]:
    """Table → SHA-256 of its file."""
    paths = {table: folder / f"{table}.csv" for table in TABLES}
    return {table: checksum_of([path.read_bytes()]) for table, path in paths.items() if path.is_file()}
