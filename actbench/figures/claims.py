"""One picture for each claim of a trial: its conditions with effect, interval and margin; a fact's expectations; a timing."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from actbench.base.lazy import altair as alt
from actbench.figures.figure import Figure
from actbench.figures.style import FG, GRID, MUTED, PIXELS, VERDICTS
from actbench.figures.trial import SIGNED, Claim, failures, in_points
from actbench.figures.words import words
from actbench.results.frames import Results

ROW = 24  # pixels
NAMES = 330  # pixels at most of the column of names
JUDGED = {"pass": "holds", "fail": "fails", "undecided": "undecided"}  # outcome of an expectation → verdict
BOUND = re.compile(r"^(?P<what>.*?)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<bound>-?\d[\d.]*(?:e[-+]?\d+)?)$")
DECADES = 30.0  # ratio of the largest figure to the smallest from which an axis is logarithmic


def claim_figure(results: Results, claim: Claim) -> Figure:
    """The picture of a claim, from its verdict alone."""
    if claim["kind"] == "fact":
        return _fact(claim)
    if claim["kind"] == "timing":
        return _timing(claim)
    return _conditions(claim)


def has_figure(results: Results, claim: Claim) -> bool:
    """Whether there is something to draw."""
    if claim["kind"] == "timing":
        return bool(claim.get("timing"))
    if claim["kind"] == "fact":
        return not _expectations(claim).empty
    return any(part["effect"] is not None or failures(part) for part in claim["conditions"])


def _figure(claim: Claim, text: str, chart: Any, data: pd.DataFrame) -> Figure:
    told = f"{claim['sentence']} {claim['verdict']}."
    return Figure(f"claim_{claim['id']}", str(claim["claim"]), f"{told} {text}".strip(), chart, data)


def _conditions(claim: Claim) -> Figure:
    """Effect, interval and margin in each condition."""
    times = 100 if in_points(claim) else 1
    rows = []
    for part in claim["conditions"]:
        name = part["name"] or " against ".join(arm["name"] for arm in part["arms"])
        failed = part.get("failed") or {}
        told = [
            "" if part["judged"] else "not judged",
            failures(part) if failed.get("treatment") or failed.get("control") else "",
        ]
        label = ", ".join([name, *filter(None, told)])
        figures = {key: None if part[key] is None else round(times * part[key], 4) for key in ("effect", "low", "high")}
        rows.append({"condition": label, "verdict": part["verdict"], **figures, "seeds": part["seeds"]})
    frame = pd.DataFrame(rows)
    margin = times * claim["margin"]
    bounds = [-margin, margin] if claim["kind"] == "equivalence" else [margin]
    ratio = claim["kind"] == "ratio"
    chart = _rows(frame, bounds, "condition", _advantage(claim), base=1.0 if ratio else 0.0, logarithmic=ratio)
    level = next((part["level"] for part in claim["conditions"] if part.get("level")), None)
    how = f"at the level that decides ({100 * level:.2g} % to each side)" if level else "at the level that decides"
    what = "the band that it has to stay within" if len(bounds) == 2 else "the margin that it has to exceed"
    text = f"Advantage of {_arms(claim)} in each condition, with its interval {how}; dashed: {what}."
    return _figure(claim, text, chart, frame)


def _arms(claim: Claim) -> str:
    pairs = {tuple(arm["name"] for arm in part["arms"]) for part in claim["conditions"]}
    return " over ".join(pairs.pop()) if len(pairs) == 1 else "the first over the second"


def _advantage(claim: Claim) -> str:
    metric = words(str(claim["metric"]).removeprefix("layers."))
    if claim["kind"] == "ratio":
        return f"advantage in {metric}, times"
    return f"advantage in {metric}{', percentage points' if in_points(claim) else ''}"


def _fact(claim: Claim) -> Figure:
    """What was found beside the bounds that were expected."""
    frame = _expectations(claim)
    figures = pd.concat([frame["found"], frame["low"], frame["high"], frame["expected"]]).dropna()
    logarithmic = bool((figures > 0).all() and figures.max() > DECADES * figures.min())
    chart = _rows(frame.rename(columns={"found": "effect"}), [], "figure", "found", logarithmic=logarithmic)
    return _figure(claim, "Found, with its 95 % interval over seeds where it is a mean; bars: the bounds expected.", chart, frame)


def _expectations(claim: Claim) -> pd.DataFrame:
    """A row per expectation that compares a figure with a number."""
    rows = []
    for part in claim["conditions"]:
        match = BOUND.match(part["expression"])
        if match and part["value"] is not None:
            found = {"figure": match["what"], "sign": match["sign"], "expected": float(match["bound"]), "found": part["value"]}
            rows.append({**found, "low": part["low"], "high": part["high"], "verdict": JUDGED.get(part["outcome"], "undecided")})
    return pd.DataFrame(rows, columns=["figure", "sign", "expected", "found", "low", "high", "verdict"])


def _timing(claim: Claim) -> Figure:
    """Ratios of seconds, of a whole step and of the function alone."""
    time = claim["timing"]
    rows = [("a whole training step", claim["verdict"], "ratio", "low", "high")]
    if "function_ratio" in time:
        rows.append(("the function alone", "", "function_ratio", "function_low", "function_high"))
    columns = ["seconds of", "verdict", "effect", "low", "high"]
    frame = pd.DataFrame([(name, verdict, *(time[key] for key in keys)) for name, verdict, *keys in rows], columns=columns)
    chart = _rows(frame, [claim["margin"]], "seconds of", "times as long as the other", base=1.0, logarithmic=True)
    text = "How many times as long the other activation takes, with its interval; dashed: the margin that it has to exceed."
    return _figure(claim, text, chart, frame.round(4))


def _rows(
    frame: pd.DataFrame, bounds: list[float], names: str, title: str, *, base: float | None = None, logarithmic: bool = False
) -> Any:
    """A row for each name: symbol by verdict, interval, and bounds over all rows (or, in column ``expected``, of each)."""
    spans = [frame[name].astype(float) for name in ("effect", "low", "high", "expected") if name in frame]
    every = pd.concat([*spans, pd.Series([*bounds, *([] if base is None else [base])], dtype=float)]).dropna()
    if logarithmic:
        room = max(float(every.max() / every.min()) ** 0.04, 1.1)
        scale = alt.Scale(type="log", domain=[float(every.min()) / room, float(every.max()) * room], nice=False)
    else:
        room = 0.06 * (float(every.max() - every.min()) or 1.0)
        scale = alt.Scale(domain=[float(every.min()) - room, float(every.max()) + room], nice=False)
    powers = [10.0**power for power in range(-40, 40) if every.min() < 10.0**power < every.max()] if logarithmic else []
    ticks = dict(values=powers[:: len(powers) // 8 + 1], format="~g") if len(powers) > 1 else dict(tickCount=6, format=".4~f")
    signed = dict(format="+.4~f", labelExpr=SIGNED) if base == 0 else {}
    axis = alt.Axis(title=title, grid=True, **{**ticks, **signed})
    order = list(dict.fromkeys(frame[names]))

    def x(field: str) -> Any:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    y_axis = alt.Axis(title=None, ticks=False, domain=False, labelLimit=NAMES, labelPadding=8, grid=False)
    rows = alt.Chart(frame).encode(y=alt.Y(f"{names}:N", sort=order, axis=y_axis))
    layers = []
    if len(bounds) == 2:
        band = pd.DataFrame({"low": [bounds[0]], "high": [bounds[1]]})
        layers.append(alt.Chart(band).mark_rect(color=GRID).encode(x=x("low"), x2="high:Q"))
    if base is not None:
        layers.append(alt.Chart(pd.DataFrame({"at": [base]})).mark_rule(color=MUTED).encode(x=x("at")))
    if bounds:
        layers.append(alt.Chart(pd.DataFrame({"at": bounds})).mark_rule(color=FG, strokeDash=[4, 3]).encode(x=x("at")))
    if "expected" in frame:
        layers.append(rows.mark_tick(color=MUTED, thickness=3, height=13, orient="vertical").encode(x=x("expected")))
    for kind in dict.fromkeys(frame["verdict"]):
        symbol, colour = VERDICTS.get(kind, ("●", MUTED))
        some = rows.transform_filter(f"datum.verdict == '{kind}'")
        layers.append(some.mark_rule(strokeWidth=2, color=colour).encode(x=x("low"), x2="high:Q"))
        layers.append(some.mark_text(text=symbol, fontSize=15, color=colour).encode(x=x("effect")))
        if base is not None and frame.loc[frame["verdict"] == kind, "effect"].isna().any():
            by_failures = some.transform_filter("!isValid(datum.effect)")
            layers.append(
                by_failures.mark_text(text=f"{symbol} by failures", dx=6, align="left", color=colour).encode(x=alt.datum(base))
            )
    size = alt.AutoSizeParams(type="fit-x", contains="padding")
    return alt.layer(*layers).properties(width=PIXELS["wide"], height=alt.Step(ROW), autosize=size)
