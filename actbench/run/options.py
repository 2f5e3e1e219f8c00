"""What a run is asked for, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actbench.study.load import Study

if TYPE_CHECKING:
    from actbench.run.prepare import Prepared


@dataclass(frozen=True)
class Options:
    """How to run: where to, on what, and whom to tell. The defaults are those of ``actbench run``."""

    out: Path | None = None
    fresh: bool = False
    device: str = "auto"
    workers: int | None = None
    data_dir: Path | None = None
    config_dir: Path | None = None
    processes: bool | None = None
    started: list[ProcessWorker] | None = None
    command: str = ""
    on_event: Callable[[Any], None] = lambda event: None
    on_start: Callable[[Prepared, int], None] = lambda prepared, networks: None
    on_note: Callable[[str], None] = lambda text: None


@dataclass
class Outcome:
    """What a run did: networks by status (of the whole study), how many were trained now, and what they took."""

    folder: Path
    study: Study
    statuses: dict[str, int]
    trained: int
    seconds: float
    measuring_share: float
    errors: list[str] = field(default_factory=list)


