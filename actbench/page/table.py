"""Tables as the page shows them: texts in rows, and what rows are sorted by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from actbench.report.render import Columns
from actbench.report.stats import MISSING

_FIGURE = re.compile(r"[-+−±]?\d[\d,.]*(e[-+]?\d+)?(×10\S+)?(\s.*)?")


class Cell(NamedTuple):
    """A text, and the number that its row is sorted by; empty where the text says it, or nothing is known."""

    text: str
    number: str = ""


@dataclass(frozen=True)
class Table:
    """Headings and rows; the first ``keys`` columns name the row, those of ``figures`` are set flush right."""

    heads: list[str]
    rows: list[list[Cell]]
    keys: int
    figures: frozenset[int]


def table_of(heads: Sequence[str], rows: Sequence[Sequence[str | Cell]], keys: int = 1) -> Table:
    """A table whose columns are set as figures where all texts in them are."""
    cells = [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in rows]
    known = [[row[place].text for row in cells if row[place].text not in ("", MISSING)] for place in range(len(heads))]
    figures = {place for place, texts in enumerate(known) if texts and all(map(_FIGURE.fullmatch, texts))}
    return Table(list(heads), cells, keys, frozenset(figures))


def of_columns(columns: Columns) -> Table:
    """A table of a report."""
    texts = [[str(text) for text in column] for column in columns.texts.values()]
    return table_of(list(columns.texts), list(zip(*texts, strict=True)), columns.keys)


def of_frame(frame: pd.DataFrame) -> Table:
    """A frame as it is, figures with up to six digits; the leading columns of texts name the row."""
    columns = [[_text(value) for value in frame[name]] for name in frame]
    kinds = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame]
    keys = next((place for place, numeric in enumerate(kinds) if numeric), len(kinds))
    return table_of([str(name).replace("_", " ") for name in frame], list(zip(*columns, strict=True)), keys)


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}".replace("-", "−")
    return str(value)
