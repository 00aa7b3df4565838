"""Ends what uses a folder, and removes the folder, once the command that owns it has ended: even by SIGKILL.

    python -I -S watcher.py FOLDER COMMAND        (COMMAND is a process id; standard input is a pipe from that command)

Ray's agents look for a lost head for a minute. They are found by the logs that they write in the session's folder: the
raylet starts them, and Ray changes their titles. Only the standard library is imported, so that this stays small.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

PATIENCE_S = 5.0
_PROGRAMS = ("raylet", "gcs_server")


def users_of(folder: str) -> list[int]:
    """This user's Python and Ray processes that have a file below a folder open; none where there is no ``/proc``."""
    here = os.path.realpath(folder) + os.sep
    return [pid for pid in _processes() if _is_ours(pid) and any(path.startswith(here) for path in _open_files(pid))]


def end(folder: str, command: int) -> None:
    """Kill what uses a folder, except the command itself, then remove the folder."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        users = [pid for pid in users_of(folder) if pid not in (command, os.getpid())]
        for pid in users:
            _kill(pid)
        shutil.rmtree(folder, ignore_errors=True)
        if not users and not os.path.lexists(folder):
            return
        time.sleep(0.05)


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def _is_ours(pid: int) -> bool:
    """Whether it is this user's, and a program that Ray starts: not a viewer of its logs, for example."""
    try:
        program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid() and (
            program == os.path.realpath(sys.executable) or os.path.basename(program) in _PROGRAMS
        )
    except OSError:  # it has ended, or is another user's
        return False


def _open_files(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [path for name in names if (path := _target(f"{folder}/{name}"))]


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed in the meantime
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it was faster
        return


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the command's end is what counts
    sys.stdin.buffer.read()
    end(sys.argv[1], int(sys.argv[2]))
