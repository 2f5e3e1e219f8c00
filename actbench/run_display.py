"""What `actbench run` shows: progress while it trains, the summary at its end, or the forecast of a dry run."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from actbench.progress import RunDisplay
from actbench.run import Options, Outcome, packs_to_train, prepare, read, run_study


def make_console(*, stderr: bool) -> Console:
    """A console of rich; where there is no terminal, lines are as long as they are."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=None if terminal else 200)


def run_with_display(study: str, overrides: list[str], options: Options, *, quiet: bool, as_json: bool) -> Outcome:
    """Runs a study with a live display; says how to go on if interrupted (exit code 130)."""
    console = make_console(stderr=True)
    display = RunDisplay(console, quiet=quiet)
    folder: list[Path] = []

    def on_start(prepared: Any, networks: int) -> None:
        folder.append(prepared.folder)
        done = len(prepared.study.specs) - networks
        had = f" ({done:,} of {len(prepared.study.specs):,} have results already)" if done else ""
        display.start(
            networks,
            f"{prepared.study.name}: {networks:,} network{'' if networks == 1 else 's'} to train on {prepared.device}{had}",
        )

    try:
        with redirect_stdout(sys.stderr):  # what a user's own code prints is not data
            outcome = run_study(study, overrides, replace(options, on_start=on_start, on_event=display.update))
    except KeyboardInterrupt:
        display.stop()
        where = f" What was finished is kept in {folder[0]};" if folder else ""
        print(f"interrupted.{where} the same command goes on from there", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        display.stop()
    if not quiet and not as_json:
        _print_summary(outcome)
    return outcome


def _print_summary(outcome: Outcome) -> None:
    from actbench.report.summary import headline, summary
    from actbench.results import load

    console = make_console(stderr=False)
    console.print(headline(outcome.statuses, outcome.trained, outcome.seconds, outcome.measuring_share))
    console.print(summary(load(outcome.folder).runs, outcome.folder))


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "study": outcome.study.name, "folder": str(outcome.folder), "networks": len(outcome.study.specs),
        "trained": outcome.trained, **outcome.statuses, "seconds": round(outcome.seconds, 3),
        "measuring_share": round(outcome.measuring_share, 4), "errors": outcome.errors,
    }  # fmt: skip


def print_forecast(study: str, overrides: list[str], options: Options, *, as_json: bool) -> None:
    """Prints what a run would train and take; writes nothing."""
    from actbench.forecast import forecast

    prepared = prepare(*read(study, overrides, options), options)
    packs = packs_to_train(prepared, fresh=options.fresh)
    told = forecast(prepared, packs, options.workers)
    if as_json:
        fields = {"study": prepared.study.name, "networks": told.networks, "packs": told.packs,
                  "seconds": round(told.seconds, 2), "memory_bytes": round(told.memory), "device": prepared.device}  # fmt: skip
        print(json.dumps(fields))
        return
    sizes = [len(pack) for pack in packs]
    count = len(prepared.study.specs)
    print(f"study     {prepared.study.name}: {count:,} network{'s' * (count != 1)}, {told.networks:,} to train")
    print(f"axes      {', '.join(prepared.study.axes) or 'none'}")
    print(f"packs     {told.packs:,}" + (f" of {_range(sizes)} networks" if sizes else ""))
    print(f"time      about {_duration(told.seconds)} on {prepared.device}")
    print(f"memory    about {told.memory / 2**30:.1f} GiB")
    print(f"results   {prepared.folder} (nothing was written)")


def _range(sizes: list[int]) -> str:
    return f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
