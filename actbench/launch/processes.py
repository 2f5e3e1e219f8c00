"""Starts processes: forked from a server that has torch loaded, where a system can do that, else anew.

Children never import the caller's ``__main__``: a script without a guard would run a second time in them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, process, resource_tracker
from types import ModuleType
from typing import Any

from actbench.base.machine import open_missing_streams

FORKS = sys.platform == "linux"  # macOS has fork, too, but its libraries do not bear it
PATIENCE = 10.0  # seconds until a process that should have ended is no longer waited for
PRELOADED = "actbench.launch.preload"
# glibc's allocator gives large blocks back to the system when they are freed, and touching them anew costs a page fault
# per 4 KiB, at every step: workers keep them (measured: tests/benchmarks/NOTES.md).
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
    "OMP_NUM_THREADS": "1",  # a process with several threads cannot be forked
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",  # looking for other makers' devices, which are not used here, takes time
    "PYTHONSAFEPATH": "1",  # a file of the working folder must not hide a module of the same name
}
_lock = threading.RLock()
_users = 0


@contextlib.contextmanager
def server_with_torch() -> Iterator[None]:
    """Within it runs a server that loads torch, in the background, for `start_process` to fork from.

    Nothing where a system cannot fork. A server that the caller's program runs already is used and left alone.
    """
    global _users
    if not FORKS:
        yield
        return
    with _lock:
        theirs = _users == 0 and _server_pid() is not None
        _users += not theirs
        _run_server()
    try:
        yield
    finally:
        with _lock:
            _users -= not theirs
            if not theirs and _users == 0:
                _stop_server()


def start_process(target: Callable[..., None], *arguments: Any) -> process.BaseProcess:
    """Starts a process that calls a function; it is ended when this one ends.

    Raises:
        OSError, EOFError: it could not be started.
    """
    context: Any = multiprocessing.get_context("forkserver" if FORKS else "spawn")
    started: process.BaseProcess = context.Process(target=target, args=arguments, daemon=True)
    with _lock:
        if FORKS:
            _run_server()  # unless it still runs
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # which the library looks at to have children import it
        try:
            with _environment():
                started.start()
        finally:
            sys.modules["__main__"] = main
    return started


def how_it_ended(code: int | None) -> str:
    """In words, what became of a worker process that ended with this exit code."""
    text = "the worker process ended"
    with contextlib.suppress(ValueError):
        if code is not None and code < 0:
            return f"{text}: killed by {signal.Signals(-code).name}" + (", perhaps out of memory" if code == -9 else "")
    return text if code is None else f"{text}: exit code {code}"


def _run_server() -> None:
    open_missing_streams()
    with _environment(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resource tracker that was killed says so when it starts anew
        resource_tracker.ensure_running()  # first, since it lets Ctrl-C through again
        forkserver.set_forkserver_preload([PRELOADED])
        # children never hear of Ctrl-C, which is the run's to handle
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _server_pid() -> int | None:
    return getattr(forkserver._forkserver, "_forkserver_pid", None)


def _stop_server() -> None:
    """Ends the server at once, loaded or not; one that this Python's library does not let be ended ends with this process."""
    if (pid := _server_pid()) is not None:
        with contextlib.suppress(AttributeError, OSError):
            os.kill(pid, signal.SIGKILL)
            forkserver._forkserver._stop()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Variables of processes that are started within; those of this one are put back."""
    # older versions of Python 3.11 do not hand sys.path to what a server loads ahead
    paths = os.pathsep.join(os.getcwd() if path == "" else path for path in sys.path)
    ours = {**ENVIRONMENT, "PYTHONPATH": paths}
    before = {name: os.environ[name] for name in ours if name in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
