"""The gate of a result folder: expressions → what each came to. It cannot fail open.

What passes while networks are still missing may fail with them, so it is undecided until they are there. An old folder must
be another one, measured on the same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from actbench.base.errors import UserError, shown, unknown
from actbench.base.paths import user_path
from actbench.results.frames import load
from actbench.results.measures import chance_levels
from actbench.results.provenance import other_data
from actbench.results.verdict_file import read_verdicts
from actbench.verdicts.check import Judged, judge
from actbench.verdicts.expression import EXAMPLE, FACT_VERDICTS, VERDICTS, Arithmetic, ClaimIs, Comparison, parse, parts_of
from actbench.verdicts.selection import Tables


@dataclass(frozen=True)
class Checked:
    """An expression, and what it came to; None where it is a mistake, which ``error`` tells."""

    expression: str
    judged: Judged | None
    error: str = ""

    @property
    def outcome(self) -> str:
        """``pass``, ``fail``, ``undecided`` or ``error``."""
        return self.judged.outcome if self.judged else "error"


@dataclass(frozen=True)
class Gate:
    """What all expressions came to, and what a reader should know of the folders."""

    checked: tuple[Checked, ...]
    notes: tuple[str, ...] = ()

    def count(self, outcome: str) -> int:
        """How many expressions came to it."""
        return sum(one.outcome == outcome for one in self.checked)

    @property
    def exit_code(self) -> int:
        """0 if every expression holds, 2 if one is a mistake or there is none, else 1."""
        if not self.checked or self.count("error"):
            return 2
        return int(self.count("pass") < len(self.checked))


@dataclass(frozen=True)
class _Folder:
    """A result folder as read: its name, its tables, meta.json, and a line if networks are missing."""

    name: Path
    tables: Tables
    meta: dict[str, Any]
    missing: str


def check_folder(path: Path, expressions: Sequence[str], against: Path | None = None) -> Gate:
    """Judges expressions in a result folder, and perhaps an old one.

    Raises:
        UserError: there is no expression, a folder cannot be read, or the old folder is not used, is the same, or was measured on
            other data. A mistake in a single expression is its ``error``, and the others are judged.
    """
    if not expressions:
        raise UserError(f"no expression, so nothing would be checked; {EXAMPLE}")
    trees = [_parsed(text) for text in expressions]
    comparing = [tree for tree in trees if isinstance(tree, Comparison)]
    mistakes = any(isinstance(tree, UserError) for tree in trees)
    if against is not None and not mistakes and not any(map(_uses_old, comparing)):
        raise UserError(
            f"--against {against}: no expression reads it; such as mean(dead_fraction) - old.mean(dead_fraction) <= 0.02"
        )
    here = _read(path) if comparing else None
    old = _read(against) if against is not None else None
    folders = [folder for folder in (here, old) if folder is not None]
    notes = [f"{folder.name}: {folder.missing}" for folder in folders if folder.missing]
    if here is not None and old is not None:
        notes += _comparable(here, old)
    checked = []
    for text, tree in zip(expressions, trees, strict=True):
        try:
            if isinstance(tree, UserError):
                raise tree
            if isinstance(tree, ClaimIs):
                judged = _of_claim(path, tree)
            else:
                assert here is not None
                judged = _judged(tree, here, old)
            checked.append(Checked(text, judged))
        except UserError as error:
            checked.append(Checked(text, None, str(error)))
    return Gate(tuple(checked), tuple(notes))


def _parsed(text: str) -> Comparison | ClaimIs | UserError:
    try:
        return parse(text)
    except UserError as error:
        return error


def _uses_old(tree: Comparison) -> bool:
    return any(part.old for part in parts_of(Arithmetic(tree.left, "-", tree.right)))


def _read(path: Path) -> _Folder:
    results = load(path)
    (meta,) = results.meta
    wanted, done = meta["study"].get("networks") or 0, len(results.runs) - (meta["study"].get("others") or 0)
    missing = f"{done:,} of {wanted:,} networks so far" if done < wanted else ""
    return _Folder(path, Tables(results.runs, results.history, results.layers, chance_levels([meta])), meta, missing)


def _comparable(here: _Folder, old: _Folder) -> list[str]:
    """Notes on networks that only one folder has; UserError if they are one folder, or were measured on different data."""
    if here.name.resolve() == old.name.resolve():
        raise UserError(f"--against {old.name}: this is the folder that is checked, so nothing would be compared")
    if (name := other_data(here.meta, old.meta)) is not None:
        raise UserError(f"--against {old.name}: dataset '{name}' is not that of '{here.name}' (its checksum differs)")
    networks, before = set(here.tables.runs["run_id"]), set(old.tables.runs["run_id"])
    if networks == before:
        return []
    counts = f"{len(networks):,} in '{here.name}', {len(before):,} in '{old.name}', {len(networks & before):,} in both"
    return [f"the folders have different networks ({counts}), so means are paired by seed alone"]


def _judged(tree: Comparison, here: _Folder, old: _Folder | None) -> Judged:
    """What a comparison comes to; undecided if it holds only so far."""
    judged = judge(tree, here.tables, old.tables if old else None)
    missing = here.missing or (old.missing if old and _uses_old(tree) else "")
    if judged.outcome != "pass" or not missing:
        return judged
    reason = f"it holds, but there are only {missing}"
    return replace(judged, outcome="undecided", reason=reason, text=f"{judged.text}; {reason}")


def _of_claim(path: Path, tree: ClaimIs) -> Judged:
    """Whether a claim has a verdict, as `actbench judge` left it in the folder; undecided where the verdict is."""
    verdicts = read_verdicts(user_path(path, "result folder"))
    claims = {str(claim["id"]): claim for claim in verdicts["claims"]}
    if tree.claim not in claims:
        raise unknown("claim", tree.claim, claims)
    claim = claims[tree.claim]
    found = str(claim.get("verdict"))
    if found not in VERDICTS:
        raise UserError(f"claim({tree.claim}): '{path}' has '{shown(found)}' for its verdict; actbench judge writes it anew")
    if (found in FACT_VERDICTS) != (tree.verdict in FACT_VERDICTS) and found != "undecided":
        words = (
            "a fact, which holds or fails" if found in FACT_VERDICTS else "no fact: it is supported, refuted, mixed or undecided"
        )
        raise UserError(f"claim({tree.claim}) is {words}; it is never '{tree.verdict}'")
    holds = (found == tree.verdict) == (tree.operator == "==")
    outcome = "pass" if holds else "undecided" if found == "undecided" else "fail"
    value, low, high, margin = (_number(claim.get(name)) for name in ("effect", "low", "high", "margin"))
    seeds = int(_number(claim.get("seeds"), 0.0))
    unit = f" {claim['unit']}" if claim.get("unit") else ""
    text = [found] if np.isnan(value) else [found, f"effect {value:.4g} [{low:.4g}, {high:.4g}] against {margin:.4g}{unit}"]
    text += [f"{seeds} seeds"] * bool(seeds) + [f"quick: {seeds} seeds, one look"] * bool(verdicts.get("quick"))
    return Judged(outcome, "; ".join(text), value, low, high, margin, tree.operator, seeds, 0)


def _number(value: object, otherwise: float = np.nan) -> float:
    return float(value) if isinstance(value, (int, float)) else otherwise
