"""What a worker process does: packs come in through a pipe, messages about them go out; results go to the disk."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from actbench.base.errors import UserError
from actbench.base.machine import import_torch
from actbench.launch.events import Event, Failed, Progress

# networks' worth of work done since the last message; None for a pack that is done; the reason why one failed; an error that
# ends the run. Which pack it is, the other end knows: sending it would cost more than all the rest.
Message = float | None | str | UserError


def work(pipe: Connection, device: str, data_dir: Path | None, parts: Path) -> None:
    """Trains the packs that come, until the pipe or the run ends.

    Args:
        pipe: to the run.
        device: where to train.
        data_dir: where data sets lie.
        parts: the folder of part folders.
    """
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a user's code prints is not data
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the run is gone
        try:
            import_torch()
            from actbench.launch.attempt import attempt
            from actbench.launch.pack_job import PackJob

            job = PackJob(device, data_dir, parts)
            while True:
                for event in attempt(job, pipe.recv()):
                    pipe.send(_message(event))
        except UserError as error:
            pipe.send(error)


def _message(event: Event) -> Message:
    if isinstance(event, Progress):
        return event.networks
    return event.reason if isinstance(event, Failed) else None


def _end_with_the_run() -> None:
    """Ends this process, in the middle of a step if need be, when the run ends, however it ends."""
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
