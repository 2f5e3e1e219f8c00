"""Whether an expression holds in the tables of a result folder: pass, fail, or undecided.

A figure as it stands (``min, max, median, std, count``) passes or fails. A mean, and arithmetic on means, is judged by its 95 %
interval over seeds: it passes if every value in it satisfies the comparison, fails if none does, and is undecided otherwise.
In doubt it does not pass: one seed has no interval, and few seeds that agree may do so by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from actbench.base.errors import UserError
from actbench.study.spec import AXES
from actbench.verdicts.estimates import Estimate, Found, estimate, figure, value_of
from actbench.verdicts.expression import Aggregate, Arithmetic, ClaimIs, Comparison, Node, Number, parse, parts_of
from actbench.verdicts.selection import Tables, select

MOST_OFFENDERS = 5
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True)
class Offender:
    """A row, or a seed, that breaks a comparison: what tells it from others, and its figure (NaN where rows are counted)."""

    where: Mapping[str, str]
    figure: float

    def __str__(self) -> str:
        where = " ".join(text if name == "run_id" else f"{name}={text}" for name, text in self.where.items())
        return where if np.isnan(self.figure) else f"{where}: {_text(self.figure)}"


@dataclass(frozen=True)
class Judged:
    """What an expression came to.

    Attributes:
        outcome: ``pass``, ``fail`` or ``undecided``.
        text: value, interval, threshold and numbers of seeds and networks, as a line without the expression.
        value: of the left side, or of left minus right where both have means.
        low: end of the 95 % interval; the value itself for a figure as it stands; NaN where there is none.
        high: its other end.
        threshold: what the value is compared with.
        comparison: the operator, with the value on its left.
        n: seeds behind a mean (the fewest of its samples), else rows.
        networks: networks that the figures are of.
        method: how means were put together; empty for a figure as it stands.
        reason: why it is undecided, and what would decide it; empty otherwise.
        breaks: up to 5 rows or seeds that break it, the worst first.
    """

    outcome: str
    text: str
    value: float
    low: float
    high: float
    threshold: float
    comparison: str
    n: int
    networks: int
    method: str = ""
    reason: str = ""
    breaks: tuple[Offender, ...] = ()


def evaluate(
    expression: str,
    runs: pd.DataFrame,
    history: pd.DataFrame,
    layers: pd.DataFrame,
    chance: Mapping[str, tuple[float, float]],
) -> Judged:
    """What a comparison of figures comes to.

    Args:
        expression: in the grammar of `actbench check`, without ``claim`` and ``old``.
        runs: rows of runs.csv as ``frames.load`` gives them.
        history: rows of history.csv of the same networks.
        layers: rows of layers.csv of the same networks.
        chance: see ``measures.chance_levels``.

    Raises:
        UserError: a mistake in the expression, an unknown name or value, no row that matches, a figure that is missing or not
            finite.
    """
    found = parse(expression)
    if isinstance(found, ClaimIs):
        raise UserError(f"'{expression}': the verdict of a claim is not a figure of the tables")
    return judge(found, Tables(runs, history, layers, chance))


def judge(comparison: Comparison, tables: Tables, old: Tables | None = None) -> Judged:
    """What a comparison comes to in a folder's tables, and in those of an ``old`` one; UserError as of `evaluate`."""
    found: Found = {
        part: select(part, _tables_of(part, tables, old)) for part in parts_of(Arithmetic(comparison.left, "-", comparison.right))
    }
    plain = {part: figure(part, selected) for part, selected in found.items()}
    tree, operator, limit = _sides(comparison)
    threshold = float(value_of(limit, plain))
    judged = estimate(tree, found, plain, tables.layers)
    if not np.isfinite([judged.value, threshold]).all():
        raise UserError("the result is not finite: it divides by 0, or is too large")
    outcome, reason = _outcome(operator, judged.low, judged.high, threshold), judged.reason
    if outcome == "undecided" and not reason:
        reason = "the interval has both sides of the threshold; more seeds make it narrower"
        if operator in ("==", "!="):
            reason = "a mean is equal only if nothing varies; min and max are figures as they stand"
    names = {(part.old, name) for part, selected in found.items() for name in selected.rows["run_id"].unique()}
    rows = sum(len(selected.rows) for selected in found.values())
    value, low, high, against = _texts(judged.value, judged.low, judged.high, threshold)
    figures = f"{value} [{low}, {high}] against {against}" if judged.low < judged.high else f"{value} against {against}"
    counts = _count(len(names), "network") + (f", {_count(rows, 'row')}" if any(part.table != "runs" for part in found) else "")
    text = "; ".join(filter(None, (figures, judged.method, counts, reason)))
    breaks = () if outcome == "pass" else _offenders(tree, operator, threshold, found, judged, tables.runs)
    return Judged(
        outcome, text, judged.value, judged.low, judged.high, threshold, operator, min(judged.sizes, default=rows), len(names),
        judged.method, reason, breaks,
    )  # fmt: skip


