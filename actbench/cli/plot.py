"""Curves in a terminal, in braille: two columns and four rows of dots a character."""

from __future__ import annotations

from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def braille_plot(x: Sequence[float], y: Sequence[float], *, columns: int = 48, rows: int = 11) -> list[str]:
    """Lines of text that show y over x, with the axes where they cross the picture and the bounds of y on the left.

    Args:
        x: in increasing order.
        y: finite, as long as x.
    """
    low, high = min(*y, 0.0), max(*y, 0.0)
    span = (high - low) or 1.0
    wide, tall = 2 * columns, 4 * rows
    cells = [[0] * columns for _ in range(rows)]

    def dot(column: int, row: int) -> None:
        cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]

    def row_of(value: float) -> int:
        return round((high - value) / span * (tall - 1))

    for column in range(0, wide, 4):  # y = 0
        dot(column, row_of(0.0))
    if x[0] < 0 < x[-1]:  # x = 0
        zero = round(-x[0] / (x[-1] - x[0]) * (wide - 1))
        for row in range(0, tall, 3):
            dot(zero, row)
    before = None
    for column in range(wide):
        place = column / (wide - 1) * (len(x) - 1)
        row = row_of(y[round(place)])
        for between in range(min(row, before or row), max(row, before or row) + 1) if before is not None else [row]:
            dot(column, between)
        before = row
    labels = {0: f"{high:.3g}", rows - 1: f"{low:.3g}"}
    lines = [f"{labels.get(i, ''):>7} " + "".join(chr(0x2800 + cell) for cell in row) for i, row in enumerate(cells)]
    return [*lines, f"{'':8}{x[0]:<{columns // 2}g}{x[-1]:>{columns // 2}g}"]
