"""What a run is asked for, what it says while it is on, and what it did."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from actbench.base.errors import UserError, shown
from actbench.base.paths import user_path

if TYPE_CHECKING:  # a command makes options before it imports what takes its time
    import numpy as np

    from actbench.launch.events import Progress
    from actbench.launch.settings import LauncherSettings
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
class Round:
    """A round of a trial begins: what its networks are for, and how many of the claims are decided."""

    stage: str
    decided: int
    claims: int


@dataclass(frozen=True)
class Finished:
    """A pack whose rows are kept, with [R] figures at its end; None if its networks failed."""

    pack: Pack
    test_accuracy: np.ndarray | None = None
    dead_fraction: np.ndarray | None = None


MOST_WORKERS = 999_999


@dataclass(frozen=True)
class Options:
    """How to run. The defaults are those of ``actbench run``. Folders may be texts; UserError for a value of another type.

    Attributes:
        out: the result folder; by default results/STUDY.
        fresh: whether old results are set aside.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: packs at a time; by default as many as there are cores, on a GPU one.
        data_dir: where data sets lie.
        config_dir: a further folder of studies, and of launchers.
        launcher: where packs train, in words such as ``launcher=slurm launcher.partition=gpu``; by default in processes here.
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
    launcher: Sequence[str] = ()
    processes: bool | None = None
    command: str = ""
    on_event: Callable[[Started | Round | Progress | Finished], None] = lambda event: None
    on_note: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        for name in ("out", "data_dir", "config_dir"):
            if (folder := getattr(self, name)) is not None:
                self._require(name, isinstance(folder, str | os.PathLike), "a path")
                object.__setattr__(self, name, user_path(folder, f"--{name.replace('_', '-')}"))
        self._require("device", isinstance(self.device, str), "a text")
        self._require("command", isinstance(self.command, str), "a text")
        self._require("fresh", isinstance(self.fresh, bool), "True or False")
        self._require("launcher", isinstance(self.launcher, list | tuple), "a list of words such as 'launcher=slurm'")
        self._require("processes", self.processes is None or isinstance(self.processes, bool), "True, False or None")
        if self.workers is not None:
            whole = isinstance(self.workers, Integral) and not isinstance(self.workers, bool)
            self._require("workers", whole and 1 <= self.workers <= MOST_WORKERS, f"a whole number from 1 to {MOST_WORKERS:,}")
        self._require("on_event", callable(self.on_event), "a function")
        self._require("on_note", callable(self.on_note), "a function")

    def _require(self, name: str, right: bool, what: str) -> None:
        if not right:
            raise UserError(f"options: {name}={shown(repr(getattr(self, name)))} is not {what}")

    @cached_property
    def where(self) -> LauncherSettings:
        """The launcher that the words say; UserError names the one that is wrong."""
        from actbench.launch.settings import read_launcher

        where = read_launcher(self.launcher, self.config_dir)
        if where.remote and self.workers is not None:
            raise UserError(
                f"--workers: of this machine; with launcher={where.engine} say launcher.jobs=N (at once) and launcher.cores=N"
            )
        if where.remote and self.device != "auto" and self.device.startswith("cuda") != bool(where.gpus):
            raise UserError(
                f"--device {shown(self.device)}: with launcher={where.engine} say launcher.gpus=1 for GPUs, 0 for none"
            )
        return where

    @property
    def may_use_processes(self) -> bool:
        """Whether packs may train, and a user's code be tried, in processes: not in one that may have no children."""
        return self.processes is not False and not multiprocessing.current_process().daemon


def checked_options(given: object) -> Options:
    """The options that a caller gave, the defaults for None; UserError for anything else."""
    if given is not None and not isinstance(given, Options):
        raise UserError(f"options: {shown(repr(given))} is not an actbench.Options; write Options(device='cpu')")
    return given or Options()


@dataclass
class Outcome:
    """What a run did: networks by status (of the whole study), how many were trained now, and what they took; ``left``: how
    jobs go on that it did not wait for, in words.
    """

    folder: Path
    study: Study
    statuses: dict[str, int]
    trained: int
    seconds: float
    measuring_share: float
    errors: list[str]
    left: str = ""
