"""The page as text: a template filled in, with its style and script inside, and a policy that forbids everything else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actbench.page.claims import Group
    from actbench.page.drawn import Drawn, Pair, Section
    from actbench.page.networks import Networks
    from actbench.page.table import Table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """All that a page says; texts may hold anything, and are escaped."""

    title: str
    kind: str  # of report, in a few words
    answer: str
    more: list[str]  # sentences after the answer
    notes: list[str]  # what the page does not cover
    overview: list[Drawn]  # of a trial: all claims at once
    groups: list[Group]
    ranking: Table | None
    ranking_words: str
    ranking_left: int  # rows of the ranking that are not shown
    remarks: list[str]  # on the ranking
    sections: Mapping[str, Section]
    pairs: list[Pair]
    networks: Networks
    folders: list[str]
    sessions: Table
    data: Table
    reading: list[tuple[str, str]]
    version: str
    symbols: Mapping[str, tuple[str, str]]  # verdict → (symbol, class)


def html_of(page: Page) -> str:
    """The page as one file that needs no other."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tight"] = tight
    style, script = _style(), (HERE / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template("page.html.j2").render(
        page=page, style=Markup(style), script=Markup(script), policy=Markup(policy)
    )
    return text.encode("utf-8", "replace").decode()  # a folder's name may hold bytes that are no text


def tight(text: str) -> str:
    """A sentence whose figures stay on one line with their units."""
    return re.sub(r"(?<=\d) (?=%|points|times|\[)", "\u00a0", text)


def _style() -> str:
    """The colours of figures in both schemes, then the page's own style."""
    from actbench.figures.style import FONT, page_variables

    light, dark = ("".join(f"{name}:{values[which]};" for name, values in page_variables().items()) for which in (0, 1))
    colours = f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
    colours += f"svg{{font-family:{FONT}}}\n"  # the letters that figures are measured with
    return colours + (HERE / "page.css").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source expression of a Content-Security-Policy that allows this very text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def symbols() -> dict[str, tuple[str, str]]:
    """Verdict → its symbol in figures, and the class of its colour in the page."""
    from actbench.figures.style import BAD, GOOD, MIXED, UNSURE, VERDICTS

    classes: dict[Any, str] = {GOOD: "good", BAD: "bad", MIXED: "mixed", UNSURE: "unsure"}
    return {name: (symbol, classes[colour]) for name, (symbol, colour) in VERDICTS.items()}
