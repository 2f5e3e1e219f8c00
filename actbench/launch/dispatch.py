"""Trains packs side by side, splits a pack that does not fit, isolates a network that fails.

Workers are processes of one core each: threads of one process would wait for each other's interpreter lock at every
operation, a fifth of the time (tests/benchmarks/NOTES.md). Where torch is loaded already, as in a notebook, and on a
GPU, they are threads, which share torch and the data.
"""

from __future__ import annotations

import collections
import queue
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actbench.data.datasets import Data
from actbench.base.errors import UserError
from actbench.launch.events import Failed, Finished, Progress
from actbench.base.machine import available_memory, cpu_count
from actbench.plan.costs import Shape, pack_bytes
from actbench.launch.local import Died, ProcessWorker, start_processes
from actbench.study.spec import Pack
from actbench.results.columns import rows_of_failed
from actbench.launch.worker import Setup

MEMORY_SHARE = 0.7  # of what is free, for all packs in training together
MOST_DEATHS = 20

Event = Progress | Finished


class Workers:
    """Trains packs on one device. Use as a context manager; leaving it stops whatever still trains.

    Args:
        device: where to train.
        workers: how many packs at a time (default: on the CPU as many as there are cores, on a GPU one).
        data_dir: where data sets lie.
        datasets: which will be wanted.
        processes: whether workers are processes (default: on the CPU, if torch is not loaded here yet).
        started: processes that load torch already, of which so many are taken as there is use for.
    """

    def __init__(
        self,
        device: str,
        workers: int | None = None,
        data_dir: Path | None = None,
        *,
        datasets: Sequence[str] = (),
        processes: bool | None = None,
        started: Sequence[ProcessWorker] = (),
    ) -> None:
        on_gpu = device.startswith("cuda")
        self.device, self.data_dir, self.datasets = device, data_dir, tuple(datasets)
        self.count = workers or (1 if on_gpu else cpu_count())
        self.processes = (not on_gpu and "torch" not in sys.modules) if processes is None else processes
        self.events: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self.team: list[ProcessWorker | _ThreadWorker] = []
        self._started = list(started)
        if not self.processes:
            self._stop_rest()

    def __enter__(self) -> Workers:
        return self

    def start(self, packs: int) -> None:
        """Starts as many workers as that many packs can use; processes begin to load torch."""
        wanted = min(self.count, packs)
        if not self.processes or len(self.team) >= wanted:
            return
        setup = self._setup(max(1, cpu_count() // max(1, wanted)))
        more = wanted - len(self.team)
        taken, self._started = self._started[:more], self._started[more:]
        if len(taken) < more:
            taken += start_processes(more - len(taken))
        for worker in taken:
            worker.begin(self.events, setup)
        self.team += taken
        self._stop_rest()

    def _stop_rest(self) -> None:
        for worker in self._started:
            worker.stop()
        self._started = []

    def _setup(self, threads: int) -> Setup:
        return Setup(self.device, threads, self.data_dir, self.datasets)

    def __exit__(self, *exception: object) -> None:
        for worker in self.team:
            worker.tell_to_stop()  # all of them, before any is waited for: one may wait for another
        for worker in self.team:
            worker.stop()
        self._stop_rest()

    def run(self, packs: list[Pack], data: Mapping[str, Data], shapes: Mapping[str, Shape]) -> Iterator[Event]:
        """Yields events as they come until every network has its rows.

        Packs are handed out by a thread of their own, so that a caller who writes results keeps no worker waiting.
        """
        told: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()

        def dispatch() -> None:
            try:
                for event in self._dispatch(packs, data, shapes):
                    told.put(event)
                told.put(None)
            except BaseException as error:  # whatever it is, the caller must hear of it
                told.put(error)

        thread = threading.Thread(target=dispatch, name="packs", daemon=True)
        thread.start()
        ended = False
        try:
            while not ended:
                event = told.get()
                ended = event is None or isinstance(event, BaseException)
                if isinstance(event, BaseException):
                    raise event
                if event is not None:
                    yield event
        finally:
            if not ended:  # the caller gave up
                self.events.put((None, None))
            thread.join()

    def _dispatch(self, packs: list[Pack], data: Mapping[str, Data], shapes: Mapping[str, Shape]) -> Iterator[Event]:
        waiting = collections.deque(packs)
        busy: dict[Any, tuple[Pack, float]] = {}
        self._hire(len(packs), data)
        limit = available_memory() * MEMORY_SHARE
        threads = max(1, cpu_count() // max(1, len(self.team)))
        told: dict[Any, float] = {}
        deaths = 0
        while waiting or busy:
            for worker in self.team:
                if worker in busy or not waiting:
                    continue
                needed = pack_bytes(waiting[0], shapes[waiting[0].shared.dataset])
                if busy and sum(amount for _, amount in busy.values()) + needed > limit:
                    break  # until one that trains has given its memory back
                busy[worker] = waiting.popleft(), needed
                worker.give(busy[worker][0])
            worker, event = self.events.get()
            if worker is None:
                return
            if isinstance(event, Progress):
                told[worker] = told.get(worker, 0) + event.networks_done
                yield event
                continue
            if isinstance(event, Died):
                if worker not in self.team:
                    continue
                deaths += 1
                if deaths > MOST_DEATHS or not worker.was_ready:
                    raise UserError(f"worker processes end before their time ({event.reason})")
                (another,) = start_processes(1)
                another.begin(self.events, self._setup(threads))
                self.team[self.team.index(worker)] = another
                if worker not in busy:
                    continue
                event = Failed(busy[worker][0], event.reason)
            elif isinstance(event, BaseException):
                raise event
            busy.pop(worker)
            done = told.pop(worker, 0)
            if isinstance(event, Failed):
                yield from self._after_failure(event, done, waiting)
            else:
                yield event

    def _hire(self, packs: int, data: Mapping[str, Data]) -> None:
        if self.processes:
            self.start(packs)
            for worker in self.team[packs:]:
                worker.stop()
            del self.team[packs:]
            return
        from actbench.launch.pack_job import PackJob

        job = PackJob(self.device, self.data_dir, dict(data))
        team = min(self.count, packs)
        self.team += [_ThreadWorker(self.events, job, max(1, cpu_count() // team)) for _ in range(team)]

    @staticmethod
    def _after_failure(event: Failed, done: float, waiting: collections.deque[Pack]) -> Iterator[Event]:
        """Halves of a pack go to the head of the queue; a network that failed alone gets a row that says why."""
        pack = event.pack
        if len(pack) == 1:
            yield Progress(1 - done)
            yield Finished(pack, rows_of_failed(pack.specs, event.reason))
            return
        if done:
            yield Progress(-done)
        waiting.extendleft(reversed(list(pack.halves())))


class _ThreadWorker:
    """A thread that trains a pack at a time."""

    def __init__(self, events: queue.SimpleQueue, job: Any, threads: int) -> None:
        self.was_ready = True
        self.tasks: queue.SimpleQueue[Pack | None] = queue.SimpleQueue()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._work, args=(events, job, threads), daemon=True)
        self.thread.start()

    def give(self, pack: Pack) -> None:
        self.tasks.put(pack)

    def _work(self, events: queue.SimpleQueue, job: Any, threads: int) -> None:
        from actbench.launch.pack_job import torch_threads

        with torch_threads(job.device, threads):
            while (pack := self.tasks.get()) is not None:
                try:
                    job.run(pack, lambda event: events.put((self, event)), self.stopped.is_set)
                except BaseException as error:  # whatever it is, the run must hear of it
                    events.put((self, error))

    def tell_to_stop(self) -> None:
        self.stopped.set()
        self.tasks.put(None)

    def stop(self) -> None:
        self.tell_to_stop()
        self.thread.join()
