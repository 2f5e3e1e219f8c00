"""What a worker does with a pack: trains it and tells what happens. The same in a thread and in a process of its own."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from actbench.datasets import Data, load_dataset
from actbench.device_data import DeviceData
from actbench.evaluation import Evaluation
from actbench.events import Failed, Finished, Progress
from actbench.plan import matrix_products
from actbench.products import products
from actbench.schedule import evaluation_steps
from actbench.spec import Pack, RunSpec
from actbench.tables import rows_of
from actbench.train import Interrupted, train


@dataclass
class PackJob:
    """Trains packs on one device, with each data set in memory once.

    Args:
        device: where to train.
        data_dir: where data sets lie.
        loaded: data sets that are in memory already.
    """

    device: str
    data_dir: Path | None
    loaded: dict[str, Data]

    def __post_init__(self) -> None:
        self._on_device: dict[tuple, DeviceData] = {}
        self._lock = threading.Lock()

    def run(self, pack: Pack, emit: Callable[[Any], None], stopped: Callable[[], bool]) -> None:
        """Trains a pack; emits Progress at every evaluation, then Finished or Failed, or nothing if stopped."""

        def on_evaluation(evaluation: Evaluation) -> None:
            emit(Progress(len(pack) / self._evaluations(pack.shared)))

        try:
            data = self._data_for(pack.shared)
            with products(matrix_products(pack, data.shape, self.device)):
                if stopped():  # while it waited for its turn
                    raise Interrupted
                measured = train(pack, data, on_evaluation=on_evaluation, stopped=stopped)
            last = measured.evaluations[-1].network
            figures = last["test_accuracy"], last["dead_fraction"]
            seconds = measured.seconds, measured.measuring_seconds
            emit(Finished(pack, rows_of(pack, measured), *seconds, *figures, measured.training_seconds))
        except Interrupted:
            pass
        except (Exception, SystemExit, GeneratorExit) as error:  # out of memory, or code of the user's own
            emit(Failed(pack, failure_reason(error)))
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()

    def _evaluations(self, spec: RunSpec) -> int:
        return len(evaluation_steps(spec, self._data_for(spec).shape.train))

    def _data_for(self, spec: RunSpec) -> DeviceData:
        key = (spec.dataset, spec.input_scaling, spec.dtype, spec.probe_size, spec.train_size, spec.model == "mlp")
        with self._lock:
            if spec.dataset not in self.loaded:
                self.loaded[spec.dataset] = load_dataset(spec.dataset, self.data_dir, download=False)
            if key not in self._on_device:
                self._on_device[key] = DeviceData(self.loaded[spec.dataset], spec, self.device)
            return self._on_device[key]


@contextlib.contextmanager
def torch_threads(device: str, threads: int) -> Iterator[None]:
    """Settings of a thread that trains on the CPU: how many cores an operation takes, and no denormal numbers."""
    before = torch.get_num_threads()
    if not device.startswith("cuda"):
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)  # dying networks make denormal numbers, which are a hundred times slower
    yield
    torch.set_num_threads(before)


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
