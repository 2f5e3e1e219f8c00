"""Imported once by the server that worker processes are forked from: what they would each import themselves."""

from __future__ import annotations

import contextlib
import gc
import sys
from types import TracebackType


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """As usual, but for a process whose run was interrupted before it had said what the process is for."""
    if not issubclass(kind, EOFError):
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _show
gc.disable()  # importing torch makes a million objects that stay: looking for garbage among them takes a tenth of it
with contextlib.suppress(Exception, SystemExit):  # what cannot be imported is reported by a worker
    import actbench.launch.pack_job  # noqa: F401
gc.freeze()  # nor are they looked over, and so copied, in each worker
gc.enable()
