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
    """A pack could not be trained, for a reason in one line; `died`: its process ended, so that no exception is known; `lost`:
    its jobs did, again and again, for reasons that a smaller pack would not change.
    """

    pack: Pack
    reason: str
    died: bool = False
    lost: bool = False


Event = Progress | Done | Failed
