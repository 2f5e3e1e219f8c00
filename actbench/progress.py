"""What a run shows while it works: a live bar on a terminal, a line now and then elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich import progress as bars
from rich.console import Console

from actbench.events import Progress

PLAIN_SECONDS = 15.0  # between lines where there is no terminal


class RunDisplay:
    """Networks done, networks per second, time left, accuracy and dead units so far.

    Args:
        console: on stderr.
        quiet: show nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self.done, self.total = 0.0, 0
        self.accuracy, self.dead = _Average(), _Average()
        self.bar: bars.Progress | None = None

    def start(self, networks: int, packs: str) -> None:
        """Begins to show ``networks`` to train."""
        self.total, self.began = networks, time.perf_counter()
        self.told = self.began
        if self.quiet or not networks:
            return
        self.console.print(packs, style="dim", highlight=False)
        if self.console.is_terminal:
            self.bar = bars.Progress(
                bars.TextColumn("{task.description}"), bars.BarColumn(bar_width=24),
                bars.TextColumn("{task.completed:.0f}/{task.total:.0f} networks"),
                bars.TextColumn("{task.fields[rate]}"), bars.TimeElapsedColumn(),
                bars.TextColumn("left"), bars.TimeRemainingColumn(),
                bars.TextColumn("{task.fields[figures]}"), console=self.console, transient=True,
            )  # fmt: skip
            self.task = self.bar.add_task("training", total=networks, rate="", figures="")
            self.bar.start()

    def update(self, event: Any) -> None:
        """Takes in an event of ``Workers.run``."""
        if isinstance(event, Progress):
            self.done += event.networks_done
        else:
            self.accuracy.add(event.test_accuracy)
            self.dead.add(event.dead_fraction)
        if self.quiet:
            return
        now = time.perf_counter()
        rate = f"{self.done / max(now - self.began, 1e-9):.1f}/s"
        figures = ""
        if self.accuracy.value is not None:
            figures = f"accuracy {100 * self.accuracy.value:.1f} % · dead {100 * (self.dead.value or 0):.1f} %"
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, rate=rate, figures=figures)
        elif not self.console.is_terminal and now - self.told > PLAIN_SECONDS:
            self.told = now
            left = (self.total - self.done) * (now - self.began) / max(self.done, 1e-9)
            text = f"{self.done:.0f} of {self.total} networks, {rate}, {left:.0f} s left, {figures}"
            self.console.print(text, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class _Average:
    """A running mean that leaves NaN out."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, values: Any) -> None:
        good = values[~np.isnan(values)]
        self.total += float(good.sum())
        self.count += len(good)

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None
