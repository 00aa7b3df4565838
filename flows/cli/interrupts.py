"""Signals that end a command: Ctrl-C (SIGINT), SIGTERM (systemd, Kubernetes, cron) and SIGHUP (a closed terminal).

They are raised as `KeyboardInterrupt`, so that whatever a command started ends with it; its exit code is 128 and the
number of the signal. A command that does not end is ended by a second signal.
"""

from __future__ import annotations

import os
import signal
import time

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 3.0
"""A second signal within this time is the same wish, sent twice."""

_received: list[tuple[signal.Signals, float]] = []


def watch() -> None:
    """Have the signals end this command; one that the caller switched off (nohup) stays so."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def unwatch() -> None:
    """Nothing is left to do: a signal ends the process at once."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def received() -> signal.Signals | None:
    """The first signal that ends this command."""
    return _received[0][0] if _received else None


def exit_code(number: signal.Signals) -> int:
    """The exit code of a command that a signal ends.

    >>> exit_code(signal.SIGTERM)
    143
    """
    return 128 + number


def sentence(number: signal.Signals) -> str:
    """What the user reads.

    >>> sentence(signal.SIGTERM)
    'interrupted (SIGTERM); finished work is kept: run the same command again to continue'
    """
    by = "" if number is signal.SIGINT else f" ({number.name})"
    return f"interrupted{by}; finished work is kept: run the same command again to continue"


def _interrupt(number: int, _frame: object) -> None:
    now = time.monotonic()
    _received.append((signal.Signals(number), now))
    first, since = _received[0]
    if len(_received) == 1:
        raise KeyboardInterrupt
    if now - since > PATIENCE_S:
        os._exit(exit_code(first))
