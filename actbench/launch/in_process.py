"""`InProcessLauncher`: trains in the calling thread, one pack at a time: for GPUs, tests, and who wants no processes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from actbench.launch.events import Event
from actbench.launch.launcher import Launcher
from actbench.launch.pack_job import PackJob
from actbench.plan.pack import Pack


class InProcessLauncher(Launcher):
    """A launcher of one slot that trains while it is polled."""

    slots = 1
    memory = math.inf  # one pack at a time fits, or is split

    def __init__(self, job: PackJob) -> None:
        self._job = job
        self._submitted: list[Pack] = []

    def submit(self, pack: Pack) -> None:
        """Has a pack trained at the next `poll`."""
        self._submitted.append(pack)

    def poll(self) -> Iterator[Event]:
        """Trains the pack that was submitted; yields events as they come."""
        yield from self._job.run(self._submitted.pop())

    def cancel(self) -> None:
        """Forgets a pack that was not begun; one in training ends with the iteration over `poll`."""
        self._submitted.clear()
