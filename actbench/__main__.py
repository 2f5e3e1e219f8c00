"""The command ``actbench``, and ``python -m actbench``."""

from __future__ import annotations

import os
import sys

from actbench.base import interrupt


def main() -> None:
    """Hands over to the commands; Ctrl-C while they are still imported ends it with a word, too."""
    try:
        interrupt.watch()
        _no_warnings()
        from actbench.cli.entry import main as run_command

        run_command()
    except BaseException as error:
        if isinstance(error, SystemExit) or not (interrupt.pressed or isinstance(error, KeyboardInterrupt)):
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        exec("0")  # if Ctrl-C met code that is made from text (dataclasses), Python would end by the signal: it forgets


def _no_warnings() -> None:
    """Messages are this program's own, here and in its processes: a library's warning helps nobody who uses the command."""
    import warnings

    warnings.simplefilter("ignore")
    sys.warnoptions[:] = ["ignore"]
    os.environ.pop("PYTHONWARNINGS", None)


if __name__ == "__main__":
    main()
