"""A report in the formats of the command line: a table for terminals, markdown, CSV and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from actbench.report.choosing import ENOUGH
from actbench.report.stats import MISSING, Ranking, text_of
from actbench.results.measures import is_fraction

FORMATS = ("table", "markdown", "csv", "json")
MOST_ROWS = 30
WIDE = 100_000  # where there is no terminal, lines are as long as they are
POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SHARES = {"dead": "dead_fraction", "born_dead": "born_dead_fraction", "diverged": "diverged"}


def number(value: float, metric: str, *, signed: bool = False) -> str:
    """A figure: fractions in percent, others with four digits, very small and large ones with a power of ten."""
    if np.isnan(value):
        return MISSING
    sign, value = "−" if value < 0 else "+" if signed else "", abs(value)
    if is_fraction(metric):
        return f"{sign}{100 * value:.1f}"
    if value == 0 or 1e-3 <= value < 1e3:
        return f"{sign}{value:.4g}"
    if 1e3 <= value < 1e7:
        return f"{sign}{value:,.0f}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{sign}{digits}×10{str(int(power)).translate(POWERS)}"


def with_interval(cells: pd.DataFrame, column: str, metric: str, *, signed: bool = False) -> list[str]:
    """A column of figures of a metric as ``93.1 [92.8, 93.4]``; without bounds where there are none, and where all networks
    only guess.
    """
    columns = (cells[name] for name in (column, f"{column}_low", f"{column}_high"))
    texts = ([number(value, metric, signed=signed) for value in figures] for figures in columns)
    chance = cells.get(f"{column}_at_chance", [False] * len(cells))
    return [
        f"{mean} (chance)" if guess else mean if low == MISSING else f"{mean} [{low}, {high}]"
        for mean, low, high, guess in zip(*texts, chance, strict=True)
    ]


class Columns(NamedTuple):
    """A table as text: heading → a text for each row; the first ``keys`` columns say which row it is."""

    texts: Mapping[str, Sequence[str | Text]]
    keys: int


def as_text(ranking: Ranking, *, brief: bool = False) -> Columns:
    """The ranking as text: the axes, what was chosen, then figures. ``brief`` leaves out shares of diverged networks where none
    did, of dead units where other metrics than accuracies and losses are asked for, and numbers of seeds where all are the same.
    """
    cells = ranking.cells
    columns = {axis: [text_of(value) for value in cells[axis]] for axis in ranking.by}
    for axis in ranking.chosen:
        columns[f"best {axis}"] = list(cells[f"best_{axis}"])
    keys = len(columns)
    for metric in ranking.metrics:
        columns[f"{metric} %" if is_fraction(metric) else metric] = with_interval(cells, metric, metric)
        if metric == ranking.metrics[0] and ranking.baseline is not None:
            columns[f"vs {ranking.baseline}"] = with_interval(cells, "difference", metric, signed=True)
        if f"{metric}_predicted" in cells:
            of = f" of {metric}" if len(ranking.metrics) > 1 else ""
            columns[f"theory{of}{' %' if is_fraction(metric) else ''}"] = _theory(cells, metric)
    judged = all(metric.endswith(("_accuracy", "_loss")) for metric in ranking.metrics)
    for share, metric in SHARES.items():
        wanted = not brief or (cells[share].any() if share == "diverged" else judged)
        if wanted and metric not in ranking.metrics:
            columns[f"{share.replace('_', ' ')} %"] = [number(value, "fraction") for value in cells[share]]
    if not brief or cells["seeds"].nunique() > 1:
        columns["seeds"] = [str(count) for count in cells["seeds"]]
    return Columns(columns, keys)


def _theory(cells: pd.DataFrame, metric: str) -> list[str]:
    """What theory predicts of a metric, and where measurements deviate from it."""
    figures = zip(cells[f"{metric}_predicted"], cells[f"{metric}_deviates"], strict=True)
    return [f"{number(value, metric)}{' (deviates)' if deviates is True else ''}" for value, deviates in figures]


def heading(ranking: Ranking) -> str:
    """What the figures of a ranking are: of which cells, at which settings, over what."""
    metric = ranking.metrics[0].replace("_", " ")
    by = f"by {ranking.chosen_by.replace('_', ' ')}{choosers(ranking.halves)}"
    where = f", each at its best {listed(ranking.chosen)} ({by})" if ranking.chosen else ""
    pooled = f", pooled over {listed(ranking.pooled)}" if ranking.pooled else ""
    seeds = int(ranking.cells["seeds"].max())
    counts = f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "one seed"
    return f"{metric[0].upper()}{metric[1:]} by {listed(ranking.by)}{where}{pooled}; {counts}:"


def choosers(halves: Sequence[bool]) -> str:
    """Whose figures chose: those of one half of the seeds for the other, or of the seeds that are judged."""
    if not halves:
        return ""
    if all(halves):
        return ", chosen on one half of the seeds for the other"
    same = ", chosen on the same seeds"
    return f"{same}; of {ENOUGH} seeds and more, on one half for the other" if any(halves) else same


def cost_heading(ranking: Ranking) -> str:
    """What the figures of a table of costs are."""
    metric = ranking.metrics[0]
    points = "points of " if is_fraction(metric) else ""
    mean = "" if len(ranking.cells) == 1 else ", mean over the rows above and where it costs the most"
    return f"What a value costs, in {points}{metric.replace('_', ' ')}, all else at its best for it{mean}:"


def cost_columns(costs: pd.DataFrame, ranking: Ranking) -> Columns:
    """The costs of values as text."""
    columns: dict[str, Sequence[str]] = {"axis": list(costs["axis"]), "value": [text_of(value) for value in costs["value"]]}
    columns["cost"] = with_interval(costs, "cost", ranking.metrics[0])
    if len(ranking.cells) > 1:
        worst = zip(costs["worst"], costs["most"], strict=True)
        columns["most"] = [f"{cell} {number(most, ranking.metrics[0])}" if most > 0 else "" for cell, most in worst]
    return Columns(columns, 2)


def listed(names: Sequence[str]) -> str:
    """Names in words: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def table_lines(columns: Columns, width: int = WIDE, most: int = MOST_ROWS) -> list[Text]:
    """A table for a terminal. Where it is too wide, figures go on in further blocks below; the key columns are in each, whole.
    One of more rows than ``most`` is cut in the middle, with a note.
    """
    texts, keys = columns
    sizes = {name: max(cell_len(str(text)) for text in (name, *column)) for name, column in texts.items()}
    names = list(texts)
    blocks: list[list[str]] = []
    used = 0
    for name in names[keys:]:
        used += sizes[name] + 2
        if not blocks or used > width:
            blocks.append(names[:keys])
            used = sum(sizes[key] + 2 for key in names[:keys]) + sizes[name]
        blocks[-1] = [*blocks[-1], name]
    count = len(texts[names[0]])
    shown: list[int | None] = list(range(count))
    if count > most:
        shown = [*shown[: most - 5], None, *shown[-5:]]
    lines: list[Text] = []
    for block in blocks:
        rows = [[Text(name, "bold") for name in block]]
        rows += [[Text("…") if row is None else _text(texts[name][row]) for name in block] for row in shown]
        lines += [Text()] if lines else []
        for row in rows:
            line = Text(no_wrap=True, overflow="ignore")
            for place, (name, text) in enumerate(zip(block, row, strict=True)):
                gap = " " * (sizes[name] - text.cell_len)
                line.append("  " if place else "").append_text(text + gap if place < keys else Text(gap) + text)
            line.rstrip()
            lines.append(line)
    if count > most:
        left = len([row for row in shown if row is not None])
        lines.append(Text(f"{count - left} cells in the middle are not shown; --by AXIS,… pools cells, --format csv lists all"))
    return lines


