"""Packs → rows: trains packs side by side in threads, splits a pack that does not fit, isolates a network that fails.

Threads, not processes: torch lets go of the interpreter while it computes, so that two threads keep two cores as busy
as two processes would (measured: tests/benchmarks/NOTES.md), with one copy of torch and of the data.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from actbench.datasets import Data
from actbench.device_data import DeviceData
from actbench.errors import UserError
from actbench.machine import available_memory, cpu_count, fast_matmul
from actbench.plan import Shape, pack_bytes
from actbench.spec import Pack, RunSpec
from actbench.tables import Rows, rows_of, rows_of_failed
from actbench.train import Evaluation, Interrupted, Measurements, train

MEMORY_SHARE = 0.7  # of what is free, for all packs in training together


@dataclass
class Progress:
    """An evaluation of a pack in training: how many of its networks' work is done since the last one."""

    networks_done: float
    evaluation: Evaluation


@dataclass
class Finished:
    """A pack that has its results, whole, or the networks of it that failed."""

    pack: Pack
    rows: Rows
    measurements: Measurements | None


class Workers:
    """Trains packs on one device.

    Args:
        data, shapes: the data sets by name, and what planning knows of them.
        device: where to train.
        workers: how many packs at a time; on the CPU as many as there are cores.
    """

    def __init__(
        self, data: Mapping[str, Data], shapes: Mapping[str, Shape], device: str, workers: int | None = None
    ) -> None:
        self.data, self.shapes, self.device = data, shapes, device
        self.workers = workers or (1 if device.startswith("cuda") else cpu_count())
        self.stop = threading.Event()
        self.events: queue.SimpleQueue[Progress | Finished | BaseException] = queue.SimpleQueue()
        self._on_device: dict[tuple, DeviceData] = {}
        self._lock = threading.Lock()
        self._memory = MemoryGate(available_memory() * MEMORY_SHARE)

    def run(self, packs: list[Pack]) -> Iterator[Progress | Finished]:
        """Yields events as they come until every network has its rows. Closing the generator stops training."""
        threads_before, workers = torch.get_num_threads(), max(1, min(self.workers, len(packs)))
        with fast_matmul(), ThreadPoolExecutor(workers, initializer=self._prepare_thread, initargs=(workers,)) as pool:
            waiting = [pool.submit(self._guarded, pack) for pack in packs]
            try:
                left = sum(len(pack) for pack in packs)
                while left:
                    event = self.events.get()
                    if isinstance(event, BaseException):
                        raise event
                    if isinstance(event, Finished):
                        left -= len(event.pack)
                    yield event
            finally:
                self.stop.set()
                self._memory.open()
                _cancel(waiting)
                torch.set_num_threads(threads_before)

    def _prepare_thread(self, workers: int) -> None:
        if not self.device.startswith("cuda"):
            torch.set_num_threads(max(1, cpu_count() // workers))
            torch.set_flush_denormal(True)  # dying networks make denormal numbers, a hundred times slower

    def _guarded(self, pack: Pack) -> None:
        try:
            self._train(pack)
        except Interrupted:
            pass
        except BaseException as error:  # whatever it is, the main thread must hear of it
            self.events.put(error)

    def _train(self, pack: Pack) -> None:
        """Trains a pack; if that fails, its halves; a single network that fails gets a row that says why."""
        told = 0.0

        def on_evaluation(evaluation: Evaluation) -> None:
            nonlocal told
            share = len(pack) / len(pack.shared.evaluated_epochs)
            told += share
            self.events.put(Progress(share, evaluation))

        try:
            with self._memory.hold(pack_bytes(pack, self.shapes[pack.shared.dataset])):
                measured = train(pack, self._data_for(pack.shared), on_evaluation=on_evaluation, stopped=self.stop.is_set)
            self.events.put(Finished(pack, rows_of(pack, measured), measured))
            return
        except (Interrupted, UserError):
            raise
        except Exception as error:  # out of memory, or code of the user's own
            reason = failure_reason(error)
        if told:
            nothing = Evaluation(0, 0, {}, {})
            self.events.put(Progress(-told, nothing))
        if len(pack) == 1:
            self.events.put(Finished(pack, rows_of_failed(pack.specs, reason), None))
            return
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        for half in pack.halves():
            self._train(half)

    def _data_for(self, spec: RunSpec) -> DeviceData:
        key = (spec.dataset, spec.input_scaling, spec.dtype, spec.probe_size)
        with self._lock:
            if key not in self._on_device:
                self._on_device[key] = DeviceData(self.data[spec.dataset], spec, self.device)
            return self._on_device[key]


def failure_reason(error: BaseException) -> str:
    """One line for the column ``error``: what went wrong, and where in the user's code if it was there."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    if is_out_of_memory(error):
        return f"out of memory: {text}"
    return f"{type(error).__name__}: {text} ({frame.name}, line {frame.lineno})"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or on a GPU."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text


def _cancel(futures: list[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


class MemoryGate:
    """Lets packs in while their estimated memory fits; a pack that is alone is always let in."""

    def __init__(self, limit: float) -> None:
        self.limit, self.held, self.inside = limit, 0.0, 0
        self._changed = threading.Condition()

    def hold(self, amount: float) -> _Held:
        """A context in which ``amount`` bytes are taken; waits for them."""
        return _Held(self, amount)

    def open(self) -> None:
        """Lets everyone in: training has been stopped."""
        with self._changed:
            self.limit = float("inf")
            self._changed.notify_all()


class _Held:
    def __init__(self, gate: MemoryGate, amount: float) -> None:
        self.gate, self.amount = gate, amount

    def __enter__(self) -> None:
        gate = self.gate
        with gate._changed:
            gate._changed.wait_for(lambda: not gate.inside or gate.held + self.amount <= gate.limit)
            gate.held += self.amount
            gate.inside += 1

    def __exit__(self, *exception: object) -> None:
        gate = self.gate
        with gate._changed:
            gate.held -= self.amount
            gate.inside -= 1
            gate._changed.notify_all()


