"""What `show` prints or draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actbench.base.errors import UserError
from actbench.base.streams import held_back
from actbench.cli.figure_view import PICTURES, draw_functions, format_of


def show_names(names: Sequence[str], format: str | None, out: Path | None) -> None:
    """Prints entries in full; or draws activations, if a picture is asked for."""
    text = "text"
    wanted = format_of(format, out, PICTURES, text)
    if wanted != text:
        draw_functions(names, wanted, out)
        return
    if out is not None:
        raise UserError(f"--out {out}: of pictures; name a file that ends on .{', .'.join(PICTURES)}, or add --format")
    from actbench.cli.catalog import describe

    with held_back():
        parts = [describe(name) for name in dict.fromkeys(names)]
    print("\n\n".join("\n".join(lines).rstrip() for lines in parts))
