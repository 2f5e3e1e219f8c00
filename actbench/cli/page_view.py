"""What is shown while a page is drawn, and when it is written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from actbench.base.errors import UserError
from actbench.cli.run_view import make_console
from actbench.report.summary import PAGE, page_command

HTML = "html"  # the format of `report`


def write_page_and_say(
    paths: Sequence[Path],
    out: Path | None,
    *,
    by: list[str] | None = None,
    metrics: list[str] | None = None,
    baseline: str | None = None,
    quiet: bool = False,
) -> None:
    """Writes the page of result folders, with a bar on a terminal; without ``out``, to stdout, unless that is a terminal.

    Raises:
        UserError: as ``actbench report`` does.
    """
    from actbench.page.write import write_page

    if out is None and sys.stdout.isatty():
        raise UserError(f"--format html: a page is for a browser, not for a terminal; {page_command(paths[0])}")
    with _bar(quiet) as update:
        text, written = write_page(paths, out, by=by, metrics=metrics, baseline=baseline, on_progress=update)
    for note in () if quiet else written.notes:
        print(f"note: {note}", file=sys.stderr)
    if out is None:
        sys.stdout.write(text)
    elif not quiet:
        figures = f"{written.figures} figure{'s' * (written.figures != 1)}"
        print(f"{out}: {figures}, {written.size / 1e6:.1f} MB; open it in a browser", file=sys.stderr)


def write_page_in(folder: Path, *, quiet: bool) -> None:
    """Writes the page of a run or trial into its result folder; says so if there is nothing to show yet."""
    try:
        write_page_and_say([folder], folder / PAGE, quiet=quiet)
    except UserError as error:  # the results are kept, and are what the exit code is about
        print(f"no page: {error}", file=sys.stderr)


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of figures drawn, on a terminal only."""
    import rich.progress as bars

    console = make_console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (bars.TextColumn("drawing"), bars.BarColumn(bar_width=24), bars.MofNCompleteColumn(), bars.TextColumn("figures"))
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
