"""A process that ends with the one that started it, even if that is killed: ``python tied_process.py COMMAND …``.

This file runs as a small process between the two. Its standard input is a pipe from the starter: when it breaks, or on
SIGTERM, the command is terminated, and killed if that takes too long.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

STOP_TIMEOUT_S = 4.0
_KILL_TIMEOUT_S = STOP_TIMEOUT_S + 6.0


def start_tied(
    command: Sequence[str], *, log: IO[bytes], folder: Path, environment: Mapping[str, str], descriptors: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start a command that ends with this process.

    Args:
        command: The program and its arguments.
        log: Receives its output.
        folder: Its working directory. What it creates is readable by its owner alone.
        environment: Its environment.
        descriptors: Open files that it inherits.

    Returns:
        The process in between; it ends when the command ends, with its exit code.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        pass_fds=descriptors,
        umask=0o077,
        start_new_session=True,  # Ctrl-C ends the work first, the command after it
    )


def stop_tied(process: subprocess.Popen[bytes]) -> None:
    """End a command that `start_tied` started."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_KILL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode < 0:  # it was killed itself, and may have left the command behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _run(command: Sequence[str]) -> int:
    """Run the command until it ends, standard input ends or SIGTERM comes; return its exit code."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)
    while child.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready or signal.SIGTERM in os.read(woken, 64):
            child.terminate()
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
    return child.wait()


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
