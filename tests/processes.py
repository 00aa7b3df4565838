"""Real processes for the tests of deaths: what belongs to them, and how they end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def descendants(process: int) -> list[int]:
    """The process and all below it."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            below.setdefault(int((folder / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                int(folder.name)
            )
    found = [process]
    for one in found:
        found += below.get(one, [])
    return found


def name_of(process: int) -> str:
    """Its command line; empty when it has ended."""
    try:
        return (Path("/proc") / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def kill(processes: list[int]) -> None:
    """SIGKILL."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def alive(process: int) -> bool:
    """Whether a process of this number is at work (one that ended and waits for its parent is not)."""
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(fact: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something; fails with what it was.

    Raises:
        AssertionError: it did not come in time.
    """
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.02)
