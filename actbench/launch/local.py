"""`LocalLauncher`: processes of one core each, one pack at a time in each.

Threads of one process would wait for each other's interpreter lock at every operation (tests/benchmarks/NOTES.md).
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from actbench.base.errors import UserError
from actbench.base.machine import available_memory
from actbench.launch.events import Event, Failed, Progress
from actbench.launch.launcher import Launcher
from actbench.launch.processes import PATIENCE, how_it_ended, server_with_torch, start_process
from actbench.launch.worker import work
from actbench.plan.pack import Pack

MEMORY_SHARE = 0.7  # of what is free, for all packs in training together
PAUSES = (0.1, 0.5)  # seconds between attempts to start a process


@dataclass(eq=False)
class _Worker:
    """A process, the pipe to it, and the pack that it trains."""

    process: BaseProcess
    pipe: Connection
    pack: Pack | None = None


class LocalLauncher(Launcher):
    """A launcher whose slots are processes of this machine, each with a `PackJob`, started when there is a pack for them."""

    def __init__(self, slots: int, parts: Path, data_dir: Path | None = None, device: str = "cpu", **more: Any) -> None:
        self.slots = slots
        self.memory = math.inf if device.startswith("cuda") else MEMORY_SHARE * available_memory()
        self._arguments = device, data_dir, parts, more
        self._workers: list[_Worker] = []
        self._not_started: list[Event] = []
        self._server = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._server.enter_context(server_with_torch())
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()
        self._server.close()

    def submit(self, pack: Pack) -> None:
        """Sends a pack to a process that has none, or to a new one."""
        idle = (worker for worker in self._workers if worker.pack is None and worker.process.is_alive())
        try:
            worker = next(idle, None) or self._start()
        except (OSError, EOFError) as error:  # no memory for a process, or the server has been killed
            self._not_started.append(Failed(pack, f"a worker process could not be started ({error})", died=True))
            return
        worker.pack = pack
        with contextlib.suppress(OSError):  # it has died already, which `poll` finds out
            worker.pipe.send(pack)

    def _start(self) -> _Worker:
        pauses = iter(PAUSES)
        while True:
            try:
                ours, theirs = multiprocessing.Pipe()
                with theirs:  # held by the process alone, so that its end is the pipe's
                    worker = _Worker(start_process(work, theirs, *self._arguments), ours)
            except (OSError, EOFError):  # not the pack's fault: the server has been killed, and may not be quite gone
                if (pause := next(pauses, None)) is None:
                    raise
                time.sleep(pause)
            else:
                self._workers.append(worker)
                return worker

    def poll(self) -> list[Event]:
        """Waits for a message of a process, or its end."""
        events, self._not_started = self._not_started, []
        while not events:
            ready = wait([end for worker in self._workers for end in (worker.pipe, worker.process.sentinel)])
            for worker in list(self._workers):
                if worker.pipe in ready or worker.process.sentinel in ready:
                    events += self._events_of(worker)
        return events

    def _events_of(self, worker: _Worker) -> list[Event]:
        events: list[Event] = []
        ended = worker.process.exitcode is not None  # asked first: what it sent before is in the pipe then
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                if isinstance(message, UserError):
                    raise message
                events.append(replace(message, pack=worker.pack))
                if not isinstance(message, Progress):
                    worker.pack = None
        except (EOFError, OSError):
            ended = True
        if ended:
            self._workers.remove(worker)
            worker.process.join(PATIENCE)
            if worker.pack is not None:
                events.append(Failed(worker.pack, how_it_ended(worker.process.exitcode), died=True))
            _close(worker)
        return events

    def cancel(self) -> None:
        """Kills the processes, in the middle of a step if need be."""
        workers, self._workers, self._not_started = self._workers, [], []
        for worker in workers:  # all of them, before any is waited for
            worker.process.kill()
        for worker in workers:
            _close(worker)


def _close(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join(PATIENCE)
    worker.pipe.close()
    with contextlib.suppress(ValueError):  # it does not end; at least nobody waits for it
        worker.process.close()  # upon which one whose server was killed, and that nobody can wait for, ends, too
