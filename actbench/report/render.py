"""A report in the formats of the command line: a table for terminals, markdown, CSV and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable

import numpy as np
import pandas as pd
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from actbench.report.stats import MISSING, Ranking, is_fraction, text_of

FORMATS = ("table", "markdown", "csv", "json")
MOST_ROWS = 30


def number(value: float, metric: str, *, signed: bool = False) -> str:
    """A figure: fractions in percent, others with four digits."""
    if np.isnan(value):
        return MISSING
    sign = ("+" if value >= 0 else "−") if signed else ""
    value = abs(value) if signed else value
    return sign + (f"{100 * value:.1f}" if is_fraction(metric) else f"{value:.4g}")


def with_interval(cells: pd.DataFrame, column: str, metric: str, *, signed: bool = False) -> list[str]:
    """A column of figures of a metric as ``93.1 [92.8, 93.4]``; without bounds where there is one seed."""
    columns = (cells[name] for name in (column, f"{column}_low", f"{column}_high"))
    texts = ([number(value, metric, signed=signed) for value in figures] for figures in columns)
    return [mean if low == MISSING else f"{mean} [{low}, {high}]" for mean, low, high in zip(*texts, strict=True)]


def as_text(ranking: Ranking) -> dict[str, list[str]]:
    """The ranking as text: heading → a text for each cell."""
    cells = ranking.cells
    columns = {axis: [text_of(value) for value in cells[axis]] for axis in ranking.by}
    if "lr" not in ranking.by:
        columns["best lr"] = [text_of(value, missing="varies") for value in cells["lr"]]
    for metric in ranking.metrics:
        columns[f"{metric} %" if is_fraction(metric) else metric] = with_interval(cells, metric, metric)
        if metric == ranking.metrics[0] and ranking.baseline is not None:
            columns[f"vs {ranking.baseline}"] = with_interval(cells, "difference", metric, signed=True)
    for share in ("dead", "born_dead", "diverged"):
        columns[f"{share.replace('_', ' ')} %"] = [number(value, "fraction") for value in cells[share]]
    return {**columns, "seeds": [str(count) for count in cells["seeds"]]}


def ranking_table(ranking: Ranking, most: int = MOST_ROWS) -> Group:
    """The ranking for a terminal; long ones are cut in the middle, with a note."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    columns, note = as_text(ranking), []
    for place, heading in enumerate(columns):
        is_axis = place < len(ranking.by)
        table.add_column(heading, justify="left" if is_axis else "right", no_wrap=not is_axis, overflow="fold")
    rows = list(zip(*columns.values(), strict=True))
    if len(rows) > most:
        text = f"{len(rows) - most} cells in the middle are not shown; --by AXIS,… pools cells, --format csv lists all"
        rows, note = [*rows[: most - 5], ("…",) * len(columns), *rows[-5:]], [Text(text)]
    for row in rows:
        table.add_row(*row)
    return Group(table, *note)


def grid_table(grid: pd.DataFrame) -> Table:
    """Dead units over two axes, in percent, from green (none) to red (all)."""
    table = Table(title=None, box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(f"{grid.index.name} \\ {grid.columns.name}", style="bold")
    for column in grid.columns:
        table.add_column(text_of(column), justify="right")
    for name, row in grid.iterrows():
        table.add_row(text_of(name), *(_coloured(value) for value in row))
    return table


def _coloured(value: float) -> Text:
    if np.isnan(value):
        return Text(MISSING, justify="right")
    red, green = (round(220 * min(1, 2 * part)) for part in (value, 1 - value))
    return Text(f" {100 * value:5.1f} ", style=f"black on rgb({red + 30},{green + 30},60)", justify="right")


def render(ranking: Ranking, grid: pd.DataFrame | None, format: str, *, colour: bool = False, width: int | None = None) -> str:
    """The whole report as text in one of ``FORMATS``."""
    if format == "csv":
        return ranking.cells.to_csv(index=False)
    if format == "json":
        return _json(ranking, grid)
    if format == "markdown":
        return _markdown(ranking, grid)
    file = io.StringIO()
    console = Console(file=file, width=width or 200, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(ranking_table(ranking))
    if grid is not None:
        console.print(f"\ndead units, % of hidden units, by {grid.index.name} and {grid.columns.name}")
        console.print(grid_table(grid))
    text = file.getvalue()
    return text if colour else "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _markdown(ranking: Ranking, grid: pd.DataFrame | None) -> str:
    def lines(head: Iterable[str], *rows: Iterable[str]) -> list[str]:
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
        return [f"| {' | '.join(row)} |" for row in (escaped[0], ["---"] * len(escaped[0]), *escaped[1:])]

    columns = as_text(ranking)
    text = lines(columns, *zip(*columns.values(), strict=True))
    if grid is not None:
        head = [f"dead % by {grid.index.name} \\ {grid.columns.name}", *map(text_of, grid.columns)]
        body = [[text_of(name), *(number(value, "fraction") for value in row)] for name, row in grid.iterrows()]
        text += ["", *lines(head, *body)]
    return "\n".join(text) + "\n"


def _json(ranking: Ranking, grid: pd.DataFrame | None) -> str:
    cells = json.loads(ranking.cells.to_json(orient="records", double_precision=15))
    report = {"by": ranking.by, "metrics": ranking.metrics, "baseline": ranking.baseline, "cells": cells}
    if grid is not None:
        report["dead_fraction"] = {
            "rows": grid.index.name, "columns": grid.columns.name, "column_values": [text_of(c) for c in grid.columns],
            "values": {text_of(name): [None if np.isnan(v) else float(v) for v in row] for name, row in grid.iterrows()},
        }  # fmt: skip
    return json.dumps(report, indent=2) + "\n"
