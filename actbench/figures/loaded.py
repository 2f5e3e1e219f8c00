"""Results with their figures, for notebooks: ``actbench.load("results/default").figure("dead_by_lr_and_bias")``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench.base.errors import UserError, shown, unknown
from actbench.figures.judged import is_drawable
from actbench.results import frames
from actbench.results.frames import Results
from actbench.results.verdict_file import VERDICTS, read_verdicts

if TYPE_CHECKING:
    from actbench.figures.figure import Chart, Figure


PARTS = ("x", "y", "hue", "facet", "size", "where", "choose_among", "title")  # of a question of one's own


@dataclass
class Loaded(Results):
    """``Results`` that are drawn when asked to be.

    Attributes:
        folders: where they are from.
    """

    folders: tuple[Path, ...] = ()

    def figure(self, name: str, /, **question: Any) -> Chart:
        """A figure as an Altair chart in this program's style, to show or to change, as by ``.properties(width=400)``.

        Args:
            name: of a figure of the page; or ``lines``, ``points``, ``bars``, ``heatmap``, with a question of one's own.
            question: ``x``, ``y``, ``hue``, ``facet``, ``size``, ``where`` …, see ``questions.ask``.

        Raises:
            UserError: there is no such figure, or column, or nothing to draw.
        """
        from actbench.figures.style import themed

        return themed(make_figure(self, name, trial_of(self.folders)[0], question).chart)


def load(*folders: str | Path, by_folder: bool = False) -> Loaded:
    """Reads result folders, as ``frames.load`` does."""
    read = frames.load(*folders, by_folder=by_folder)
    return Loaded(read.runs, read.history, read.layers, read.meta, folders=tuple(map(Path, folders)))


def trial_of(folders: Sequence[Path]) -> tuple[dict[str, Any] | None, list[str]]:
    """What was judged in a folder, if it is the only one and was judged from these tables; and why there is nothing."""
    judged = [path for path in folders if (path / VERDICTS).exists()]
    if judged and len(folders) > 1:
        return None, [f"the verdicts of '{path}' are shown where it is named alone" for path in judged]
    if not judged:
        return None, []
    try:
        trial = read_verdicts(judged[0])
    except UserError as error:  # such as while a trial goes on
        return None, [str(error)]
    if not is_drawable(trial):
        return None, [
            f"'{judged[0] / VERDICTS}' does not hold verdicts as this actbench writes them; actbench judge writes it anew"
        ]
    return trial, []


def make_figure(results: Results, name: str, trial: Mapping[str, Any] | None, question: Mapping[str, Any]) -> Figure:
    """A figure of the page by its name, or of a question of one's own; UserError if there is none."""
    from actbench.figures.questions import KINDS, ask

    check_named(name, question)
    if name in KINDS:
        return ask(results, name, **question)
    from actbench.figures.catalog import figure

    return figure(results, name, trial)


def check_named(name: str, question: Mapping[str, Any]) -> None:
    """UserError, before anything is read, for a question that makes no sense, or to a figure that has columns of its own."""
    from actbench.figures.questions import KINDS, check_question

    if not isinstance(name, str):
        raise UserError(f"figure: {shown(name)} is not the name of one; {', '.join(KINDS)} are, and those of the page")
    if name in KINDS:
        if strange := [part for part in question if part not in PARTS]:
            raise unknown("part of a question", strange[0], PARTS)
        parts = {part: question.get(part) for part in ("x", "y", "hue", "facet")}
        check_question(name, **parts, size=question.get("size", "column"))
    elif question:
        from actbench.figures.catalog import STUDY

        if name not in STUDY and "_" not in name:
            raise unknown("figure", name, KINDS, hint=f"{', '.join(question)}: of these alone")
        raise UserError(f"{', '.join(question)}: of {', '.join(KINDS)}; figure '{shown(name)}' has columns and a size of its own")
