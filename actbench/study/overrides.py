"""Overrides in Hydra's grammar → overrides for Hydra to compose with, and the values of swept settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError, shown
from actbench.study.spec import SETTINGS, check_setting_name

MAX_NETWORKS = 1_000_000
PARTS = ("activations", "sweeps", "report_by")  # keys of a study besides settings


def parse_overrides(overrides: Sequence[str], path: Path, config_dir: Path | None) -> tuple[list[str], dict[str, list[Any]]]:
    """(overrides for Hydra to compose with, swept settings and their values)."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    fixed: dict[str, str] = {}
    swept: dict[str, list[Any]] = {}
    for text in overrides:
        named = f"override '{shown(text)}'"
        if "=" not in text and not text.startswith("~"):
            raise UserError(f"{named} has no '='; write SETTING=VALUE, such as lr=0.1,0.01")
        if re.fullmatch(r"[^=]*=\s*", text):
            raise UserError(f"{named} has no value after '='; an empty sweep trains nothing")
        try:
            override = parser.parse_override(text)
            key = override.key_or_group
            head, is_group = key.split(".")[0], _is_group(key, path, config_dir)
            if head not in PARTS and not is_group:
                check_setting_name(head)
                if key != head:
                    raise UserError(f"{named}: '{head}' has no part '{shown(key[len(head) + 1 :])}'")
            if head in PARTS and override.is_sweep_override():
                raise UserError(f"{named}: '{head}' cannot be swept; it belongs in a study file")
            fixed.pop(key, None)  # as in Hydra, the last override of a setting counts
            swept.pop(key, None)
            if override.is_sweep_override():
                _check_size(named, override.value())
                swept[key] = _flatten(override.sweep_iterator())
                if not swept[key]:
                    raise UserError(f"{named} is an empty sweep: it has no values")
            elif override.is_delete() or is_group:
                fixed[key] = text
            else:
                fixed[key] = "++" + text.lstrip("+")
        except (HydraException, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise UserError(f"{named} is not understood: {first_line(error)}") from error
    return list(fixed.values()), swept


def _check_size(named: str, sweep: Any) -> None:
    """UserError for a range with more values than a study may have networks, before it is expanded."""
    for part in (sweep, *(getattr(sweep, "list", None) or [])):
        if hasattr(part, "step") and part.step and abs((part.stop - part.start) / part.step) > MAX_NETWORKS:
            raise UserError(f"{named} has more values than a study may have networks ({MAX_NETWORKS:,})")


def _flatten(values: Iterable[Any]) -> list[Any]:
    """Hydra leaves ``range(1,4)`` inside a choice as it is; this expands it."""
    flat: list[Any] = []
    for value in values:
        flat += value.range() if hasattr(value, "range") else [_plain(value)]
    return flat


def _plain(value: Any) -> Any:
    if hasattr(value, "text") and hasattr(value, "quote"):  # Hydra's QuotedString
        return value.text
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _is_group(key: str, path: Path, config_dir: Path | None) -> bool:
    """Whether a key is a Hydra config group: a folder of options beside the study."""
    group = key.partition("@")[0]
    return group not in SETTINGS and any((folder / group).is_dir() for folder in (path.parent, config_dir) if folder is not None)


def first_line(error: BaseException) -> str:
    """The cause of an error in one line; Hydra hides it in ``__cause__``."""
    while error.__cause__ is not None:
        error = error.__cause__
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return shown(f"line {mark.line + 1}: {getattr(error, 'problem', error)}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or lines[0] == "None" or "ViableAlt" in lines[0]:
        return "it is not of the form SETTING=VALUE (names with other letters go in quotes)"
    return shown(lines[0].partition(" expecting ")[0].rstrip("."))
