"""When a process began: its id may be used again, but not both together."""

from __future__ import annotations

import subprocess
from pathlib import Path


def start_time(pid: int) -> str | None:
    """Start time of a process in the system's own unit; None if it does not run or is a zombie."""
    if Path("/proc/self/stat").exists():
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if state == "Z" else fields[18]  # field 22 of proc(5): clock ticks after boot
    command = ["ps", "-p", str(pid), "-o", "stat=,lstart="]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()
