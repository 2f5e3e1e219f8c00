"""Worker processes: one loads torch and divides into as many as are wanted; each trains a pack at a time.

Where processes cannot be divided (Windows), or should not be (macOS), each loads torch for itself.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING, Any

from actbench.base import machine
from actbench.base.errors import UserError
from actbench.launch.worker import Setup

if TYPE_CHECKING:  # a run waits for what is imported here
    from actbench.study.spec import Pack

# glibc's allocator gives large blocks back to the system when they are freed, and touching them anew costs a page fault
# per 4 KiB, at every step: workers keep them (measured: tests/benchmarks/NOTES.md).
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
    "OMP_NUM_THREADS": "1",  # no threads before the process divides; how many train is told later
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",  # looking for other makers' devices, which are not used here, takes time
}
_ahead: list[ProcessWorker] = []


class Died:
    """A worker process that ended before its time."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class ProcessWorker:
    """A process that trains a pack at a time.

    Args:
        tasks, events: the ends here of the pipes to it and from it.
        process: what was started for it; None if it is part of another, which divided.
    """

    def __init__(self, tasks: IO[bytes], events: IO[bytes], process: subprocess.Popen | None) -> None:
        self._tasks, self._events, self._process = tasks, events, process
        self._listener: threading.Thread | None = None
        self.was_ready = False

    def begin(self, events: queue.SimpleQueue, setup: Setup) -> None:
        """Tells it what it is for; a thread here hands on what it tells, as (self, event)."""
        self._send(setup)
        self._listener = threading.Thread(target=self._listen, args=(events,), daemon=True)
        self._listener.start()

    def give(self, pack: Pack) -> None:
        """Has it train a pack."""
        self._send(pack)

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # it has died: the listener says so
            pickle.dump(message, self._tasks, protocol=pickle.HIGHEST_PROTOCOL)
            self._tasks.flush()

    def _listen(self, events: queue.SimpleQueue) -> None:
        try:
            while True:
                event = pickle.load(self._events)
                self.was_ready = True
                events.put((self, event))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            events.put((self, Died(f"the worker process ended{self._how()}")))

    def _how(self) -> str:
        if self._process is None:
            return ", perhaps out of memory"
        code = self._process.wait()
        with suppress(ValueError):
            if code < 0:
                return f": killed by {signal.Signals(-code).name}" + (", perhaps out of memory" if code == -9 else "")
        return f": exit code {code}"

    def tell_to_stop(self) -> None:
        """Has it end, in the middle of a step if need be."""
        if self._process is not None:
            self._process.kill()
        with suppress(OSError):
            self._tasks.close()  # upon which it ends

    def stop(self) -> None:
        """Ends it; a thread waits until the system has taken its memory back, which takes a while."""
        self.tell_to_stop()
        if self._process is not None:
            threading.Thread(target=self._process.wait, daemon=True).start()
        if self._listener is None:
            self._events.close()


def start_ahead() -> None:
    """Starts as many workers as there are cores, for ``start_early`` to take: before it is known what will be asked."""
    with suppress(UserError, OSError):  # whatever it is, the run will meet it and say so
        _ahead.extend(start_early("auto", None))


def start_early(device: str, workers: int | None) -> list[ProcessWorker]:
    """Workers that load torch while the study is still read, where it can be told already that they will be wanted."""
    if "torch" in sys.modules or not machine.is_cpu(device) or (workers or 1) < 1:
        return []
    if _ahead:
        taken, _ahead[:] = list(_ahead), []
        return taken
    machine.user_modules_importable()
    return start_processes(min(workers or machine.cpu_count(), machine.cpu_count()))  # more, if there is use for them


def start_processes(count: int) -> list[ProcessWorker]:
    """Starts so many workers, which begin to load torch; each waits for ``begin``."""
    if count > 1 and sys.platform != "linux":
        return [worker for _ in range(count) for worker in start_processes(1)]
    ours, theirs = [], []
    with ExitStack() as stack:  # their ends are closed here, whatever happens
        for _ in range(count - 1):
            (task_out, task_in), (event_out, event_in) = _pipe(), _pipe()
            stack.callback(os.close, task_out)
            stack.callback(os.close, event_in)
            ours.append((os.fdopen(task_in, "wb"), os.fdopen(event_out, "rb")))
            theirs.append((task_out, event_in))
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _worker_code(theirs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT}, pass_fds=[end for pair in theirs for end in pair],
            start_new_session=True,  # Ctrl-C is for the run to handle
        )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    first = ProcessWorker(process.stdin, process.stdout, process)
    return [first, *(ProcessWorker(tasks, events, None) for tasks, events in ours)]


def _pipe() -> tuple[int, int]:
    """A pipe above the numbers of stdin, stdout and stderr, which a process that was started without them has free."""
    import fcntl

    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _worker_code(more: list[tuple[int, int]]) -> str:
    """What a worker process runs: this package and a user's modules, from where they are imported here."""
    paths = [os.getcwd() if path == "" else path for path in sys.path]
    return f"import sys; sys.path[:] = {paths!r}; from actbench.launch.worker import main; main({more!r})"
