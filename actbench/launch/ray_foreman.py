"""The detached actor that owns a result folder's tasks in Ray, so that they go on when the run's process ends."""

from __future__ import annotations

import collections
import threading
import time
from pathlib import Path
from typing import Any

from actbench.base.errors import one_line
from actbench.launch.jobs import Task
from actbench.launch.node import run_task


class Foreman:
    """The actor: hands out a result folder's jobs, at most so many at once, and remembers how each ended."""

    def __init__(self, options: dict[str, Any], at_once: int) -> None:
        self._options, self._at_once = options, at_once
        self._waiting: collections.deque[tuple[Task, str]] = collections.deque()
        self._running: dict[Any, Task] = {}
        self._ended: dict[Task, str] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._work, daemon=True).start()

    def start(self, batch: str, jobs: int) -> None:
        """Takes in a batch."""
        with self._lock:
            self._waiting += [((Path(batch).name, number), batch) for number in range(jobs)]

    def states(self) -> dict[Task, tuple[bool, str]]:
        """Of every job: whether it is alive, and a word."""
        with self._lock:
            found = {task: (False, words) for task, words in self._ended.items()}
            found |= {task: (True, "waiting") for task, _ in self._waiting}
            return found | dict.fromkeys(self._running.values(), (True, "submitted"))

    def cancel(self, batches: list[str]) -> None:
        """Ends the jobs of batches."""
        import ray

        with self._lock:
            self._ended |= {task: "cancelled" for task, _ in self._waiting if task[0] in batches}
            self._waiting = collections.deque(one for one in self._waiting if one[0][0] not in batches)
            for reference, task in self._running.items():
                if task[0] in batches:
                    ray.cancel(reference, force=True)

    def _work(self) -> None:
        import ray

        run = ray.remote(run_task).options(**self._options)
        while True:
            with self._lock:
                while self._waiting and len(self._running) < self._at_once:
                    task, batch = self._waiting.popleft()
                    self._running[run.remote(batch, task[1])] = task
                running = list(self._running)
            done = ray.wait(running, num_returns=1, timeout=1.0)[0] if running else []
            for reference in done:
                try:
                    words = ray.get(reference) or "finished"
                except Exception as error:  # whatever a worker or its node died of
                    words = f"{type(error).__name__}: {one_line(str(error))[:200]}"
                with self._lock:
                    self._ended[self._running.pop(reference)] = words
            if not running:
                time.sleep(0.2)
