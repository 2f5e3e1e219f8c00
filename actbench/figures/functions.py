"""Activation functions and their derivatives, side by side, with where a study's pre-activations fell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from actbench.base.lazy import altair as alt
from actbench.figures.figure import Figure
from actbench.figures.style import DASHES, FG, MUTED, SERIES
from actbench.report.stats import text_of
from actbench.results.frames import Results
from actbench.science.activations import ACTIVATIONS
from actbench.verdicts.curves import curve_of

REACH = 4.0  # of z, to both sides
COLUMNS = 4  # panels in a row
PANEL = (128, 104)  # width and height, pixels
FLAT = 0.001  # of the panel's height that a drawn curve may leave the function by
MOST_PANELS = 24


@dataclass(frozen=True)
class Function:
    """An activation as points: ``h`` = φ(z), ``slope`` = φ′(z)."""

    name: str
    z: np.ndarray
    h: np.ndarray
    slope: np.ndarray


def grid() -> np.ndarray:
    """The z at which functions are drawn; off whole numbers, where many have kinks."""
    return np.linspace(-REACH, REACH, 162)


def known_function(name: str, settings: Mapping[str, Any]) -> Function | None:
    """A function of the program's own at its settings; None where it has no curve: of two pre-activations, or a user's own."""
    curve = curve_of(name, settings)
    if curve is None:
        return None
    z = grid()
    own = [text_of(settings[key]) for key in ACTIVATIONS[name].settings if settings.get(key) is not None]
    shown = f"{name} ({', '.join(own)})" if own else name
    return Function(shown, z, np.asarray(curve[0](z), float), np.asarray(curve[1](z), float))


def activation_functions(functions: Sequence[Function], text: str = "", ranges: pd.DataFrame | None = None) -> Figure:
    """Functions with their derivatives, a panel each.

    Args:
        functions: such as ``known_function`` gives, or evaluated elsewhere on ``grid()``.
        text: what the text says besides.
        ranges: rows of panel, kind (``start``, ``end``), z (low) and z2 (high), middle.
    """
    rows = [_points(one, kind, values) for one in functions for kind, values in (("φ", one.h), ("φ′", one.slope))]
    curves = pd.concat(rows, ignore_index=True)
    low, high = max(-REACH, float(curves["value"].min())), min(REACH, float(curves["value"].max()))
    frame, lowest = curves, low
    if ranges is not None and not ranges.empty:
        step = (high - low) * 0.12
        places = {"start": low - step, "end": low - 2 * step}
        ranges = ranges.assign(value=ranges["kind"].map(places))
        for edge in ("z", "z2", "middle"):
            ranges[edge] = ranges[edge].clip(-REACH, REACH)
        frame = pd.concat([curves, ranges], ignore_index=True)
        low = places["end"] - step
    chart = _panels(frame, [one.name for one in functions], (low, high), lowest)
    drawn = pd.DataFrame(
        [
            {"activation": one.name, "z": z, "φ(z)": round(float(h), 4), "φ′(z)": round(float(slope), 4)}
            for one in functions
            for z, h, slope in ((z, np.interp(z, one.z, one.h), np.interp(z, one.z, one.slope)) for z in range(-4, 5))
        ]
    )
    names = "Activation function and its derivative" if len(functions) == 1 else "Activation functions and their derivatives"
    told = f"{names[0]}{names[1:]} of z, the pre-activation: φ solid, φ′ dashed."
    return Figure("activations", names, f"{told} {text}".strip(), chart, drawn)


def _points(one: Function, kind: str, values: np.ndarray) -> pd.DataFrame:
    """The points of a curve that a line needs, within the panel and a little beyond; a jump is two pieces of line."""
    inside = np.isfinite(values) & (np.abs(values) <= 2 * REACH)
    z, values = one.z[inside], values[inside]
    if not len(z):
        return pd.DataFrame({"panel": [one.name], "kind": kind, "z": 0.0, "value": np.nan})
    kept = sorted({0, len(z) - 1, *_bends(z, values, 0, len(z) - 1)})
    return pd.DataFrame({"panel": one.name, "kind": kind, "z": z[kept].round(3), "value": values[kept].round(4)})


def _bends(z: np.ndarray, values: np.ndarray, first: int, last: int) -> Iterable[int]:
    """The points between two that a line through them misses by more than ``FLAT`` (Douglas & Peucker 1973)."""
    if last - first < 2:
        return
    between = slice(first + 1, last)
    chord = values[first] + (values[last] - values[first]) * (z[between] - z[first]) / (z[last] - z[first])
    off = np.abs(values[between] - chord)
    worst = first + 1 + int(off.argmax())
    if off.max() > FLAT * 2 * REACH:
        yield worst
        yield from _bends(z, values, first, worst)
        yield from _bends(z, values, worst, last)


def _panels(frame: pd.DataFrame, names: Sequence[str], bounds: tuple[float, float], lowest: float) -> Any:
    ticks = [tick for tick in range(-4, 5, 2 if bounds[1] > 2 else 1) if lowest <= tick <= bounds[1]]
    x = alt.X("z:Q", title="z", scale=alt.Scale(domain=[-REACH, REACH], nice=False), axis=alt.Axis(values=[-4, -2, 0, 2, 4]))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=list(bounds), nice=False), axis=alt.Axis(values=ticks))
    base = alt.Chart(frame).encode(x=x, y=y)
    kinds = ["φ", "φ′"]
    lines = base.transform_filter(alt.FieldOneOfPredicate("kind", kinds)).mark_line(clip=True)
    layers = [
        lines.encode(
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds, range=SERIES[:2])),
            strokeDash=alt.StrokeDash("kind:N", title=None, scale=alt.Scale(domain=kinds, range=DASHES[:2])),
        )
    ]
    if "z2" in frame:
        part = base.transform_filter("isValid(datum.z2)")
        layers.append(part.mark_rule(color=MUTED, strokeWidth=3).encode(x2="z2:Q"))
        layers.append(part.mark_tick(color=FG, thickness=2, height=9, orient="vertical").encode(x="middle:Q"))
        layers.append(part.mark_text(align="left", dx=3, fontSize=9, color=FG).encode(x=alt.value(PANEL[0]), text="kind:N"))
    width, height = PANEL
    faceted = alt.layer(*layers).properties(width=width, height=height)
    header = alt.Header(labelFontWeight="bold", labelLimit=width + 20)
    facet = alt.Facet("panel:N", title=None, sort=list(names), header=header)
    return faceted.facet(facet, columns=min(COLUMNS, len(names)), spacing={"row": 14, "column": 28})


def study_functions(results: Results) -> list[tuple[str, dict[str, Any]]]:
    """The activations of a study, each with the settings that most of its networks have, in the order of the tables."""
    found = []
    for name, networks in results.runs.groupby("activation", sort=False):
        keys = [key for key in ("negative_slope", "alpha", "beta", "pieces") if networks[key].notna().any()]
        settings = networks.groupby(keys, dropna=False).size().idxmax() if keys else ()
        values = settings if isinstance(settings, tuple) else (settings,)
        found.append((str(name), dict(zip(keys, values, strict=True))))
    return found


def has_functions(results: Results) -> bool:
    """Whether the program has a curve of some activation of a study."""
    return any(known_function(name, settings) is not None for name, settings in study_functions(results))


def activations(results: Results) -> Figure:
    """The functions of a study and where its pre-activations fell."""
    functions: list[Function] = []
    without: list[str] = []
    ranges: dict[str, pd.DataFrame] = {}
    fell = _fell(results)
    for name, settings in study_functions(results):
        one = known_function(name, settings)
        if one is None:
            without.append(name)
        elif len(functions) < MOST_PANELS:
            functions.append(one)
            ranges[one.name] = fell[fell["activation"] == name].assign(panel=one.name)
    text = (
        "Bars below: where pre-activations fell at the start of training and at its end, mean ± one standard deviation in the "
        "middle network and layer (the median of both over all completed networks and hidden layers)."
    )
    if without:
        text += f" Not drawn: {', '.join(without)}, which the program has no curve of."
    found = pd.concat(ranges.values(), ignore_index=True)
    figure = activation_functions(functions, text if len(found) else text.partition(" Not drawn")[1], found)
    spans = found.rename(columns={"z": "low", "z2": "high", "kind": "when"})[["activation", "when", "low", "middle", "high"]]
    return Figure(figure.name, figure.title, figure.text, figure.chart, spans.round(3) if len(spans) else figure.data)


def _fell(results: Results) -> pd.DataFrame:
    """Activation, kind (``start`` or ``end``), z (low), z2 (high) and middle: the median over networks and layers of the mean of
    z, and that of its standard deviation to both sides."""
    layers = results.layers.dropna(subset=["preactivation_mean", "preactivation_std"])
    key = [name for name in ("run_id", "folder") if name in layers]
    last = layers["epoch"].eq(layers.groupby(key)["epoch"].transform("max")) & layers["epoch"].gt(0)
    kinds = [("start", layers[layers["epoch"] == 0]), ("end", layers[last])]
    parts = [
        rows.groupby("activation")[["preactivation_mean", "preactivation_std"]].median().reset_index().assign(kind=kind)
        for kind, rows in kinds
    ]
    found = pd.concat(parts, ignore_index=True)
    mean, std = found["preactivation_mean"], found["preactivation_std"]
    return found[["activation", "kind"]].assign(z=mean - std, z2=mean + std, middle=mean)
