"""A worker process: packs come in through one pipe, what happens goes out through another, as pickles.

It ends when its pipe does, which is when the run that started it ends, however that ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import pickle
import queue
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

# torch's rules for tensors without values, for torch.compile, which workers never call: a fifth of torch's import. Left out
# of the versions that were seen to load without.
NEEDLESS, SINCE, UNTIL = "torch._meta_registrations", (2, 13), (2, 15)


@dataclass
class Setup:
    """The first message to a worker: the device, cores per operation, where data lies, and which data will be wanted."""

    device: str
    threads: int
    data_dir: Path | None
    datasets: tuple[str, ...] = ()


def main(more: list[tuple[int, int]]) -> None:
    """Loads torch and data, divides into one process more for each further pair of pipes (to read, to write), and serves
    in each.

    The first pair is stdin and stdout. Data is read while torch loads, and is in memory once for all.
    """
    pipes = [(os.dup(0), os.dup(1)), *more]
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what else is printed, by a user's code, goes to stderr and not between the messages
    source = os.fdopen(pipes[0][0], "rb")
    received: list[tuple[Setup, dict]] = []
    reader = threading.Thread(target=lambda: received.append(_receive(source)))
    reader.start()
    gc.disable()  # loading torch makes a million objects that stay: looking for garbage among them takes a tenth of it
    with _left_out(NEEDLESS) if SINCE <= _torch_version() <= UNTIL else contextlib.nullcontext():
        from actbench.launch.pack_job import PackJob, torch_threads
    reader.join()  # a process with two threads cannot be divided
    ((setup, data),) = received
    gc.freeze()
    gc.enable()
    mine = pipes[0]
    for pair in more:
        if os.fork() == 0:
            mine = pair
            source.close()
            source = os.fdopen(mine[0], "rb")
            break
    for task, event in pipes:  # a pipe ends when nobody holds it any more
        if event != mine[1]:
            os.close(event)
            if task != pipes[0][0]:
                os.close(task)
    sink = os.fdopen(mine[1], "wb")
    if mine != pipes[0]:
        setup = _setup_from(source)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, tasks), daemon=True).start()

    def emit(event: Any) -> None:
        pickle.dump(event, sink, protocol=pickle.HIGHEST_PROTOCOL)
        sink.flush()

    job = PackJob(setup.device, setup.data_dir, data)
    with torch_threads(setup.device, setup.threads):
        while True:
            job.run(tasks.get(), emit, lambda: False)


def _receive(source: IO[bytes]) -> tuple[Setup, dict]:
    """The setup, and the data that it names and that is there: what is not is told of where it is asked for."""
    setup = _setup_from(source)
    data = {}
    if setup.datasets:
        from actbench.data.datasets import load_dataset

        for name in setup.datasets:
            with contextlib.suppress(Exception):
                data[name] = load_dataset(name, setup.data_dir, download=False)
    return setup, data


def _setup_from(source: IO[bytes]) -> Setup:
    """The first message; ends the process if there is none, since nobody needs it then."""
    try:
        return pickle.load(source)
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(0)


def _torch_version() -> tuple[int, ...]:
    """(major, minor), read from its file, since loading torch takes long; () if that cannot be told."""
    spec = importlib.util.find_spec("torch")
    with contextlib.suppress(OSError):
        text = Path(spec.origin).with_name("version.py").read_text() if spec and spec.origin else ""
        if found := re.search(r"__version__ = ['\"](\d+)\.(\d+)", text):
            return tuple(map(int, found.groups()))
    return ()


@contextlib.contextmanager
def _left_out(name: str) -> Iterator[None]:
    """An empty module in the place of ``name`` while others are imported; who asks for it later gets the real one."""
    package, _, attribute = name.rpartition(".")
    sys.modules[name] = ModuleType(name)
    yield
    del sys.modules[name]
    with contextlib.suppress(KeyError, AttributeError):
        delattr(sys.modules[package], attribute)


def _listen(source: IO[bytes], tasks: queue.SimpleQueue[Any]) -> None:
    """Hands on what comes; ends the process, in the middle of a step if need be, when the other end is gone."""
    try:
        while True:
            tasks.put(pickle.load(source))
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(0)
