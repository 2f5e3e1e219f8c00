"""Result folders → their page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from actbench.base.machine import versions
from actbench.figures.loaded import trial_of
from actbench.page import answer, claims, drawn, facts, html, networks
from actbench.page.table import of_columns
from actbench.report.render import as_text, heading, listed
from actbench.report.summary import where_units_died
from actbench.report.tables import check_place, coverage, load_for, report_on, write_report
from actbench.results.frames import Results

MOST_CELLS = 100  # of a ranking that are shown


@dataclass(frozen=True)
class Written:
    """What stands in a page, and what a user should know of it."""

    figures: int
    size: int  # bytes
    notes: list[str]


def write_page(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    by: list[str] | None = None,
    metrics: list[str] | None = None,
    baseline: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[str, Written]:
    """The page on result folders, as text, and what is in it; written to ``out``, if given.

    Args:
        by, metrics, baseline: of the ranking, see ``tables.report_on``.
        on_progress: called with how many of how many figures are drawn.

    Raises:
        UserError: as ``actbench report`` does; or ``out`` cannot be written, or is a file of the results.
    """
    if out is not None:
        check_place(out, paths)
    page, notes = page_of(paths, by, metrics, baseline, on_progress)
    text = html.html_of(page)
    if out is not None:
        write_report(out, text, paths)
    return text, Written(text.count("<svg"), len(text.encode()), notes)


def page_of(
    paths: Sequence[Path],
    by: list[str] | None,
    metrics: list[str] | None,
    baseline: str | None,
    on_progress: Callable[[int, int], None],
) -> tuple[html.Page, list[str]]:
    """All that the page on result folders says, and notes."""
    results = load_for(paths, by, baseline)
    trial, notes = trial_of(paths)
    notes += coverage(results)
    if trial is None:
        report = report_on(paths, by, metrics, baseline, results=results)
        ranking, notes = report.ranking, [*notes, *(note for note in report.notes if note not in notes)]
    else:
        ranking = None
    figures, missing = drawn.draw(results, trial, ranking, on_progress)
    of_claims, figures = drawn.of_claims(figures, [claim["id"] for claim in trial["claims"]]) if trial else ({}, figures)
    overview = [one for one in figures if one.name == "verdicts"]
    sections = drawn.in_sections([one for one in figures if one not in overview])
    table = of_columns(as_text(ranking)) if ranking else None
    names = [str(path) for path in paths]
    page = html.Page(
        title=_title(results, names, trial),
        kind="Claims on trial" if trial else "Networks compared",
        answer=answer.of_trial(trial) if trial else answer.of_study(ranking) if ranking else "",
        more=_more(results.runs, trial),
        notes=notes,
        overview=overview,
        groups=claims.groups_of(trial, of_claims) if trial else [],
        ranking=replace(table, rows=table.rows[:MOST_CELLS]) if table else None,
        ranking_words=heading(ranking) if ranking else "",
        ranking_left=max(0, len(table.rows) - MOST_CELLS) if table else 0,
        remarks=ranking.remarks if ranking else [],
        sections=sections,
        pairs=drawn.pairs_of(sections["maps"]) if "maps" in sections else [],
        networks=networks.networks_of(results.runs),
        folders=names,
        sessions=facts.sessions_of(results, names),
        data=facts.data_of(results),
        reading=facts.reading_of(results, ranking, trial),
        version=versions()["actbench"] or "",
        symbols=html.symbols(),
    )
    return page, [*notes, *missing]


def _title(results: Results, paths: Sequence[str], trial: dict[str, Any] | None) -> str:
    if trial is not None:
        names = [claim["id"] for claim in trial["claims"]]
        return f"On trial: {listed(names)}" if len(names) <= 3 else "The textbook on trial"
    if len(paths) == 1:
        return f"Study {results.meta[0]['study'].get('name') or paths[0]}"
    return listed(paths)


def _more(runs: pd.DataFrame, trial: dict[str, Any] | None) -> list[str]:
    """What is said after the answer: how many networks, and of a study where units died."""
    counts = ", ".join(f"{count:,} {status}" for status, count in runs["status"].value_counts().items())
    seeds = runs["seed"].nunique()
    networks = f"{len(runs):,} network{'s' * (len(runs) != 1)} ({counts}), {seeds:,} seed{'s' * (seeds != 1)}."
    died = "" if trial else where_units_died(runs)
    return [text for text in (died, networks) if text]
