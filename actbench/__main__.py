"""The command ``actbench``, and ``python -m actbench``."""

from __future__ import annotations

import contextlib
import os
import sys

# what may mean that no workers are wanted, or others than by default
TELLING = ("--dry-run", "--device", "--workers", "--help", "-h")


def main() -> None:
    """Has a run's workers begin to load torch before anything else is imported, then gives the commands their turn."""
    try:
        if sys.argv[1:2] == ["run"] and not any(word.startswith(TELLING) for word in sys.argv):
            from actbench.launch.local import start_ahead

            start_ahead()
        from actbench.cli.commands import main as commands

        commands()
    except KeyboardInterrupt:  # before a command could see to it
        print("interrupted", file=sys.stderr)
        _leave(130)
    except SystemExit as done:
        if not isinstance(done.code, int):
            raise
        _leave(done.code)


def _leave(code: int) -> None:
    """Ends the process: taking a million objects apart, one by one, before they are gone anyway takes a tenth of a second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or never there
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
