"""Whether a process is gone; one that only waits to be collected by its parent is."""

from __future__ import annotations

import time
from pathlib import Path


def gone_now(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def gone(pid: int) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end and not gone_now(pid):
        time.sleep(0.02)
    return gone_now(pid)
