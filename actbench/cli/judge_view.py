"""What `actbench judge` shows: verdicts as a table with a plain sentence each, as JSON, as JUnit's XML; or the forecast."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from actbench.base.streams import held_back
from actbench.cli.judge_json import as_object
from actbench.cli.junit import Case, as_junit
from actbench.cli.page_view import write_page_in
from actbench.cli.run_view import RunDisplay, duration, make_console, said_how_to_go_on
from actbench.report.render import WIDE, Columns, table_lines
from actbench.report.summary import page_command
from actbench.report.tables import write_report
from actbench.report.verdict_words import decisive, figure_of, interval_of, procedure, sentence, theory_line
from actbench.results.reading import finished_in
from actbench.results.verdict_file import write_verdicts
from actbench.run.judging import Trial, folder_of, judge_claims, networks_ahead, read_claims
from actbench.run.options import Options
from actbench.verdicts.judge import Result

STYLES = {"supported": "green", "holds": "green", "refuted": "red", "fails": "red", "mixed": "yellow", "undecided": "dim"}


def judge_and_show(
    names: list[str], options: Options, *, quick: bool, junit: Path | None, with_page: bool, as_json: bool, quiet: bool
) -> int:
    """Puts claims on trial with a live display, keeps the verdicts in the folder, prints them; returns the exit code 0 or 1."""
    if junit is not None:  # which says so if the trial does not come to its end, and cannot be written is found out now
        unfinished = Case(str(folder_of(options)), "judge", "error", "unfinished", "the trial did not come to its end")
        write_report(junit, as_junit("actbench judge", [unfinished], 0.0), [folder_of(options)], "--junit")
    display = RunDisplay(make_console(stderr=True), quiet=quiet)
    with said_how_to_go_on(display):
        trial = judge_claims(names, replace(options, on_event=display.update), quick=quick)
    content = as_object(trial)
    write_verdicts(trial.folder, {**content, "timings": trial.timings})
    if junit is not None:
        write_report(junit, as_junit(f"actbench judge {trial.folder}", _cases(trial), trial.seconds), [trial.folder], "--junit")
    if as_json:
        print(json.dumps(content))
    elif not quiet:
        console = make_console(stderr=False)
        for line in lines(trial, console.width if console.is_terminal else WIDE):
            console.print(line, crop=False, soft_wrap=True)
    if trial.left and not quiet:
        print(trial.left, file=sys.stderr)
    for error in trial.errors[:5]:
        print(f"failed: {error}", file=sys.stderr)
    if with_page:
        write_page_in(trial.folder, quiet=quiet)
    return 1 if trial.errors else 0


def lines(trial: Trial, width: int = WIDE) -> list[Text]:
    """The verdicts: a table, then a sentence for each claim, then how they were reached."""
    found: list[Text] = []
    verdicts = [one for one in trial.results if not one.claim.fact]
    facts = [one for one in trial.results if one.claim.fact]
    for some, heading in ((verdicts, "Verdicts"), (facts, "Facts")):
        if some:
            found += [Text(f"\n{heading}" if found else heading, "bold"), *table_lines(_columns(some), width, most=len(some))]
    found.append(Text())
    for one in trial.results:
        outcome = one.outcome or "undecided"
        found.append(Text(f"{one.claim.id}: ", "bold") + Text(sentence(one)) + Text(f" {outcome}.", STYLES[outcome]))
        if foretold := theory_line(one):
            found.append(Text(f"  {foretold}", "dim"))
    found += [Text(), *(Text(line) for line in how_reached(trial))]
    if (trial.folder / "meta.json").exists():  # not where only time was measured
        found.append(Text(f"Page: {page_command(trial.folder)}"))
    return found


def _columns(results: list[Result]) -> Columns:
    texts: dict[str, list[str | Text]] = {name: [] for name in ("verdict", "claim", "effect", "needed", "seeds", "where")}
    for one in results:
        outcome, cell = one.outcome or "undecided", decisive(one)
        texts["verdict"].append(Text(outcome, STYLES[outcome]))
        texts["claim"].append(one.claim.id)
        texts["effect"].append(interval_of(one, cell))
        texts["needed"].append(_needed(one))
        texts["seeds"].append(str(cell.look.seeds) if cell else "")
        texts["where"].append(_where(one))
    return Columns(texts, 2)


def _needed(one: Result) -> str:
    if one.claim.kind == "fact":
        held = sum(judged.outcome == "pass" for _, judged in one.facts)
        return f"{held} of {len(one.facts)} hold"
    sign = "±" if one.claim.kind == "equivalence" else "> "
    return f"{sign}{figure_of(one.claim, one.claim.margin, signed=one.claim.kind != 'equivalence')}"


def _where(one: Result) -> str:
    """Where a claim holds, if it has several conditions."""
    counted = [cell for cell in one.cells if cell.judged]
    if len(counted) < 2:
        return counted[0].name if counted else ""
    holds = [cell.name for cell in counted if cell.verdict.outcome == "supported"]
    fails = [cell.name for cell in counted if cell.verdict.outcome == "refuted"]
    parts = [f"holds: {_some(holds)}"] if holds else []
    parts += [f"not: {_some(fails)}"] if fails else []
    return "; ".join(parts)


def _some(names: list[str]) -> str:
    return " · ".join(names) if len(names) <= 3 else f"{len(names)} conditions"


def how_reached(trial: Trial) -> list[str]:
    """How sure the verdicts are, in a few lines."""
    found = procedure(trial.family, quick=trial.quick)
    edges = sorted(
        {
            one.claim.id
            for one in trial.results
            for cell in one.cells
            for side in (cell.treatment, cell.control)
            if side.tuned.at_edge
        }
    )
    if edges:
        widened = "" if trial.quick else ", though it was widened"
        found.append(f"At an edge of the grid of rates{widened}: {', '.join(edges)}.")
    found.append(
        f"Tables and verdicts.json: {trial.folder}; {trial.trained:,} network{'s' * (trial.trained != 1)} trained now, "
        f"{duration(trial.seconds)}"
    )
    return found


def _cases(trial: Trial) -> list[Case]:
    """A test case for each claim; one that does not hold is a failure whose type is its verdict."""
    cases = []
    for one in trial.results:
        outcome = one.outcome or "undecided"
        kind = "pass" if outcome in ("supported", "holds") else "failure"
        cases.append(Case(str(trial.folder), one.claim.id, kind, outcome, f"{one.claim.claim} {sentence(one)} {outcome}."))
    return cases


def print_forecast(names: list[str], options: Options, *, quick: bool, as_json: bool) -> None:
    """Prints what a trial would train and take; writes nothing."""
    claims, folder = read_claims(names, options.config_dir, quick=quick), folder_of(options)
    with held_back():
        from actbench.run.forecast import forecast
        from actbench.run.prepare import prepare_study
        from actbench.study.load import Study

        done = set() if options.fresh else finished_in(folder)
        stages: dict[str, Mapping[str, Any]] = {}
        known: dict[str, Any] = {}
        for name, specs in networks_ahead(claims, quick=quick):
            new = {spec.run_id: spec for spec in specs if spec.run_id not in known}
            known |= new
            missing = sum(run_id not in done for run_id in new)
            seconds = 0.0
            if missing:
                prepared = prepare_study(Study(folder.name, [], list(new.values()), [], []), options, download=False)
                seconds = forecast(prepared, prepared.packs(done))[0]
            stages[name] = {"networks": len(new), "missing": missing, "seconds": round(seconds, 1)}
    if as_json:
        print(json.dumps({"claims": [claim.id for claim in claims], "folder": str(folder), "quick": quick, "stages": stages}))
        return
    family = sum(not claim.fact for claim in claims)
    print(f"claims    {len(claims)}, of which {len(claims) - family} are facts")
    total = 0.0
    for name, stage in stages.items():
        total += stage["seconds"]
        note = ", if 12 do not decide" if name == "20 seeds" else ""
        print(
            f"{name:<9} {stage['networks']:,} networks, {stage['missing']:,} to train, about {duration(stage['seconds'])}{note}"
        )
    print(f"time      about {duration(total)} at most; more where grids are widened, less where the first look decides")
    print(f"results   {folder} (nothing was written)")
