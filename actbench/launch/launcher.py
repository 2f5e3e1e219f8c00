"""`Launcher`: what starts packs somewhere. Finished work is what lies on the disk, so that somewhere may be another machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self

from actbench.launch.events import Event
from actbench.plan.pack import Pack


class Launcher(Protocol):
    """Trains packs, each of which writes its own part folder. Use as a context manager: on leaving, processes of this machine are
    ended; jobs of a cluster go on, and whoever comes next attaches to them.

    A pack that was submitted ends in one `Done` or one `Failed`, whatever becomes of the process that trains it, unless it is
    cancelled. What no pack can help, such as a disk that is full, is raised by `poll` as a UserError.

    Attributes:
        slots: how many packs it trains at a time; no more are submitted.
        memory: bytes that all packs in training may take together; inf where that is not this machine's concern.
    """

    slots: int
    memory: float

    def submit(self, pack: Pack) -> None:
        """Has a pack trained. Does not wait for it."""

    def poll(self) -> Iterable[Event]:
        """Waits until something has happened to a submitted pack, and says what. Events carry the packs that were submitted."""

    def cancel(self) -> None:
        """Ends whatever still trains. When this returns, nobody writes parts any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> bool | None:
        self.cancel()
        return None
