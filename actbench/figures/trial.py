"""The verdicts of a trial in one picture: every claim's advantage with its interval and margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from actbench.base.lazy import altair as alt
from actbench.figures.figure import Figure
from actbench.figures.style import GRID, MUTED, PIXELS, VERDICTS
from actbench.figures.words import words

Claim = Mapping[str, Any]

ORDER = ("supported", "mixed", "refuted", "undecided", "holds", "fails")
PLURAL = {"holds": "hold", "fails": "fail"}
LABELS = 296  # pixels of the column of claims
LETTERS = 58  # of a claim that fit there
ROW = 17  # pixels
PLOT = PIXELS["wide"] - LABELS - 24
SIGNED = "datum.value == 0 ? '0' : datum.label"
STEPS = [-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50]  # of points, on a scale that is linear near 0


def in_points(claim: Claim) -> bool:
    """Whether a claim's effect is counted in points of a fraction."""
    return claim.get("unit") == "fraction"


def verdicts(trial: Mapping[str, Any]) -> Figure:
    """Every claim judged in points on one axis, by verdict; the others beneath, as text."""
    claims = sorted(trial["claims"], key=lambda one: (ORDER.index(one["verdict"]), -(one["effect"] or 0)))
    labels = _labels(claims)
    points = pd.DataFrame([_row(one, labels[one["id"]]) for one in claims if in_points(one)])
    others = [one for one in claims if not in_points(one)]
    charts = []
    kinds = [kind for kind in ORDER if len(points) and kind in set(points["verdict"])]
    for kind in kinds:
        charts.append(_group(points[points["verdict"] == kind], kind, points, last=kind == kinds[-1]))
    if others:
        charts.append(_as_text(others, labels))
    chart = alt.vconcat(*charts, spacing=6).resolve_scale(x="shared" if len(charts) > 1 else "independent")
    counts = pd.Series([one["verdict"] for one in claims]).value_counts()
    told = ", ".join(f"{counts[kind]} {PLURAL.get(kind, kind) if counts[kind] > 1 else kind}" for kind in ORDER if kind in counts)
    text = (
        f"{told}. A symbol is the advantage that speaks for a claim, in points of what it is judged by (mostly accuracy), with "
        "its interval at the level that decided; a grey bar is the margin that it has to exceed, a grey band the one to stay "
        "within. Of several conditions the one that decides has symbol and interval, and dots are the others. "
        f"{'Judged once with 8 seeds (--quick). ' if trial.get('quick') else ''}The axis is logarithmic beyond 1 point."
    )
    return Figure("verdicts", "What the trial found", text, chart, pd.DataFrame([_told(one) for one in claims]))


def _labels(claims: Sequence[Claim]) -> dict[str, str]:
    """Claim's id → its words, as far as they fit; no two alike."""
    found: dict[str, str] = {}
    for one in claims:
        text = str(one["claim"]).rstrip(".")
        text = text if len(text) <= LETTERS else f"{text[: LETTERS - 1].rstrip()}…"
        found[one["id"]] = f"{one['id']}: {text}" if text in found.values() else text
    return found


def _row(one: Claim, label: str) -> dict[str, Any]:
    """A claim in points: its deciding figures, the effects of its other conditions, and where its margin lies."""
    found: dict[str, Any] = {"claim": label, "verdict": one["verdict"]}
    found |= {name: points(one[name]) for name in ("effect", "low", "high", "margin")}
    found["lower"] = -found["margin"] if one["kind"] == "equivalence" else None
    effects = [part["effect"] for part in one["conditions"] if part.get("judged")]
    found["others"] = [points(effect) for effect in effects if effect not in (None, one["effect"])]
    found["failed"] = ""
    if one["effect"] is None:  # decided by failures, not by points
        found |= {"failed": failures(one), "margin": None, "lower": None}
    return found


def failures(one: Claim) -> str:
    """How often either arm failed; empty if that is not known."""
    failed = one.get("failed")
    return f"failed {failed['treatment']} against {failed['control']} of {failed['of']}" if failed else ""


def points(value: float | None) -> float | None:
    """A fraction in percentage points."""
    return None if value is None else round(100 * value, 3)


def _told(one: Claim) -> dict[str, Any]:
    """A claim's row under the figure."""
    times, unit = (100, "points") if in_points(one) else (1, one["unit"])
    figures = {name: None if one[name] is None else round(times * one[name], 3) for name in ("effect", "low", "high", "margin")}
    return {"claim": one["id"], "verdict": one["verdict"], **figures, "unit": unit, "seeds": one["seeds"]}


