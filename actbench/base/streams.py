"""Standard streams that end nothing: a reader who leaves, or a full disk, costs the text and not the work."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator


class Stream(io.TextIOWrapper):
    """A standard stream. Once it cannot be written to, it goes nowhere; ``lost`` says why."""

    lost: OSError | None = None

    def write(self, text: str) -> int:
        """Writes, or drops what cannot be written."""
        try:
            return super().write(text)
        except OSError as error:
            self.close_off(error)
            return len(text)

    def flush(self) -> None:
        """Flushes, or drops what cannot be written."""
        try:
            super().flush()
        except OSError as error:
            self.close_off(error)

    def close_off(self, error: OSError) -> None:
        """From now on all goes nowhere."""
        self.lost = error
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def write_bytes(content: bytes) -> None:
    """Writes to stdout what is no text; what cannot be written is dropped, as text is."""
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        if not isinstance(sys.stdout, Stream):
            raise
        sys.stdout.close_off(error)


def guard_streams() -> None:
    """Makes stdout and stderr such streams. One that is closed goes nowhere, and one of few letters shows what it can."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = Stream(open(os.devnull, "wb"), "utf-8")  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and not isinstance(stream, Stream):
            stream.flush()
            line, through, encoding = stream.line_buffering, stream.write_through, stream.encoding
            file = open(stream.fileno(), "wb", closefd=False)  # noqa: SIM115
            stream = Stream(file, encoding, "replace", line_buffering=line, write_through=through)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # whose file is taken, and which the size of the terminal is asked of


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """What a user's own code prints within is not data: it goes to stderr, and not at all where an error has to stand alone."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield
    sys.stderr.write(text.getvalue())
