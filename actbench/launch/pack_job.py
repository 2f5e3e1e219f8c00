"""What a slot does with a pack, wherever it is: trains it, writes its part folder, and says so in events."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from actbench.data.datasets import Data, load_dataset
from actbench.engine.device_data import DeviceData
from actbench.engine.evaluation import Starts
from actbench.engine.one_thread import one_thread
from actbench.engine.products import products
from actbench.engine.train import train
from actbench.engine.trainer import Trainer
from actbench.engine.user_activations import is_of_user
from actbench.launch.events import Done, Event, Failed, Progress
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.results.parts import WriteError, write_part
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
        node: what this machine is, if it is not the run's; goes with each part.
        copies: data sets' names → their files on this machine's own disk.
    """

    device: str
    data_dir: Path | None
    parts: Path
    loaded: dict[str, Data] = field(default_factory=dict)
    node: Mapping[str, Any] | None = None
    copies: Mapping[str, str] = field(default_factory=dict)
    _on_device: dict[tuple, DeviceData] = field(default_factory=dict, init=False)
    _starts: Starts = field(default_factory=dict, init=False)

    def run(self, pack: Pack) -> Iterator[Event]:
        """Trains a pack and writes its part folder, whole or not at all; yields Progress, and at the end Done or Failed.

        Raises:
            WriteError: the part cannot be written.
        """
        events, event = self._train(pack), None
        while not isinstance(event, (Done, Failed)):
            try:
                event = next(events)
            except WriteError:
                raise
            except BaseException as error:  # out of memory, or code of the user's own
                if not is_of_user(error):
                    raise
                event = Failed(pack, _reason(error))
            if isinstance(event, Failed) and self.device.startswith("cuda"):
                torch.cuda.empty_cache()
            yield event

    def _train(self, pack: Pack) -> Iterator[Event]:
        name = pack.shared.dataset
        if name not in self.loaded:
            here = load_dataset(self.copies.get(name, name), self.data_dir, download=False)
            self.loaded[name] = replace(here, name=name)
        data = self.loaded[name]
        plan = plan_pack(pack, data.shape, self.device)
        key = (*(getattr(plan.spec, setting) for setting in settings_with("data")), plan.merges_fixed_inputs)
        with one_thread(self.device), products(plan.products):
            if key not in self._on_device:
                if self.device.startswith("cuda"):
                    self._on_device.clear()  # a GPU has less memory, and packs of one data set come one after another
                self._on_device[key] = DeviceData(data, plan, self.device)
            trainer = Trainer(plan, self._on_device[key], starts=self._starts)
            for _ in train(trainer):
                yield Progress(pack, len(pack) / len(plan.evaluated))
        measured = trainer.measurements
        seconds = {"seconds": measured.seconds, "measuring": measured.measuring_seconds, "training": measured.training_seconds}
        write_part(self.parts, rows_of(pack.specs, measured), seconds, self.node)
        yield Done(pack)


def _reason(error: BaseException) -> str:
    """One line for the column ``error``: what went wrong, and where."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text.lower():
        return f"out of memory: {text}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({frame.name}, line {frame.lineno})"
