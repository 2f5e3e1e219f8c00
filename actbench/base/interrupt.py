"""Whether Ctrl-C was pressed. Libraries turn its exception into errors of their own when it meets their imports."""

from __future__ import annotations

import signal
from types import FrameType

pressed = False


def watch() -> None:
    """Notes Ctrl-C from now on, unless this process is to hear nothing of it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global pressed
    pressed = True
    raise KeyboardInterrupt
