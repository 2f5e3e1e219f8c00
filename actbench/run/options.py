"""What a run is asked for, what it says while it is on, and what it did."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command makes options before it imports what takes its time
    import numpy as np

    from actbench.launch.events import Progress
    from actbench.plan.pack import Pack
    from actbench.study.load import Study


@dataclass(frozen=True)
class Started:
    """A run begins to train those of a study's networks that are missing from its result folder."""

    study: str
    networks: int  # of the whole study
    missing: int
    folder: Path
    device: str


@dataclass(frozen=True)
class Finished:
    """A pack whose rows are kept, with [R] figures at its end; None if its networks failed."""

    pack: Pack
    test_accuracy: np.ndarray | None = None
    dead_fraction: np.ndarray | None = None


@dataclass(frozen=True)
class Options:
    """How to run. The defaults are those of ``actbench run``.

    Attributes:
        out: the result folder; by default results/STUDY.
        fresh: whether old results are set aside.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: packs at a time; by default as many as there are cores, on a GPU one.
        data_dir: where data sets lie.
        config_dir: a further folder of studies.
        processes: whether packs train in processes of their own, or in the calling thread, one at a time; by default in processes
            where a CPU trains, or several packs at a time do.
        command: the command line, for meta.json.
        on_event: called with what happens.
        on_note: called with what a user should know.
    """

    out: Path | None = None
    fresh: bool = False
    device: str = "auto"
    workers: int | None = None
    data_dir: Path | None = None
    config_dir: Path | None = None
    processes: bool | None = None
    command: str = ""
    on_event: Callable[[Started | Progress | Finished], None] = lambda event: None
    on_note: Callable[[str], None] = lambda text: None

    @property
    def may_use_processes(self) -> bool:
        """Whether packs may train, and a user's code be tried, in processes: not in one that may have no children."""
        return self.processes is not False and not multiprocessing.current_process().daemon


@dataclass
class Outcome:
    """What a run did: networks by status (of the whole study), how many were trained now, and what they took."""

    folder: Path
    study: Study
    statuses: dict[str, int]
    trained: int
    seconds: float
    measuring_share: float
    errors: list[str]
