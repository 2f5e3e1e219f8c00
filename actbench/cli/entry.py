"""The command's entry point, the only place that catches errors: a user's mistake is one ``error:`` line.

Exit codes: 0 done, 1 some network failed or a gate did not hold, 2 a user's mistake, 130 interrupted.
"""

from __future__ import annotations

import gc
import sys

import typer

from actbench.base import interrupt
from actbench.base.errors import UserError, one_line
from actbench.base.machine import open_missing_streams
from actbench.base.streams import guard_streams
from actbench.cli.commands import app

INTERRUPTED = 130


def main() -> None:
    """Runs the command line of this process and ends it."""
    gc.set_threshold(200_000, 50, 50)  # else a third of a command's start goes into looking for garbage among imports
    open_missing_streams()
    guard_streams()
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    code = _exit_code()
    sys.stdout.flush()
    if (lost := getattr(sys.stdout, "lost", None)) and not isinstance(
        lost, BrokenPipeError
    ):  # the reader of a pipe has what it wanted
        print(f"error: cannot write to stdout: {lost.strerror or lost}", file=sys.stderr)
        code = code or 2
    gc.freeze()  # nor is anything gained by looking for garbage on leaving: 0.1 s
    sys.exit(code)


def _exit_code() -> int:
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer answers Ctrl-C with this code, and without a word
            raise typer.Abort
        return code if isinstance(code, int) else 0
    except typer.Exit as done:
        return done.exit_code
    except UserError as error:
        message, code = str(error), 2
    except (typer.Abort, KeyboardInterrupt) as interrupted:
        print(f"interrupted. {interrupted}".removesuffix(". "), file=sys.stderr)
        return INTERRUPTED
    except (OSError, SystemExit) as error:
        cause = error.__context__ if isinstance(error, SystemExit) else error  # typer answers a broken pipe with an exit
        if not isinstance(cause, OSError):
            raise
        message, code = f"cannot write or read: {cause.strerror or cause}", 2
    except MemoryError:
        message, code = "there is not enough memory", 1
    except typer.TyperException as error:
        message, code = one_line(error.format_message()), 2
    # Ctrl-C in the middle of a library becomes an error of the library's
    print("interrupted" if interrupt.pressed else f"error: {message}", file=sys.stderr)
    return INTERRUPTED if interrupt.pressed else code
