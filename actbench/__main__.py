"""The command ``actbench``, and ``python -m actbench``."""

from __future__ import annotations

import sys


def main() -> None:
    """Hands over to the commands; Ctrl-C while they are still imported ends it with a word, too."""
    try:
        from actbench.cli.commands import main as run_command

        run_command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
