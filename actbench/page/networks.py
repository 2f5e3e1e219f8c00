"""The table of networks: which ones a page shows, and what of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from actbench.page.table import Cell, Table, table_of
from actbench.report.render import number
from actbench.report.stats import swept_axes, text_of
from actbench.results.columns import FINISHED
from actbench.results.measures import choosing_metric, default_metric, is_fraction, order
from actbench.study.spec import KEY_COLUMNS, SETTINGS

MOST = 500  # networks that are shown
MOST_FAILED = 100  # of them
MOST_AXES = 6  # settings with a column of their own; the rest share one
MOST_CHOICES = 12  # values of a setting that a filter offers


@dataclass(frozen=True)
class Filter:
    """A column that has few values, one of which can be chosen."""

    column: int
    name: str
    values: list[str]


@dataclass(frozen=True)
class Networks:
    """Networks as a table, of how many, which they are, and columns that can be filtered."""

    table: Table
    total: int
    which: str
    filters: list[Filter]


def networks_of(runs: pd.DataFrame) -> Networks:
    """The table of the networks of result folders."""
    shown, which = _shown(runs)
    axes = [name for name in swept_axes(runs) if name in runs]
    own = [name for name in axes if name in KEY_COLUMNS or name == "folder" or len(axes) <= MOST_AXES]
    others = [name for name in axes if name not in own]
    metrics = _metrics(runs)
    heads = [*map(_said, own), *(["other settings"] if others else []), "status"]
    heads += [f"{_said(name)}{' %' if is_fraction(name) else ''}" for name in metrics]
    heads += ["error"] if shown["error"].notna().any() else []
    rest = _others(shown, others)
    rows = []
    for place, row in enumerate(shown.to_dict("records")):
        cells: list[str | Cell] = [_setting(row[name]) for name in own]
        cells += [rest[place]] if others else []
        cells.append(row["status"])
        cells += [Cell(number(float(row[name]), name), "" if pd.isna(row[name]) else f"{row[name]:.6g}") for name in metrics]
        cells += [text_of(row["error"], "")] if heads[-1] == "error" else []
        rows.append(cells)
    table = table_of(heads, rows, keys=0)
    return Networks(table, len(runs), which, _filters(table, len(own), bool(others)))


def _shown(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Which networks are shown: no sample, but all of the first seeds, since those have every setting; and these in words."""
    if len(runs) <= MOST:
        return runs, "all networks"
    bad = runs[~runs["status"].isin(FINISHED)].head(MOST_FAILED)
    good = runs[runs["status"].isin(FINISHED)].sort_values("seed", kind="stable")
    room = MOST - len(bad)
    counts = good["seed"].value_counts().sort_index().cumsum()
    seeds = counts.index[counts <= room]
    if good.empty:
        return bad, f"{len(bad):,} that failed"
    if len(seeds):
        chosen = good[good["seed"].isin(seeds)]
        which = f"those of seed{'s' * (len(seeds) > 1)} {_span(seeds)}, at every setting that these were trained at"
    else:
        first = good[good["seed"] == counts.index[0]]
        metric = choosing_metric(first)
        chosen = first.loc[order(first[metric], metric).sort_values(kind="stable").index[:room]]
        which = f"the best {len(chosen):,} by {_said(metric)} of the {len(first):,} of seed {counts.index[0]}"
    if len(bad):
        which = f"{len(bad):,} that failed, and {which}"
    return pd.concat([bad, chosen]), which


def _span(seeds: Sequence[int] | pd.Index) -> str:
    numbers = [int(seed) for seed in seeds]
    whole = len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _metrics(runs: pd.DataFrame) -> list[str]:
    """What is shown of each: losses or accuracies, units, gradients; columns without a figure are left out."""
    kind = default_metric(runs, "test").removeprefix("test_")
    names = [f"validation_{kind}", f"test_{kind}", "train_loss", "dead_fraction", "born_dead_fraction", "dormant_fraction",
             "grad_norm", "delta_norm_ratio", "seconds"]  # fmt: skip
    return [name for name in names if name in runs and runs[name].notna().any()]


def _others(shown: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The further settings of each network that differ from their most frequent value, as ``name=value``."""
    usual = {name: text_of(values.iloc[0], "") if len(values := shown[name].mode()) else "" for name in names}
    texts = {name: [_setting(value) for value in shown[name]] for name in names}
    return [
        " ".join(f"{name}={texts[name][row]}" for name in names if texts[name][row] not in ("", usual[name]))
        for row in range(len(shown))
    ]


def _setting(value: object) -> str:
    return text_of(value, "")


def _said(name: str) -> str:
    return name if name in SETTINGS else name.replace("_", " ")


def _filters(table: Table, own: int, has_others: bool) -> list[Filter]:
    found = []
    for column in (*range(own), own + has_others):
        values = list(dict.fromkeys(row[column].text for row in table.rows))
        if 1 < len(values) <= MOST_CHOICES and table.heads[column] != "seed":
            found.append(Filter(column, table.heads[column], sorted(values, key=_as_number)))
    return found


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
