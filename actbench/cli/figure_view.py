"""Pictures of the command line: which figure, in which format, and where it goes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from actbench.base.errors import UserError, shown, unknown

if TYPE_CHECKING:
    from actbench.figures.figure import Figure
    from actbench.figures.functions import Function

PICTURES = ("svg", "png", "pdf")  # as figures.export writes them, which this must not load
SUFFIXES = {name: name for name in ("csv", "json", "html", *PICTURES)} | {"md": "markdown", "htm": "html"}
VIEWED = ("html", *PICTURES)  # a file that ends on one of these, and holds another, cannot be opened


def format_of(format: str | None, out: Path | None, allowed: Sequence[str], default: str) -> str:
    """The format that is asked for, by name or by the file's; UserError if they contradict, or there is no such format."""
    named = SUFFIXES.get(out.suffix.lower().removeprefix("."), "") if out is not None else ""
    if format is None:
        return named if named in allowed else default
    if format not in allowed:
        raise unknown("format", format, allowed)
    if named in VIEWED and named != format:
        raise UserError(f"--out {shown(out)}: a file of this name would hold {named}, not {format}; name either otherwise")
    return format


def check_target(format: str, out: Path | None, paths: Sequence[Path] = ()) -> None:
    """UserError, before anything is drawn, for a picture that a terminal cannot show, or that cannot be written."""
    from actbench.report.tables import check_place

    if out is not None:
        check_place(out, paths)
    elif format != "svg" and sys.stdout.isatty():
        raise UserError(f"--format {format}: a terminal cannot show it; name a file with --out FILE, or pipe it")


def draw_figure(paths: Sequence[Path], figure: str | None, question: Mapping[str, str], format: str, out: Path | None) -> None:
    """Draws a figure of result folders into a file, or to stdout; what a user should know of it goes to stderr.

    Args:
        figure: its name; without one, the error says which there are.
        question: the columns of a figure of one's own, by their part in it: x, y, hue, facet, size.

    Raises:
        UserError: no such figure, column or folder; nothing to draw; ``out`` cannot be written.
    """
    from actbench.figures.loaded import check_named, make_figure, trial_of
    from actbench.figures.questions import KINDS
    from actbench.report.tables import coverage
    from actbench.results.frames import load

    check_target(format, out, paths)
    if figure is not None:
        check_named(figure, question)
    results = load(*paths, by_folder="folder" in question.values())
    trial, notes = trial_of(paths)
    if figure is None:
        from actbench.figures.catalog import figure_names
        from actbench.report.stats import finished

        if trial is None:
            finished(results.runs)
        names = ", ".join([*figure_names(results, trial), *KINDS])
        raise UserError(f"--format {format}: a picture is of one figure; name it with --figure: {names}")
    made = make_figure(results, figure, trial, question)
    _write(made, format, out, paths)
    for note in [*notes, *coverage(results)]:
        print(f"note: {note}", file=sys.stderr)


def draw_functions(names: Sequence[str], format: str, out: Path | None) -> None:
    """Draws activation functions and their derivatives side by side; UserError for what is none, or has no curve over one z."""
    from actbench.base.machine import user_modules_importable
    from actbench.figures.functions import activation_functions, known_function
    from actbench.science.activations import ACTIVATIONS, is_dotted

    for name in names:
        if name not in ACTIVATIONS and not is_dotted(name):
            raise unknown("activation", name, ACTIVATIONS, hint="pictures are of activation functions")
    check_target(format, out)
    functions: list[Function] = []
    for name in dict.fromkeys(names):
        if name in ACTIVATIONS:
            one = known_function(name, ACTIVATIONS[name].settings)
            if one is None:
                raise UserError(f"{name}: of several pre-activations, so it has no curve over a single one")
        else:
            user_modules_importable()
            one = _own_function(name)
        functions.append(one)
    _write(activation_functions(functions), format, out, ())


def _own_function(name: str) -> Function:
    """A user's own activation, as it computes itself."""
    import numpy as np

    from actbench.base.streams import held_back
    from actbench.cli.catalog import values_of
    from actbench.engine.user_activations import make_user_activation
    from actbench.figures.functions import Function, grid

    with held_back():
        activation = make_user_activation(name)
        z = grid()
        h, slope = values_of(lambda z: activation(z.view(-1, 1)).view(-1), z.tolist())
    return Function(name, z, np.array(h), np.array(slope))


def _write(figure: Figure, format: str, out: Path | None, paths: Sequence[Path]) -> None:
    from actbench.base.streams import write_bytes
    from actbench.figures.export import picture
    from actbench.report.tables import write_report

    content = picture(figure, format)
    if out is not None:
        write_report(out, content, paths)
    else:
        write_bytes(content)  # SVG is in UTF-8, whatever the terminal is
