"""What became of units, by layer: born dead, died, revived, dead at the end."""

from __future__ import annotations

import pandas as pd

from actbench.figures.arrangement import MOST_PANELS, Arrangement, arranged, evenly, layers_at_the_end
from actbench.figures.figure import Figure
from actbench.figures.measured import measure
from actbench.figures.series import Series, lines
from actbench.report.stats import text_of
from actbench.results.frames import Results
from actbench.results.measures import never_silent

# the column of layers.csv, and what its units are called
FATES = {
    "born_dead_fraction": "born dead",
    "died_fraction": "died since",
    "revived_fraction": "revived",
    "dead_fraction": "dead at the end",
}
MOST_ACTIVATIONS = 2 * MOST_PANELS
DEEPEST = 30  # layers that are drawn


def has_life(results: Results) -> bool:
    """Whether some unit is dead, or was."""
    return bool((layers_at_the_end(results)[list(FATES)] > 0).any(axis=None)) and bool(_mortal(arranged(results)))


def unit_life(results: Results) -> Figure:
    """Fractions of units by layer at the last evaluation, a panel for each activation that can have dead units."""
    study = arranged(results)
    names = _mortal(study)
    shown = names[:MOST_ACTIVATIONS]
    deep = study.runs.loc[study.runs["activation"].isin(shown), "depth"].max()
    where = {"activation": shown, **({"depth": [text_of(deep)]} if study.runs["depth"].nunique() > 1 else {})}
    several = len(shown) > 1
    axes = [*(["activation"] if several else []), "layer"]
    parts, notes = [], []
    for metric, fate in FATES.items():
        measured = measure(study.results, metric, axes, where=where)
        parts.append(measured.cells.assign(fate=fate))
        notes = measured.notes
    cells = pd.concat(parts, ignore_index=True)
    cells = cells[cells["layer"].isin(evenly(sorted(cells["layer"].unique()), DEEPEST))].reset_index(drop=True)
    chart, data, _ = lines(cells, Series("dead_fraction", "layer", "fate", "activation" if several else None, "wide"))
    title = "What became of units, by layer" + ("" if several else f" ({shown[0]})")
    text = (
        f"{title}: in % of all units, of networks of depth {text_of(deep)}. Dead at the end = born dead + died since − revived."
    )
    more = f" Shown are {len(shown)} of {len(names)} activations." if len(names) > len(shown) else ""
    others = [str(name) for name in study.runs["activation"].unique() if text_of(name) not in names]
    alive = f" {', '.join(others)} cannot have dead units." if others else ""
    return Figure("unit_life", title, " ".join([text, *notes]) + more + alive, chart, data.drop(columns="seeds"), "wide")


def _mortal(study: Arrangement) -> list[str]:
    """The activations that can have dead units, those with the most first."""
    runs = study.runs[study.runs["dead_fraction"].notna()]
    kinds = {str(name): rows for name, rows in runs.groupby("activation") if not never_silent(rows)}
    return sorted(kinds, key=lambda name: -float(kinds[name][["dead_fraction", "born_dead_fraction"]].mean().max()))
