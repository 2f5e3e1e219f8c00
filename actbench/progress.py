"""What a run shows while it works: a live bar on a terminal, a line now and then elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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
        self.bar: Progress | None = None

    def start(self, networks: int, packs: str) -> None:
        """Begins to show ``networks`` to train."""
        self.total, self.began = networks, time.perf_counter()
        self.told = self.began
        if self.quiet or not networks:
            return
        self.console.print(packs, style="dim", highlight=False)
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f} networks"),
                TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"), console=self.console, transient=True,
            )  # fmt: skip
            self.task = self.bar.add_task("training", total=networks, rate="", figures="")
            self.bar.start()

    def update(self, event: Any) -> None:
        """Takes in an event of ``Workers.run``."""
        if hasattr(event, "networks_done"):
            self.done += event.networks_done
            return self._show(event.evaluation.network)
        if event.measurements is None:  # failed: it has no evaluations to count it
            self.done += len(event.pack)
            return self._show({})
        last = event.measurements.evaluations[-1].network
        self.accuracy.add(last["test_accuracy"])
        self.dead.add(last["dead_fraction"])
        return self._show({})

    def _show(self, newest: dict[str, Any]) -> None:
        if self.quiet:
            return
        now = time.perf_counter()
        rate = f"{self.done / max(now - self.began, 1e-9):.1f}/s"
        accuracy, dead = self.accuracy.value, self.dead.value
        if accuracy is None and "test_accuracy" in newest and not np.isnan(newest["test_accuracy"]).all():
            accuracy, dead = np.nanmean(newest["test_accuracy"]), np.nanmean(newest["dead_fraction"])
        figures = "" if accuracy is None else f"accuracy {100 * accuracy:.1f} % · dead {100 * (dead or 0):.1f} %"
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
