"""The command ``layerprint``, from its first moment: the signals that end it are watched before anything is imported."""

from __future__ import annotations

import os
import sys

from flows.cli import interrupts


def main() -> None:
    """Entry point of the command ``layerprint``."""
    interrupts.watch()
    sys.exit(_run())


def _run() -> int:
    try:
        from flows.cli.main import run

        _print_anything()
        return run(sys.argv[1:])
    except BaseException as error:
        number = interrupts.received()
        if number is None or isinstance(error, SystemExit):
            raise
        sys.stderr.write(interrupts.sentence(number) + "\n")
        sys.stderr.flush()
        os._exit(interrupts.exit_code(number))  # it came during the imports, which may be in any state
    finally:
        interrupts.unwatch()


def _print_anything() -> None:
    """Print a replacement for characters that the encoding of the output lacks."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
