"""The figures of a page, drawn, and the sections that they stand in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actbench.base.errors import UserError
from actbench.page.table import Table, of_frame
from actbench.report.stats import Ranking
from actbench.results.frames import Results

if TYPE_CHECKING:
    from markupsafe import Markup

    from actbench.figures.figure import Figure

MOST_DATA = 200  # rows of a figure's data that are shown
WIDE = 430  # pixels, above which a picture is not shrunk to a telephone's width, but scrolled
_PAIR = re.compile("(.+)_by_(.+)_and_(.+)")


@dataclass(frozen=True)
class Drawn:
    """A figure on the page."""

    name: str
    title: str
    heading: str  # of its caption: the title without what stands above the figure
    text: str  # that goes on after the heading
    svg: Markup
    wide: bool
    data: Table
    rows: int  # of its data, of which no more than ``MOST_DATA`` are shown


@dataclass(frozen=True)
class Section:
    """Figures under one heading."""

    id: str
    heading: str
    figures: list[Drawn]


SECTIONS = {  # id → heading, and the names of its figures
    "ranking": ("Ranking", "ranking"),
    "training": ("Over training", "(accuracy|loss|dead)_by_epoch"),
    "maps": ("Over any two axes", _PAIR.pattern),
    "gradients": ("Gradients by layer", "(grad_norm|delta)_by_layer"),
    "activations": ("Activation functions", "activations"),
    "units": ("The life of units", "unit_life"),
    "rates": ("Learning rates", "accuracy_by_lr"),
    "predicted": ("Predicted and measured", "predicted"),
    "further": ("Further figures", ".*"),
}


def draw(
    results: Results, trial: Mapping[str, Any] | None, ranking: Ranking | None, on_progress: Callable[[int, int], None]
) -> tuple[list[Drawn], list[str]]:
    """All figures in the order of the page, and why some are not there; that of the ranking is of the one given."""
    from altair.utils.schemapi import debug_mode

    from actbench.figures.catalog import figure, figure_names
    from actbench.figures.export import inline_svg
    from actbench.figures.ranked import guessing_in, ranking_figure

    names, found, notes = figure_names(results, trial), [], []
    for done, name in enumerate(names):
        on_progress(done, len(names))
        try:
            with debug_mode(False):  # tests check charts against their schema: here that takes a third of the time
                if name == "ranking" and ranking is not None:
                    one = ranking_figure(ranking, guessing_in(results))
                else:
                    one = figure(results, name, trial)
                svg = inline_svg(one)
        except UserError as error:  # such as a curve of networks that all diverged
            notes.append(f"figure {name}: {error}")
            continue
        found.append(_drawn(one, svg))
    on_progress(len(names), len(names))
    return found, notes


def _drawn(one: Figure, svg: str) -> Drawn:
    from markupsafe import Markup

    box = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+)', svg)
    wide = box is not None and float(box[1]) > WIDE
    text = one.text.removeprefix(one.title)  # with which many begin
    text = text if text != one.text else f"{'' if one.title.endswith('.') else '.'} {text}"
    return Drawn(one.name, one.title, one.title, text, Markup(svg), wide, of_frame(one.data.head(MOST_DATA)), len(one.data))


def in_sections(figures: Sequence[Drawn]) -> dict[str, Section]:
    """The figures by section, in the order of the page; empty ones are left out."""
    found: dict[str, Section] = {}
    left = list(figures)
    for name, (heading, pattern) in SECTIONS.items():
        ours = [one for one in left if re.fullmatch(pattern, one.name)]
        left = [one for one in left if one not in ours]
        if ours:
            found[name] = Section(name, heading, ours)
    return found


def of_claims(figures: Sequence[Drawn], claims: Sequence[str]) -> tuple[dict[str, list[Drawn]], list[Drawn]]:
    """The figures of each claim, whose names end with its id, and the rest."""
    longest = sorted(claims, key=len, reverse=True)
    found: dict[str, list[Drawn]] = {}
    rest = []
    for one in figures:
        claim = next((name for name in longest if one.name.endswith(f"_{name}")), None)
        if claim is None:
            rest.append(one)
        else:
            found.setdefault(claim, []).append(one)
    return found, rest


@dataclass(frozen=True)
class Pair:
    """Heat maps of two axes: of dead units, of accuracy."""

    axes: tuple[str, str]
    figures: list[Drawn]


def pairs_of(section: Section) -> list[Pair]:
    """The heat maps of a section by their pair of axes, the first being the one to start with."""
    found: dict[tuple[str, str], list[Drawn]] = {}
    for one in section.figures:
        match = _PAIR.fullmatch(one.name)
        assert match
        found.setdefault((match[2], match[3]), []).append(one)
    return [Pair(axes, figures) for axes, figures in found.items()]
