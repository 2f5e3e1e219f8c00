"""`InProcessLauncher`: trains in the calling thread, one pack at a time: for GPUs, tests, and who wants no processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

from actbench.launch.attempt import attempt
from actbench.launch.events import Event
from actbench.launch.pack_job import PackJob
from actbench.plan.pack import Pack


class InProcessLauncher:
    """A launcher of one slot that trains while it is polled.

    Args:
        job: what to do with a pack.
    """

    slots = 1
    memory = math.inf  # one pack at a time fits, or is split

    def __init__(self, job: PackJob) -> None:
        self._job = job
        self._pack: Pack | None = None

    def submit(self, pack: Pack) -> None:
        """Has a pack trained at the next `poll`."""
        assert self._pack is None, "the slot is taken"
        self._pack = pack

    def poll(self) -> Iterator[Event]:
        """Trains the pack that was submitted; yields events as they come."""
        pack, self._pack = self._pack, None
        if pack is not None:
            yield from attempt(self._job, pack)

    def cancel(self) -> None:
        """Forgets a pack that was not begun; one in training ends with the iteration over `poll`."""
        self._pack = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()
