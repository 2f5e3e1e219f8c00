"""What `actbench run` shows: progress while it trains, the summary at its end, or the forecast of a dry run."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import rich.progress as bars
import typer
from rich.console import Console

from actbench.base.streams import held_back
from actbench.launch.events import Progress
from actbench.launch.jobs import jobs_left
from actbench.results.columns import FINISHED
from actbench.results.reading import finished_in
from actbench.run.loop import run_study
from actbench.run.options import Finished, Options, Outcome, Round, Started
from actbench.run.prepare import Prepared, prepare

PLAIN_SECONDS = 15.0  # between lines where there is no terminal


def make_console(*, stderr: bool) -> Console:
    """A console of rich; where there is no terminal, lines are as long as they are."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=None if terminal else 200)


@contextlib.contextmanager
def said_how_to_go_on(display: RunDisplay) -> Iterator[None]:
    """Within it networks train: what a user's own code prints is not data, and an interruption says what is kept."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        kept = display.folder is not None and finished_in(display.folder)
        left = jobs_left(display.folder)
        how = "" if left else "; the same command goes on from there"
        said = [f"What was finished is kept in {display.folder}{how}"] * bool(kept) + [left] * bool(left)
        raise typer.Abort(". ".join(said)) from None
    finally:
        display.stop()


def run_with_display(study: str, overrides: list[str], options: Options, *, quiet: bool, as_json: bool) -> Outcome:
    """Runs a study with a live display, then prints its summary or JSON; says how to go on if interrupted."""
    display = RunDisplay(make_console(stderr=True), quiet=quiet)
    with said_how_to_go_on(display):
        outcome = run_study(study, overrides, replace(options, on_event=display.update))
    if as_json:
        fields = {
            "study": outcome.study.name, "folder": str(outcome.folder), "networks": len(outcome.study.specs),
            "trained": outcome.trained, **outcome.statuses, "seconds": round(outcome.seconds, 3),
            "measuring_share": round(outcome.measuring_share, 4), "errors": outcome.errors,
        }  # fmt: skip
        print(json.dumps(fields))
    elif outcome.left or options.where.cancel:
        if not quiet:
            done = sum(outcome.statuses[status] for status in FINISHED)
            text = outcome.left or "its jobs are ended"
            print(f"{done:,} of {len(outcome.study.specs):,} networks have results in {outcome.folder}; {text}", file=sys.stderr)
    elif not quiet:
        from actbench.report.render import WIDE
        from actbench.report.summary import headline, summary
        from actbench.results.frames import load
        from actbench.results.measures import chance_levels

        console, results = make_console(stderr=False), load(outcome.folder)
        console.print(headline(outcome.statuses, outcome.trained, outcome.seconds, outcome.measuring_share))
        runs = results.runs[results.runs["run_id"].isin([spec.run_id for spec in outcome.study.specs])]
        width = console.width if console.is_terminal else WIDE
        for line in summary(runs, outcome.folder, outcome.study.report_by, chance=chance_levels(results.meta), width=width):
            console.print(line, crop=False)
    return outcome


def print_forecast(study: str, overrides: list[str], options: Options, *, as_json: bool) -> None:
    """Prints what a run would train and take; writes nothing."""
    with held_back():
        prepared = prepare(study, overrides, options, download=False)
        packs = prepared.packs(set() if options.fresh else finished_in(prepared.folder))
        from actbench.run.forecast import forecast  # loads torch, which a mistake need not wait for

        seconds, memory, measuring = forecast(prepared, packs)
    sizes = [len(pack) for pack in packs]
    if as_json:
        fields = {
            "study": prepared.study.name, "networks": sum(sizes), "packs": len(packs),
            "seconds": round(seconds, 2), "measuring_seconds": round(measuring, 2), "memory_bytes": round(memory),
            "device": prepared.device,
        }  # fmt: skip
        print(json.dumps(fields))
        return
    count = len(prepared.study.specs)
    bounds = " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)})) if sizes else ""
    print(f"study     {prepared.study.name}: {count:,} network{'s' * (count != 1)}, {sum(sizes):,} to train")
    print(f"axes      {', '.join(prepared.study.axes) or 'none'}")
    pack, network = "pack" + "s" * (len(sizes) != 1), "network" + "s" * (bounds != "1")
    print(f"packs     {len(sizes):,}" + (f" {pack} of {bounds} {network}" if sizes else ""))
    print(f"time      about {duration(seconds)} on {prepared.device}")
    if measuring > seconds / 3:
        print(f"          of which measuring takes {measuring / seconds:.0%}; {_less_measuring(prepared)}")
    if options.where.remote:
        print(f"jobs      of about {duration(options.where.seconds)}, {options.where.jobs:,} at once at most")
    else:
        print(f"memory    about {memory / 2**30:.1f} GiB")
    print(f"results   {prepared.folder} (nothing was written)")


def _less_measuring(prepared: Prepared) -> str:
    """The words that make a study measure less."""
    specs = prepared.study.specs
    words = ["probe_size=500"] * any(spec.probe_size > 500 for spec in specs)
    words += [f"eval_every={max(spec.epochs for spec in specs)}"] * any(spec.eval_every < spec.epochs for spec in specs)
    words += [f"{word}=0" for word in ("eval_steps", "eval_log") if any(getattr(spec, word) for spec in specs)]
    return f"less with {' or '.join(words)}" if words else "it is measured as seldom as can be"


def duration(seconds: float) -> str:
    """Seconds in a unit that fits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class RunDisplay:
    """Networks done, networks per second, time left, accuracy and dead units so far; on a console of stderr, unless quiet."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self.done, self.total = 0.0, 0
        self.folder: Path | None = None
        self.title = ""  # of a round of a trial
        self.sums, self.counts = np.zeros(2), np.zeros(2)  # of test accuracies and dead fractions that are known
        self.bar: bars.Progress | None = None

    def update(self, event: Started | Round | Progress | Finished) -> None:
        """Takes in what a run says."""
        if isinstance(event, Round):
            self._start_round(event)
            return
        if isinstance(event, Started):
            self._start(event)
            return
        if isinstance(event, Progress):
            self.done += event.networks
        elif event.test_accuracy is not None and event.dead_fraction is not None:
            figures = np.stack([event.test_accuracy, event.dead_fraction])
            self.sums += np.nansum(figures, axis=1)
            self.counts += np.sum(~np.isnan(figures), axis=1)
        if not self.quiet:
            self._show()

    def _start_round(self, event: Round) -> None:
        """A trial's rounds follow each other on one display."""
        self.stop()
        self.done, self.sums, self.counts = 0.0, np.zeros(2), np.zeros(2)
        decided = f"{event.decided} of {event.claims} claim{'s' * (event.claims != 1)} decided"
        self.title = f"{decided}; {event.stage}"

    def _start(self, event: Started) -> None:
        self.folder, self.total = event.folder, event.missing
        self.began = self.shown = time.perf_counter()
        if self.quiet or not self.total:
            return
        done = event.networks - event.missing
        had = f" ({done:,} of {event.networks:,} have results already)" if done else ""
        title = f"{self.title or event.study}: {self.total:,} network{'s' * (self.total != 1)} to train on {event.device}{had}"
        self.console.print(title, style="dim", highlight=False)
        if self.console.is_terminal:
            self.bar = bars.Progress(
                bars.BarColumn(bar_width=24 if self.console.width > 100 else 6),
                bars.TextColumn("{task.completed:.0f}/{task.total:.0f} networks"),
                bars.TextColumn("{task.fields[rate]}"), bars.TimeElapsedColumn(),
                bars.TextColumn("left"), bars.TimeRemainingColumn(),
                bars.TextColumn("{task.fields[figures]}"), console=self.console, transient=True,
            )  # fmt: skip
            self.task = self.bar.add_task("training", total=self.total, rate="", figures="")
            self.bar.start()

    def _show(self) -> None:
        now = time.perf_counter()
        rate = f"{self.done / max(now - self.began, 1e-9):.1f}/s"
        accuracy, dead = 100 * self.sums / np.maximum(self.counts, 1)
        figures = f"accuracy {accuracy:.1f} % · dead {dead:.1f} %" if self.counts[0] else ""
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, rate=rate, figures=figures)
        elif not self.console.is_terminal and now - self.shown > PLAIN_SECONDS:
            self.shown = now
            left = (self.total - self.done) * (now - self.began) / max(self.done, 1e-9)
            text = f"{self.done:.0f} of {self.total:,} network{'s' * (self.total != 1)}, {rate}, {left:.0f} s left, {figures}"
            self.console.print(text, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
