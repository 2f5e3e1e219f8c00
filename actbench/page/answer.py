"""The answer in one sentence: of a trial how its claims came out, of a study what did best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from actbench.figures.trial import PLURAL
from actbench.page.claims import OUTCOMES
from actbench.report.render import listed, number
from actbench.report.stats import Ranking, text_of
from actbench.results.measures import better, is_fraction, order
from actbench.verdicts.cells import label

EXTREMES = {  # which values of a metric are better → what the best and the last is called
    "higher": ("highest", "lowest"), "lower": ("lowest", "highest"), "nearest 1": ("nearest 1", "farthest from it"),
    "neither": ("largest", "smallest"),
}  # fmt: skip


def of_trial(trial: Mapping[str, Any]) -> str:
    """``Of 29 claims, 9 are supported, …; of 6 facts, 5 hold and 1 fails.``"""
    parts = []
    for fact, noun in ((False, "claim"), (True, "fact")):
        counts = Counter(claim.get("verdict") for claim in trial["claims"] if bool(claim.get("fact")) == fact)
        words = [f"{counts[name]} {PLURAL.get(name, name) if counts[name] > 1 else name}" for name in OUTCOMES if counts[name]]
        if words:
            first, _, outcome = words[0].partition(" ")
            words[0] = words[0] if fact else f"{first} {'is' if first == '1' else 'are'} {outcome}"
            parts.append(f"of {counts.total()} {noun}{'s' * (counts.total() != 1)}, {listed(words)}")
    text = "; ".join(parts)
    first = " (a quick trial, for a first impression)" if trial.get("quick") else ""
    return f"{text[:1].upper()}{text[1:]}{first}."


def of_study(ranking: Ranking) -> str:
    """Which cell is best, by how much, and whether the next one's interval overlaps; and which is last."""
    metric = ranking.metrics[0]
    cells = ranking.cells.sort_values(metric, key=lambda values: order(values, metric), kind="stable")
    cells = cells[cells[metric].notna()]
    if cells.empty:
        return f"No network has a figure of {_said(metric)} yet."
    best, *others = (row for _, row in cells.iterrows())
    if not others:
        return f"{_capital(metric)} is {_figure(best, metric)} with {_name(best, ranking)}."
    first, last = EXTREMES[better(metric)]
    close = sum(_overlap(best, row, metric) for row in others)
    text = f"{_capital(metric)} is {first} with {_name(best, ranking)}: {_figure(best, metric)}"
    if close:
        of = f"{'one' if close == 1 else close} of the {len(others)} others"
        text += f"; the interval{'s' * (close > 1)} of {of} overlap{'s' * (close == 1)} this one"
    return f"{text}; it is {last} with {_name(others[-1], ranking)}: {_figure(others[-1], metric)}."


def _said(metric: str) -> str:
    return metric.replace("_", " ")


def _capital(metric: str) -> str:
    return _said(metric)[0].upper() + _said(metric)[1:]


def _name(row: pd.Series, ranking: Ranking) -> str:
    """A cell in words: relu, depth 8."""
    known = {axis: row[axis] for axis in ranking.by if not pd.isna(row[axis])}
    values = {axis: value.item() if hasattr(value, "item") else value for axis, value in known.items()}  # numpy's to Python's
    return ", ".join(label(axis, value) for axis, value in values.items()) or text_of(None)


def _figure(row: pd.Series, metric: str) -> str:
    unit = " %" if is_fraction(metric) else ""
    values = [number(row[name], metric) for name in (metric, f"{metric}_low", f"{metric}_high")]
    if row.get(f"{metric}_at_chance") is True:
        return f"{values[0]}{unit}, no better than guessing"
    return f"{values[0]}{unit}" + ("" if pd.isna(row[f"{metric}_low"]) else f" [{values[1]}, {values[2]}]")


def _overlap(one: pd.Series, other: pd.Series, metric: str) -> bool:
    """Whether two intervals share a value; unknown bounds do not tell, so they count as if they did not."""
    low, high = f"{metric}_low", f"{metric}_high"
    return bool(one[low] <= other[high] and other[low] <= one[high])