def _text(text: str | Text) -> Text:
    return text.copy() if isinstance(text, Text) else Text(text)


def grid_columns(grid: pd.DataFrame) -> Columns:
    """Dead units over two axes, in percent, from green (none) to red (all)."""
    columns: dict[str, Sequence[str | Text]] = {f"{grid.index.name} \\ {grid.columns.name}": [text_of(n) for n in grid.index]}
    return Columns({**columns, **{text_of(name): [_coloured(v) for v in grid[name]] for name in grid.columns}}, 1)


def _coloured(value: float) -> Text:
    if np.isnan(value):
        return Text(MISSING)
    red, green = (round(220 * min(1, 2 * part)) for part in (value, 1 - value))
    return Text(f" {100 * value:5.1f} ", style=f"black on rgb({red + 30},{green + 30},60)")


def grid_heading(grid: pd.DataFrame) -> str:
    """What the figures of a grid are."""
    return f"Dead units, % of hidden units, by {grid.index.name} and {grid.columns.name}, mean over all completed networks:"


def render(ranking: Ranking, grid: pd.DataFrame | None, format: str, *, colour: bool = False, width: int | None = None) -> str:
    """The whole report as text in one of ``FORMATS``."""
    if format == "csv":
        return ranking.cells.to_csv(index=False)
    if format == "json":
        return _json(ranking, grid)
    if format == "markdown":
        return _markdown(ranking, grid)
    file, width = io.StringIO(), width or WIDE
    console = Console(file=file, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    lines = [Text(heading(ranking)), *table_lines(as_text(ranking, brief=True), width)]
    lines += map(Text, ranking.remarks)
    if grid is not None:
        lines += [Text(), Text(grid_heading(grid)), *table_lines(grid_columns(grid), width, most=MOST_ROWS)]
    for line in lines:
        console.print(line, crop=False)
    text = file.getvalue()
    return text if colour else "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _markdown(ranking: Ranking, grid: pd.DataFrame | None) -> str:
    def lines(head: Iterable[str], *rows: Iterable[str]) -> list[str]:
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
        return [f"| {' | '.join(row)} |" for row in (escaped[0], ["---"] * len(escaped[0]), *escaped[1:])]

    columns = as_text(ranking).texts
    text = lines(columns, *zip(*columns.values(), strict=True))
    if grid is not None:
        head = [f"dead % by {grid.index.name} \\ {grid.columns.name}", *map(text_of, grid.columns)]
        body = [[text_of(name), *(number(value, "fraction") for value in row)] for name, row in grid.iterrows()]
        text += ["", *lines(head, *body)]
    return "\n".join(text) + "\n"


def _json(ranking: Ranking, grid: pd.DataFrame | None) -> str:
    cells = json.loads(ranking.cells.to_json(orient="records", double_precision=15))
    chosen = {"axes": ranking.chosen, "by": ranking.chosen_by, "halves": ranking.halves} if ranking.chosen else None
    report = {"by": ranking.by, "metrics": ranking.metrics, "baseline": ranking.baseline, "chosen": chosen,
              "cells": cells, "dead_fraction": None}  # fmt: skip
    if grid is not None:
        report["dead_fraction"] = {
            "rows": grid.index.name, "columns": grid.columns.name, "column_values": [text_of(c) for c in grid.columns],
            "values": {text_of(name): [None if np.isnan(v) else float(v) for v in row] for name, row in grid.iterrows()},
        }  # fmt: skip
    return json.dumps(report, indent=2) + "\n"
