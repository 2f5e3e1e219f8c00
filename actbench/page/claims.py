"""The claims of a trial, from verdicts.json: grouped by outcome, each with its sentence, figures and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actbench.page.drawn import Drawn
from actbench.page.table import Table, table_of
from actbench.report.render import number
from actbench.report.stats import text_of
from actbench.report.verdict_words import UNSAID
from actbench.results.measures import is_fraction
from actbench.verdicts.cells import label

# outcome → the heading of its group and what it means; in this order
OUTCOMES = {
    "supported": ("Supported", "the advantage is above what the claim needs, in every condition that counts"),
    "mixed": ("Mixed", "conditions differ: it holds in some and not in others"),
    "refuted": ("Refuted", "the advantage is below what the claim needs, in every condition that counts"),
    "undecided": ("Undecided", "the interval holds what the claim needs: these seeds do not tell"),
    "holds": ("Facts that hold", "they follow by construction or are plain measurements, and share no error rate"),
    "fails": ("Facts that fail", "plain measurements that say otherwise"),
}
UNITS = {"fraction": " points", "ratio": " times", "epochs": " epochs"}


@dataclass(frozen=True)
class Card:
    """A claim on the page."""

    id: str
    claim: str
    source: str
    outcome: str
    sentence: str  # ends before the verdict, with a colon
    needed: str
    tables: list[tuple[str, Table]]  # with their captions
    figures: list[Drawn] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """Claims of one outcome."""

    outcome: str
    heading: str
    meaning: str
    cards: list[Card]


def groups_of(trial: Mapping[str, Any], figures: Mapping[str, list[Drawn]]) -> list[Group]:
    """The claims of a trial by outcome, the best first."""
    cards = [_card(claim, figures.get(claim["id"], [])) for claim in trial["claims"]]
    found = [Group(name, *words, [card for card in cards if card.outcome == name]) for name, words in OUTCOMES.items()]
    return [group for group in found if group.cards]


def _card(claim: Mapping[str, Any], figures: list[Drawn]) -> Card:
    tables = [("Conditions", table)] if (table := _conditions(claim)) else []
    tables += [("Times", table)] if (table := _times(claim)) else []
    tables += [("Also measured", table)] if (table := _beside(claim)) else []
    tables += [("At initialisation, predicted and measured", table)] if (table := _theory(claim)) else []
    figures = [_without(one, claim) for one in figures]
    return Card(
        claim["id"], str(claim.get("claim", "")), str(claim.get("source") or ""), _outcome(claim),
        str(claim.get("sentence", "")), _needed(claim), tables, figures,
    )  # fmt: skip


def _without(one: Drawn, claim: Mapping[str, Any]) -> Drawn:
    """A figure whose caption says nothing that stands above it: the claim, its sentence."""
    heading = one.heading.removeprefix(str(claim.get("claim", ""))).lstrip(". ")
    said = f"{claim.get('sentence', '')} {claim.get('verdict')}."
    text = one.text if heading else one.text.lstrip(". ").removeprefix(said).strip()
    return replace(one, heading=heading, text=text)


def _outcome(claim: Mapping[str, Any]) -> str:
    outcome = claim.get("verdict")
    return outcome if outcome in OUTCOMES else "undecided"


def figure_of(value: float | None, unit: str, *, signed: bool = False) -> str:
    """A figure in the unit of a claim, as the verdicts say it: fractions in points, ratios with two decimals."""
    if value is None:
        return ""
    return f"{value:.2f}" if unit == "ratio" else number(value, unit, signed=signed)


def interval_of(part: Mapping[str, Any], unit: str) -> str:
    """An effect with its interval and unit."""
    effect, low, high = (figure_of(part.get(name), unit, signed=True) for name in ("effect", "low", "high"))
    if not effect:
        return ""
    return f"{effect}{f' [{low}, {high}]' if low and high else ''}{UNITS.get(unit, '')}"


def _needed(claim: Mapping[str, Any]) -> str:
    margin, unit = claim.get("margin"), str(claim.get("unit") or "")
    if claim.get("kind") == "fact" or margin is None:
        return ""
    equal = claim.get("kind") == "equivalence"
    words = "within ±" if equal else "above "
    return f"{words}{figure_of(margin, unit)}{UNITS.get(unit, '')}"


def _conditions(claim: Mapping[str, Any]) -> Table | None:
    """What was judged where; of a fact, its expressions."""
    conditions, unit = claim.get("conditions") or [], str(claim.get("unit") or "")
    if not conditions:
        return None
    if "expression" in conditions[0]:
        rows = [[one["expression"], _found(one), one["outcome"], text_of(one.get("seeds"))] for one in conditions]
        return table_of(["expression", "found", "outcome", "seeds"], rows)
    rows = []
    for one in conditions:
        arms = {arm["side"]: arm for arm in one.get("arms", [])}
        sides = [_arm(arms.get(side), claim) for side in ("treatment", "control")]
        verdict = one["verdict"] if one.get("judged", True) else f"{one['verdict']} (beside, does not count)"
        failed = one.get("failed") or {}
        counts = f"{failed['treatment']} and {failed['control']} of {failed['of']}" if failed else ""
        rows.append([
            one.get("name") or "everywhere", verdict, interval_of(one, unit) or "none, since runs failed", *sides, counts,
            text_of(one.get("seeds")), text_of(one.get("would_take"), ""),
        ])  # fmt: skip
    heads = ["condition", "verdict", "advantage", "treatment", "control", "failed", "seeds", "seeds that would decide"]
    kept = [place for place in range(len(heads)) if place != 7 or any(row[7] for row in rows)]
    return table_of([heads[place] for place in kept], [[row[place] for place in kept] for row in rows])


def _found(one: Mapping[str, Any]) -> str:
    value, low, high = (one.get(name) for name in ("value", "low", "high"))
    if value is None:
        return ""
    bounds = f" [{number(low, '')}, {number(high, '')}]" if low is not None and high is not None and low != high else ""
    return number(value, "") + bounds


def _arm(arm: Mapping[str, Any] | None, claim: Mapping[str, Any]) -> str:
    """``relu: 93.1 % at lr 0.1``, its mean, and what was chosen for it."""
    if arm is None:
        return ""
    unit, mean = claim.get("unit"), arm.get("mean")
    if mean is None:
        figure = "all failed"
    elif unit == "epochs" or str(claim.get("metric", "")).startswith("epochs_to"):
        figure = f"{mean:.3g} epochs"
    else:
        figure = number(mean, str(claim.get("metric", ""))) + (" %" if unit == "fraction" else "")
    chosen = ", ".join(_chosen(name, value, arm) for name, value in (arm.get("tuned") or {}).items())
    return f"{arm['name']}: {figure}{f' at {chosen}' if chosen else ''}"


def _chosen(name: str, value: Any, arm: Mapping[str, Any]) -> str:
    edge = " (edge of its grid)" if name in (arm.get("at_edge") or ()) else ""
    return f"{name.replace('_', ' ')} {text_of(value)}{edge}"


def _times(claim: Mapping[str, Any]) -> Table | None:
    found = claim.get("timing")
    if not found:
        return None
    rows = []
    for what, before in (("a whole training step", ""), ("the functions alone", "function_")):
        if not {f"{before}{name}" for name in ("ratio", "low", "high", "first", "second", "pairs")} <= {*found}:
            continue
        first, second = (f"{1e3 * found[f'{before}{name}']:.2f}" for name in ("first", "second"))
        ratio, low, high = (found[f"{before}{name}"] for name in ("ratio", "low", "high"))
        rows.append([what, first, second, f"{ratio:.2f} [{low:.2f}, {high:.2f}]", f"{found[f'{before}pairs']:.0f}"])
    return table_of(["of", "treatment ms", "control ms", "ratio", "pairs"], rows)


def _beside(claim: Mapping[str, Any]) -> Table | None:
    """What a claim wants shown beside its figures: of a fact, of the two arms."""
    rows = [[text, _or_empty(value, "")] for text, value in (claim.get("beside") or {}).items()]
    if rows:
        return table_of(["of", "figure"], rows)
    for one in claim.get("conditions") or []:
        sides = {arm["side"]: arm.get("beside") or {} for arm in one.get("arms", [])}
        for metric in sides.get("treatment", {}):
            said = f"{metric.replace('_', ' ')}{' %' if is_fraction(metric) else ''}"
            figures = [_or_empty(sides.get(side, {}).get(metric), metric) for side in ("treatment", "control")]
            rows.append([one.get("name") or "everywhere", said, *figures])
    return table_of(["condition", "metric", "treatment", "control"], rows, 2) if rows else None


def _or_empty(value: float | None, metric: str) -> str:
    return "" if value is None else number(value, metric)


def _theory(claim: Mapping[str, Any]) -> Table | None:
    rows = []
    for one in claim.get("theory") or []:
        metric, values = one["metric"], [one.get("measured"), one.get("predicted")]
        figures = ["" if value is None or not math.isfinite(value) else number(value, metric) for value in values]
        rows.append([_where(one.get("settings") or {}), metric.replace("_", " "), *figures, "yes" if one["deviates"] else "no"])
    return table_of(["of", "metric", "measured", "predicted", "deviates"], rows) if rows else None


def _where(settings: Mapping[str, Any]) -> str:
    said: Sequence[str] = [label(key, value) for key, value in settings.items() if key not in UNSAID and value is not None]
    return ", ".join(said)
