"""Processes that outlive the command that started them, tracked by pid files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from flows.orchestration.process import start_time

STOP_TIMEOUT_S = 10.0
_LOG_LINES = 12


class Daemon:
    """A background process with a pid file and a log.

    The pid file holds the process id and the start time of the process, so that a later process with the same id is
    never mistaken for it and killed.

    Args:
        folder: Holds ``NAME.pid`` and ``NAME.log``.
        name: Name of the process in that folder.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        pid, began = self._recorded()
        return pid if pid is not None and start_time(pid) == began else None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it in its own session, so that closing the terminal does not end it.

        Raises:
            OSError: the command cannot be run.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env=dict(environment),
                start_new_session=True,
            )
        self._pid_file.write_text(f"{process.pid} {start_time(process.pid)}\n")
        process.returncode = 0  # nobody waits for it, and Popen would warn about that

    def stop(self) -> bool:
        """Terminate it and its children; kill them if that takes too long.

        Returns:
            Whether it was running.
        """
        pid, began = self._recorded()
        ran = pid is not None and start_time(pid) == began
        if pid is not None and ran:
            os.kill(pid, signal.SIGTERM)
            self._wait(pid)
        if pid is not None and start_time(pid) in (None, began):  # its id is not reused while its group has members
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)
        return ran

    def log_end(self) -> str:
        """The last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-_LOG_LINES:])

    def _recorded(self) -> tuple[int | None, str]:
        with suppress(FileNotFoundError, ValueError):
            pid, began = self._pid_file.read_text().split(maxsplit=1)
            return int(pid), began.strip()
        return None, ""

    def _wait(self, pid: int) -> None:
        end = time.monotonic() + STOP_TIMEOUT_S
        while self.pid == pid and time.monotonic() < end:
            with suppress(ChildProcessError):  # only a child of this process leaves a zombie to wait for
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
