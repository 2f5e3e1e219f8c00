"""What a worker process does: packs come in through a pipe, events go out; results go to the disk."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from actbench.base.errors import UserError
from actbench.base.machine import import_torch
from actbench.base.streams import guard_streams


def work(pipe: Connection, device: str, data_dir: Path | None, parts: Path, more: Mapping[str, Any]) -> None:
    """Trains the packs that come through a pipe, as a `PackJob` of these arguments, until the pipe or the run ends.

    Events are sent without their pack, which the other end knows: it would cost more to send than all the rest. An error that
    ends the run is sent in place of an event.
    """
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a user's code prints is not data
    guard_streams()  # nor need it be seen
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the run is gone
        try:
            import_torch()
            from actbench.launch.pack_job import PackJob

            job = PackJob(device, data_dir, parts, **more)
            while True:
                for event in job.run(pipe.recv()):
                    pipe.send(replace(event, pack=None))  # type: ignore[arg-type]
        except UserError as error:
            pipe.send(error)


def answer(pipe: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    """Sends what a function returns, or the UserError that it raises; nothing that it prints is seen."""
    _begin()
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
    with contextlib.suppress(EOFError, OSError):  # the run is gone
        try:
            pipe.send(function(*arguments))
        except UserError as error:
            pipe.send(error)


def _begin() -> None:
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a user's code prints is not data
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """Ends this process, in the middle of a step if need be, when the run ends, however it ends."""
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
