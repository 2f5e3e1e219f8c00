"""A worker process: packs come in through one pipe, what happens goes out through another, as pickles.

It ends when its pipe does, which is when the run that started it ends, however that ends.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass
class Setup:
    """The first message to a worker: the device, cores per operation, and where data lies."""

    device: str
    threads: int
    data_dir: Path | None


def main(more: list[tuple[int, int]]) -> None:
    """Loads torch, divides into one process more for each further pair of pipes (to read, to write), and serves in each.

    The first pair is stdin and stdout.
    """
    pipes = [(os.dup(0), os.dup(1)), *more]
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what else is printed, by a user's code, goes to stderr and not between the messages
    gc.disable()  # loading torch makes a million objects that stay: looking for garbage among them takes a tenth of it
    from actbench.packjob import PackJob, torch_threads

    gc.freeze()
    gc.enable()
    mine = pipes[0]
    for pair in more:
        if os.fork() == 0:
            mine = pair
            break
    for pair in pipes:  # a pipe ends when nobody holds it any more
        if pair != mine:
            os.close(pair[0])
            os.close(pair[1])
    source, sink = os.fdopen(mine[0], "rb"), os.fdopen(mine[1], "wb")
    try:
        setup: Setup = pickle.load(source)
    except EOFError:
        os._exit(0)  # nobody needs this one
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, tasks), daemon=True).start()

    def emit(event: Any) -> None:
        pickle.dump(event, sink, protocol=pickle.HIGHEST_PROTOCOL)
        sink.flush()

    job = PackJob(setup.device, setup.data_dir, {})
    with torch_threads(setup.device, setup.threads):
        while True:
            job.run(tasks.get(), emit, lambda: False)


def _listen(source: IO[bytes], tasks: queue.SimpleQueue[Any]) -> None:
    """Hands on what comes; ends the process, in the middle of a step if need be, when the other end is gone."""
    try:
        while True:
            tasks.put(pickle.load(source))
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(0)
