"""Whether verdicts.json has the form that figures and pages need: it may be another program's, or edited by hand."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

from actbench.figures.style import VERDICTS

NUMBER = (int, float)
MAYBE = (*NUMBER, NoneType)
Form = Mapping[str, type | tuple[type, ...]]  # key → what its value is

CLAIM: Form = {"id": str, "claim": str, "kind": str, "verdict": str, "sentence": str, "metric": str, "unit": str, "margin": MAYBE,
               "effect": MAYBE, "low": MAYBE, "high": MAYBE, "seeds": MAYBE, "conditions": list}  # fmt: skip
EXPECTATION: Form = {"expression": str, "outcome": str, "value": MAYBE, "low": MAYBE, "high": MAYBE}
CONDITION: Form = {"name": str, "judged": bool, "verdict": str, "effect": MAYBE, "low": MAYBE, "high": MAYBE, "seeds": MAYBE,
                   "arms": list}  # fmt: skip
ARM: Form = {"side": str, "name": str, "mean": MAYBE}
FAILED: Form = dict.fromkeys(("treatment", "control", "of"), int)
THEORY: Form = {"metric": str, "settings": dict, "measured": MAYBE, "predicted": MAYBE, "tolerance": MAYBE, "deviates": bool}
TIMING: Form = dict.fromkeys(("ratio", "low", "high"), NUMBER)


def is_drawable(trial: Mapping[str, Any]) -> bool:
    """Whether every claim of a trial has what is drawn and told of it, and a name of its own."""
    claims = trial["claims"]
    return len({claim["id"] for claim in claims}) == len(claims) and all(map(_is_claim, claims))


def _is_claim(claim: Any) -> bool:
    if not (_has(claim, CLAIM) and claim["verdict"] in VERDICTS and _all(claim.get("theory") or [], THEORY)):
        return False
    if not _may_be(claim, "beside", {}):
        return False
    if claim["kind"] == "fact":
        return _all(claim["conditions"], EXPECTATION)
    return (
        isinstance(claim["margin"], NUMBER)
        and _may_be(claim, "timing", TIMING)
        and _may_be(claim, "failed", FAILED)
        and _all(claim["conditions"], CONDITION)
        and all(_is_condition(one) for one in claim["conditions"])
    )


def _is_condition(condition: Mapping[str, Any]) -> bool:
    arms = condition["arms"]
    return (
        _may_be(condition, "failed", FAILED)
        and _all(arms, ARM)
        and all(_may_be(arm, name, {}) for arm in arms for name in ("tuned", "beside"))
        and all(isinstance(run_id, str) for arm in arms for name in ("networks", "tuning") for run_id in arm.get(name) or ())
    )


def _may_be(of: Mapping[str, Any], name: str, form: Form) -> bool:
    """Whether it is not there, or has this form."""
    return of.get(name) is None or _has(of[name], form)


def _all(found: Any, form: Form) -> bool:
    return isinstance(found, list) and all(_has(one, form) for one in found)


def _has(one: Any, form: Form) -> bool:
    return isinstance(one, Mapping) and all(name in one and isinstance(one[name], kind) for name, kind in form.items())
