"""What workers tell while packs train."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from actbench.study.spec import Pack
from actbench.results.columns import Rows


@dataclass
class Progress:
    """An evaluation of a pack in training: how much of its networks' work is done since the last one (less than 0 if it
    has to be done again)."""

    networks_done: float


@dataclass
class Finished:
    """A pack that has its rows, whole, with the seconds it took in all and for measuring, and [R] figures at its end."""

    pack: Pack
    rows: Rows
    seconds: float = 0.0
    measuring_seconds: float = 0.0
    test_accuracy: np.ndarray = field(default_factory=lambda: np.zeros(0))
    dead_fraction: np.ndarray = field(default_factory=lambda: np.zeros(0))
    training_seconds: float = 0.0  # of training steps alone


@dataclass
class Failed:
    """A pack that could not be trained, and why. Its halves are tried next."""

    pack: Pack
    reason: str