def _claims_axis() -> Any:
    return alt.Axis(
        title=None, labelLimit=LABELS, minExtent=LABELS, maxExtent=LABELS, ticks=False, domain=False, labelPadding=8, grid=False
    )


def _heading(text: str, **more: Any) -> Any:
    return alt.Title(text, fontWeight="bold", anchor="start", frame="bounds", offset=2, **more)


def _group(frame: pd.DataFrame, kind: str, everything: pd.DataFrame, *, last: bool) -> Any:
    """The claims of one verdict."""
    symbol, colour = VERDICTS[kind]
    figures = everything[["effect", "low", "high", "margin", "lower"]].astype(float)
    spans = pd.concat([figures.min(), figures.max(), everything["others"].explode().astype(float)])
    reach = [min(-1.5, 1.1 * float(spans.min())), max(1.5, 1.1 * float(spans.max()))]
    ticks = [tick for tick in STEPS if reach[0] <= tick <= reach[1]]
    title = "advantage, percentage points" if last else None
    axis = alt.Axis(values=ticks, title=title, labels=last, ticks=last, domain=last, grid=True, format="+d", labelExpr=SIGNED)

    def x(field: str) -> Any:
        return alt.X(f"{field}:Q", scale=alt.Scale(type="symlog", constant=1, domain=reach, nice=False), axis=axis)

    def rows(some: pd.DataFrame) -> Any:
        return alt.Chart(some).encode(y=alt.Y("claim:N", sort=list(frame["claim"]), axis=_claims_axis()))

    shown = frame.drop(columns="others")
    layers = [alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color=MUTED).encode(x=x("zero"))]
    bands, failed = shown[shown["lower"].notna()], shown[shown["failed"] != ""]
    others = frame[["claim", "others"]].explode("others").dropna()
    if len(bands):
        layers.append(rows(bands).mark_bar(color=GRID, height=11).encode(x=x("lower"), x2="margin:Q"))
    layers.append(rows(shown).mark_tick(color=MUTED, thickness=3, height=11, orient="vertical").encode(x=x("margin")))
    layers.append(rows(shown).mark_rule(color=colour, strokeWidth=2).encode(x=x("low"), x2="high:Q"))
    if len(others):
        layers.append(rows(others).mark_circle(color=colour, size=14, opacity=1).encode(x=x("others")))
    if len(failed):
        layers.append(rows(failed).mark_text(align="left", dx=6, color=colour).encode(x=alt.datum(0), text="failed:N"))
    layers.append(rows(shown).mark_text(text=symbol, color=colour, fontSize=14, baseline="middle").encode(x=x("effect")))
    return alt.layer(*layers).properties(width=PLOT, height=alt.Step(ROW), title=_heading(kind, color=colour))


def _as_text(claims: Sequence[Claim], labels: Mapping[str, str]) -> Any:
    """Claims that are not judged in points: facts, ratios, other units."""
    frame = pd.DataFrame({
        "claim": [labels[one["id"]] for one in claims],
        "found": [_figures(one) for one in claims],
        "verdict": [one["verdict"] for one in claims],
        "symbol": [VERDICTS[one["verdict"]][0] for one in claims],
    })  # fmt: skip
    base = alt.Chart(frame).encode(y=alt.Y("claim:N", sort=list(frame["claim"]), axis=_claims_axis()))
    scale = alt.Scale(domain=list(VERDICTS), range=[colour for _, colour in VERDICTS.values()])
    symbols = base.mark_text(fontSize=13, align="left").encode(
        x=alt.value(0), text="symbol:N", color=alt.Color("verdict:N", scale=scale, legend=None)
    )
    texts = base.mark_text(align="left").encode(x=alt.value(18), text="found:N")
    return alt.layer(symbols, texts).properties(width=PLOT, height=alt.Step(ROW), title=_heading("not in points"))


def _figures(one: Claim) -> str:
    if one["effect"] is None:
        outcomes = [part["outcome"] for part in one["conditions"] if "outcome" in part]
        return f"{one['verdict']}: {outcomes.count('pass')} of {len(outcomes)} expectations" if outcomes else str(one["verdict"])
    unit = "times" if one["unit"] == "ratio" else words(str(one["unit"]))
    interval = "" if one["low"] is None or one["high"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]"
    return f"{one['verdict']}: {one['effect']:.2f}{interval} {unit}, margin {one['margin']:g}"
