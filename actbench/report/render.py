"""A report in the formats of the command line: a table for terminals, markdown, CSV and JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from actbench.report.stats import Ranking, is_fraction

FORMATS = ("table", "markdown", "csv", "json")
MOST_ROWS = 30


def text_of(value: Any) -> str:
    """A value of a setting as text."""
    if value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def number(value: float, metric: str) -> str:
    """A figure: fractions in percent, others with four digits."""
    if np.isnan(value):
        return "–"
    return f"{100 * value:.1f}" if is_fraction(metric) else f"{value:.4g}"


def with_interval(row: pd.Series, metric: str) -> str:
    """``93.1 [92.8, 93.4]``; without bounds if there is one seed."""
    mean = number(row[metric], metric)
    if np.isnan(row[f"{metric}_low"]):
        return mean
    return f"{mean} [{number(row[f'{metric}_low'], metric)}, {number(row[f'{metric}_high'], metric)}]"


def headings(ranking: Ranking) -> list[str]:
    """The column headings of the ranking."""
    shown = [f"{metric} %" if is_fraction(metric) else metric for metric in ranking.metrics]
    rate = [] if "lr" in ranking.by else ["best lr"]
    versus = [f"vs {ranking.baseline}"] if ranking.baseline is not None else []
    return [*ranking.by, *rate, shown[0], *versus, *shown[1:], "dead %", "born dead %", "diverged %", "seeds"]


def lines(ranking: Ranking) -> list[list[str]]:
    """The ranking's cells as text, under ``headings``."""
    result = []
    for _, row in ranking.cells.iterrows():
        line = [text_of(row[axis]) for axis in ranking.by]
        if "lr" not in ranking.by:
            line.append("varies" if np.isnan(row["lr"]) else text_of(row["lr"]))
        line.append(with_interval(row, ranking.metrics[0]))
        if ranking.baseline is not None:
            line.append(_difference(row, ranking.metrics[0]))
        line += [with_interval(row, metric) for metric in ranking.metrics[1:]]
        line += [number(row[name], "fraction") for name in ("dead", "born_dead", "diverged")]
        result.append([*line, str(int(row["seeds"]))])
    return result


def _difference(row: pd.Series, metric: str) -> str:
    if np.isnan(row["difference"]):
        return "–"
    signs = [f"{'+' if row[name] >= 0 else '−'}{number(abs(row[name]), metric)}"
             for name in ("difference", "difference_low", "difference_high") if not np.isnan(row[name])]  # fmt: skip
    return signs[0] if len(signs) == 1 else f"{signs[0]} [{signs[1]}, {signs[2]}]"


def ranking_table(ranking: Ranking, most: int = MOST_ROWS) -> Group:
    """The ranking for a terminal; long ones are cut in the middle, with a note."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    axes = len(ranking.by)
    for place, heading in enumerate(headings(ranking)):
        table.add_column(heading, justify="left" if place < axes else "right", no_wrap=place >= axes, overflow="fold")
    rows = lines(ranking)
    cut = len(rows) > most
    for line in rows[: most - 5] if cut else rows:
        table.add_row(*line)
    parts: list[Any] = [table]
    if cut:
        table.add_row(*["…"] * len(headings(ranking)))
        for line in rows[-5:]:
            table.add_row(*line)
        parts.append(
            Text(f"{len(rows) - most} cells in the middle are not shown; --by AXIS,… pools cells, --format csv lists all")
        )
    return Group(*parts)


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
        return Text("–", justify="right")
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
    console = Console(file=io.StringIO(), width=width or 200, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(ranking_table(ranking))
    if grid is not None:
        console.print(f"\ndead units, % of hidden units, by {grid.index.name} and {grid.columns.name}")
        console.print(grid_table(grid))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n" if not colour else text


def _markdown(ranking: Ranking, grid: pd.DataFrame | None) -> str:
    def table(rows: list[list[str]]) -> list[str]:
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        return [f"| {' | '.join(row)} |" for row in (escaped[0], ["---"] * len(rows[0]), *escaped[1:])]

    text = table([headings(ranking), *lines(ranking)])
    if grid is not None:
        head = [f"dead % by {grid.index.name} \\ {grid.columns.name}", *map(text_of, grid.columns)]
        body = [[text_of(name), *(number(value, "fraction") for value in row)] for name, row in grid.iterrows()]
        text += ["", *table([head, *body])]
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