def _tables_of(part: Aggregate, tables: Tables, old: Tables | None) -> Tables:
    if not part.old:
        return tables
    if old is None:
        raise UserError(f"{part}: there is no old folder to compare with; name it by --against OLD")
    return old


def _sides(comparison: Comparison) -> tuple[Node, str, Node]:
    """What is judged, the operator, and what it is compared with, which has no mean."""
    left, right = ([part.function == "mean" for part in parts_of(side)] for side in (comparison.left, comparison.right))
    if any(left) and any(right):
        return Arithmetic(comparison.left, "-", comparison.right), comparison.operator, Number(0.0)
    if any(right) or not left:
        return comparison.right, FLIPPED[comparison.operator], comparison.left
    return comparison.left, comparison.operator, comparison.right


def _outcome(operator: str, low: float, high: float, threshold: float) -> str:
    """Whether all, none or some of the values from low to high satisfy a comparison; undecided if they are NaN."""
    below, above, point = high < threshold, low > threshold, low == high == threshold
    holds = {"<": below, "<=": high <= threshold, ">": above, ">=": low >= threshold, "==": point, "!=": below or above}
    broken = {"<": low >= threshold, "<=": above, ">": high <= threshold, ">=": below, "==": below or above, "!=": point}
    return "pass" if holds[operator] else "fail" if broken[operator] else "undecided"


def _offenders(
    tree: Node, operator: str, threshold: float, found: Found, judged: Estimate, runs: pd.DataFrame
) -> tuple[Offender, ...]:
    """The rows that break a comparison, or the seeds where several means are put together; the worst first."""
    if isinstance(tree, Aggregate):
        rows, figures = found[tree].rows, found[tree].figures
        if tree.function == "count":
            too_many = operator in ("<", "<=", "==") and judged.value > threshold
            return tuple(Offender(name, np.nan) for name in _named(rows[: too_many * MOST_OFFENDERS], runs))
        if tree.function == "std":
            return ()
        worst = _worst(figures, operator, threshold)
        names = _named(rows.iloc[worst], runs)
    elif judged.by_seed is not None:
        figures = judged.by_seed.to_numpy()
        worst = _worst(figures, operator, threshold)
        names = [{"seed": str(seed)} for seed in judged.by_seed.index[worst]]
    else:
        return ()
    return tuple(Offender(name, float(figures[place])) for name, place in zip(names, worst, strict=True))


def _worst(figures: np.ndarray, operator: str, threshold: float) -> np.ndarray:
    """The places of the figures that break a comparison by most."""
    order = np.argsort(-np.abs(figures - threshold), kind="stable")
    broken = [_outcome(operator, figure, figure, threshold) == "fail" for figure in figures[order]]
    return order[np.array(broken, bool)][:MOST_OFFENDERS]


def _named(rows: pd.DataFrame, runs: pd.DataFrame) -> list[dict[str, str]]:
    """What tells rows from others: run_id, the settings that vary, the seed, and when and where it was measured."""
    if rows.empty:
        return []
    varying = [name for name in AXES if name != "seed" and runs[name].nunique(dropna=False) > 1]
    networks = runs.set_index("run_id")[[*varying, "seed"]].loc[rows["run_id"]].to_dict("records")
    when = rows[[name for name in ("epoch", "layer", "layer_name") if name in rows]].to_dict("records")
    named = []
    for run_id, settings, place in zip(rows["run_id"], networks, when, strict=True):
        facts = {**settings, **place}
        known = {str(name): fact for name, fact in facts.items() if pd.notna(fact)}
        texts = {name: f"{fact:g}" if isinstance(fact, float) else str(fact) for name, fact in known.items()}
        named.append({"run_id": str(run_id), **texts})
    return named


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _texts(*numbers: float) -> list[str]:
    """Numbers as text, with as many digits as show on which side of the last one, the threshold, they are."""
    for digits in (4, 6, 9, 17):
        texts = [_text(number, digits) for number in numbers]
        if all((number == numbers[-1]) == (text == texts[-1]) for number, text in zip(numbers, texts, strict=True)):
            break
    return texts


def _text(number: float, digits: int = 4) -> str:
    if abs(number) < 1e15 and number == int(number):
        return f"{number:.0f}"
    return f"{number:.{max(digits, 6) if abs(number) >= 1e4 else digits}g}"
