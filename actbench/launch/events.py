"""What launchers say of the packs that they were given."""

from __future__ import annotations

from dataclasses import dataclass

from actbench.plan.pack import Pack


@dataclass(frozen=True)
class Progress:
    """A pack was measured: how many networks' worth of work was done since the last time (less than 0 if it is to be redone)."""

    pack: Pack
    networks: float


@dataclass(frozen=True)
class Done:
    """A pack is finished: its part folder lies on the disk."""

    pack: Pack


@dataclass(frozen=True)
class Failed:
    """A pack could not be trained.

    Attributes:
        pack: its networks.
        reason: what went wrong, in one line.
        died: whether the process that trained it ended, so that nobody knows of an exception.
    """

    pack: Pack
    reason: str
    died: bool = False


Event = Progress | Done | Failed
