"""A trial as one JSON object, for scripts and `verdicts.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from actbench.report.verdict_words import decisive, sentence, strongest, unit_of
from actbench.run.judging import Trial
from actbench.verdicts.judge import ALPHA, CellResult, Result


def as_object(trial: Trial) -> dict[str, Any]:
    """The trial as one JSON object; what is not there, or not finite, is null."""
    return {
        "folder": str(trial.folder), "claims": [_claim(one) for one in trial.results], "alpha": ALPHA, "family": trial.family,
        "quick": trial.quick, "seconds": round(trial.seconds, 2), "trained": trial.trained, "errors": list(trial.errors),
    }  # fmt: skip


def _claim(one: Result) -> dict[str, Any]:
    claim, cell = one.claim, decisive(one)
    found: dict[str, Any] = {
        "id": claim.id, "claim": claim.claim, "source": claim.source, "kind": claim.kind, "fact": claim.fact, "hash": claim.hash,
        "verdict": one.outcome or "undecided", "sentence": sentence(one), "metric": claim.metric, "better": claim.better,
        "margin": _or_null(claim.margin), "unit": unit_of(claim), **_figures(cell),
        "conditions": [_condition(one, part) for part in one.cells],
    }  # fmt: skip
    if claim.kind == "fact":
        found["conditions"] = [
            {"expression": text, "outcome": judged.outcome, "value": _or_null(judged.value), "low": _or_null(judged.low),
             "high": _or_null(judged.high), "seeds": judged.n}
            for text, judged in one.facts
        ]  # fmt: skip
        found["beside"] = {text: _or_null(value) for text, value in one.shown.items()}
    if (best := strongest(one)) is not None:
        found["strongest"] = {"condition": best.name, "mean": _or_null(best.treatment.mean)}
    if one.seconds:
        found |= {
            "effect": one.seconds["ratio"],
            "low": one.seconds["low"],
            "high": one.seconds["high"],
            "timing": dict(one.seconds),
        }
    if claim.also:
        low, high = cell.verdict.advantage[1:] if cell else (math.nan, math.nan)
        found["also"] = [{"value": value, "in_interval": bool(low <= value <= high)} for value in claim.also]
    if one.theory:
        found["theory"] = [{**asdict(foretold), "settings": _plain(foretold.settings)} for foretold in one.theory]
    if not math.isnan(one.target):
        found["target"] = one.target
    if one.missing:
        found["missing"] = len(one.missing)
    return found


def _figures(cell: CellResult | None) -> dict[str, Any]:
    if cell is None:
        return {"effect": None, "low": None, "high": None, "seeds": None, "failed": None}
    effect, low, high = cell.verdict.advantage
    failed = cell.verdict.failed
    return {
        "effect": _or_null(effect), "low": _or_null(low), "high": _or_null(high), "seeds": cell.look.seeds,
        "failed": {"treatment": failed.treatment, "control": failed.control, "of": failed.of},
    }  # fmt: skip


def _condition(one: Result, cell: CellResult) -> dict[str, Any]:
    verdict = cell.verdict
    return {
        "name": cell.name, "settings": dict(cell.settings), "judged": cell.judged, "verdict": verdict.outcome, **_figures(cell),
        "margin": _or_null(one.claim.margin), "unit": unit_of(one.claim), "strict": cell.strict, "decided_by": verdict.decided_by,
        "pairs": verdict.pairs, "level": verdict.level, "p_supported": _or_null(verdict.p_supported),
        "p_refuted": _or_null(verdict.p_refuted), "sign_supported": _or_null(verdict.sign_supported),
        "sign_refuted": _or_null(verdict.sign_refuted), "would_take": verdict.would_take, "note": verdict.note,
        "arms": [
            {"side": name, "name": side.name, "mean": _or_null(side.mean), "tuned": dict(side.tuned.values),
             "at_edge": list(side.tuned.at_edge), "widened": side.tuned.widened,
             "beside": {key: _or_null(value) for key, value in side.beside.items()},
             "networks": [spec.run_id for spec in side.networks], "tuning": [spec.run_id for spec in side.tuned.networks]}
            for name, side in (("treatment", cell.treatment), ("control", cell.control))
        ],
    }  # fmt: skip


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON holds them: numbers of numpy as Python's own, NaN as null."""
    found = {}
    for name, value in settings.items():
        plain = value.item() if hasattr(value, "item") else value
        found[name] = None if plain != plain else plain
    return found


def _or_null(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
