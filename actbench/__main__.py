"""The command ``actbench``, and ``python -m actbench``."""

from __future__ import annotations

import sys

# what may mean that no workers are wanted, or others than by default
TELLING = ("--dry-run", "--device", "--workers", "--help", "-h")


def main() -> None:
    """Has a run's workers begin to load torch before anything else is imported, then gives the commands their turn."""
    if sys.argv[1:2] == ["run"] and not any(word.startswith(TELLING) for word in sys.argv):
        from actbench.processes import start_ahead

        start_ahead()
    from actbench.cli import main as commands

    commands()


if __name__ == "__main__":
    main()
