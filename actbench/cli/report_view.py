"""What `report` shows: a table, a page or a picture."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from actbench.base.errors import UserError
from actbench.cli.figure_view import PICTURES, draw_figure, format_of

TEXTS = ("table", "markdown", "csv", "json")  # as report.render writes them
HTML = "html"


def report_and_show(
    paths: Sequence[Path],
    cells: Mapping[str, str | None],
    figure: str | None,
    question: Mapping[str, str | None],
    format: str | None,
    out: Path | None,
) -> None:
    """Reports on result folders, to stdout or into a file.

    Args:
        cells: the options of tables and pages, as written: by, metric, baseline.
        figure: the figure to draw, if a picture is asked for.
        question: the columns of a figure of one's own: x, y, hue, facet, size.

    Raises:
        UserError: options that do not go together, unknown names, folders that cannot be read.
    """
    wanted = format_of(format, out, (*TEXTS, HTML, *PICTURES), "table")
    asked = {name: value for name, value in question.items() if value is not None}
    given = [f"--{name}" for name, value in cells.items() if value is not None]
    if wanted in PICTURES:
        if given:
            raise UserError(f"{', '.join(given)}: of tables and pages; a picture has --figure, --x, --y, --hue, --facet")
        if asked and figure is None:
            raise UserError(f"{_options(asked)}: of which figure? --figure lines, points, bars or heatmap")
        draw_figure(paths, figure, asked, wanted, out)
        return
    if figure is not None or asked:
        options = ([f"--figure {figure}"] if figure is not None else []) + ([_options(asked)] if asked else [])
        raise UserError(f"{', '.join(options)}: of pictures; add --format svg, png or pdf, or --out FILE with such an ending")
    by, metrics, baseline = _names(cells["by"]), _names(cells["metric"]), cells["baseline"]
    if wanted == HTML:
        from actbench.cli.page_view import write_page_and_say

        write_page_and_say(paths, out, by=by, metrics=metrics, baseline=baseline)
        return
    _show_table(paths, by, metrics, baseline, wanted, out)


def _show_table(
    paths: Sequence[Path], by: list[str] | None, metrics: list[str] | None, baseline: str | None, format: str, out: Path | None
) -> None:
    from actbench.cli.run_view import make_console
    from actbench.report.render import render
    from actbench.report.tables import report_on, write_report

    found = report_on(paths, by, metrics, baseline)
    terminal = out is None and sys.stdout.isatty()
    width = make_console(stderr=False).width if terminal else None
    text = render(found.ranking, found.grid, format, colour=terminal and "NO_COLOR" not in os.environ, width=width)
    if out is not None:
        write_report(out, text, paths)
    for note in found.notes:  # after what may be wrong, so that an error stands alone
        print(f"note: {note}", file=sys.stderr)
    if out is None:
        sys.stdout.write(text)


def _options(question: Mapping[str, str]) -> str:
    return ", ".join(f"--{name}" for name in question)


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text is not None else None
