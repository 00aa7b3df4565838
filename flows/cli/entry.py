"""The command ``layerprint`` from its first moment: signals that end it are watched before anything is imported."""

from __future__ import annotations

import os
import sys

from flows.cli import interrupts


def main() -> None:
    """Entry point of the command ``layerprint``."""
    interrupts.watch()
    try:
        from flows.cli import main as command
    except BaseException:
        number = interrupts.received()
        if number is None:
            raise
        sys.stderr.write(interrupts.sentence(number) + "\n")
        sys.stderr.flush()
        os._exit(interrupts.exit_code(number))  # the imports may be in any state
    command.main()


if __name__ == "__main__":
    main()
