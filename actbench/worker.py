"""A worker process: packs come in on stdin, what happens goes out on stdout, as pickles between two ends of one program.

It ends when its stdin does, which is when the run that started it ends, however that ends.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Setup:
    """The first message to a worker: the device, cores per operation, and where data lies."""

    device: str
    threads: int
    data_dir: Path | None


def main() -> None:
    """Reads a ``Setup``, then packs, until stdin ends."""
    source = sys.stdin.buffer
    # what else is printed, by a user's code, goes to stderr and not between the messages
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    setup: Setup = pickle.load(source)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, tasks), daemon=True).start()

    gc.disable()  # loading torch makes a million objects that stay: looking for garbage among them takes a tenth of it
    from actbench.packjob import PackJob, torch_threads

    gc.freeze()
    gc.enable()

    def emit(event: Any) -> None:
        pickle.dump(event, sink, protocol=pickle.HIGHEST_PROTOCOL)
        sink.flush()

    job = PackJob(setup.device, setup.data_dir, {})
    with torch_threads(setup.device, setup.threads):
        while True:
            job.run(tasks.get(), emit, lambda: False)


def _listen(source: Any, tasks: queue.SimpleQueue[Any]) -> None:
    """Hands on what comes; ends the process, in the middle of a step if need be, when the other end is gone."""
    try:
        while True:
            tasks.put(pickle.load(source))
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(0)
