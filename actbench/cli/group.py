"""The group of all commands."""

from __future__ import annotations

from typing import Any

import typer

from actbench.base.errors import UserError, shown


class Commands(typer.core.TyperGroup):
    """All commands. Empty words are refused in every one: a script's variable is not set."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses as typer does; UserError for an empty word."""
        for before, word in zip(["", *args], args, strict=False):
            if not word.strip() or (word.startswith("--") and word.endswith("=")):
                name = word.rstrip("=").strip() or (
                    before if before.startswith("-") else f"an empty word after '{shown(before)}'"
                )
                raise UserError(f"{name}: empty; leave it out, or set the variable that it comes from")
        return super().parse_args(ctx, args)
