"""What a slot does with a pack, wherever it is: trains it and writes its part folder."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from actbench.data.datasets import Data, load_dataset
from actbench.engine.device_data import DeviceData
from actbench.engine.one_thread import one_thread
from actbench.engine.products import products
from actbench.engine.train import train
from actbench.engine.trainer import Trainer
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import PackPlan, plan_pack
from actbench.results.parts import write_part
from actbench.results.rows import rows_of
from actbench.study.spec import settings_with


@dataclass
class PackJob:
    """Trains packs on one device, with each data set in memory once.

    Args:
        device: where to train.
        data_dir: where data sets lie.
        parts: the folder of part folders.
        loaded: data sets that are in memory already.
    """

    device: str
    data_dir: Path | None
    parts: Path
    loaded: dict[str, Data] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._on_device: dict[tuple, DeviceData] = {}

    def run(self, pack: Pack) -> Iterator[float]:
        """Trains a pack and writes its part folder, whole or not at all.

        Yields:
            At every evaluation, how much of the networks' work was done since the last: the sum is the number of networks.

        Raises:
            Exception: whatever went wrong; `failure_reason` puts it into a line. No part is written then.
        """
        data = self._load(pack.shared.dataset)
        plan = plan_pack(pack, data.shape, self.device)
        with one_thread(self.device), products(plan.products):
            trainer = Trainer(plan, self._data_for(plan))
            for _ in train(trainer):
                yield len(pack) / len(plan.evaluated)
        measured = trainer.measurements
        seconds = {"seconds": measured.seconds, "measuring": measured.measuring_seconds, "training": measured.training_seconds}
        write_part(self.parts, rows_of(pack.specs, measured), seconds)

    def _load(self, name: str) -> Data:
        if name not in self.loaded:
            self.loaded[name] = load_dataset(name, self.data_dir, download=False)
        return self.loaded[name]

    def _data_for(self, plan: PackPlan) -> DeviceData:
        key = (*(getattr(plan.spec, name) for name in settings_with("data")), plan.merges_fixed_inputs)
        if key not in self._on_device:
            self._on_device[key] = DeviceData(self._load(plan.spec.dataset), plan, self.device)
        return self._on_device[key]


def failure_reason(error: BaseException) -> str:
    """One line for the column ``error``: what went wrong, and where."""
    text = " ".join(str(error).split())[:300]
    if is_out_of_memory(error):
        return f"out of memory: {text}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({frame.name}, line {frame.lineno})"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or on a GPU."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text
