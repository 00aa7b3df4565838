"""A Prefect server for one command, which ends with the command in any case.

Prefect would start one with the first flow, wait for it, and leave it running when the command is killed. This one
starts while the command is still importing, and watches a pipe that breaks when the command ends. Its database is its
own and ends with it: no audit depends on what is in ``~/.prefect``.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from flows.orchestration import prefect_process, template
from flows.orchestration.environment import lean_environment
from flows.orchestration.health import is_healthy, local_urls
from flows.orchestration.own_servers import used
from flows.orchestration.prefect_process import HOST
from storage.errors import InputError, StageError

START_LIMIT_S, STALLED_S, NOTICE_S = 900.0, 60.0, 15.0
"""Seconds for the start of a server: in all, without any work of its process, and until the first notice."""

STOP_TIMEOUT_S = 5.0
_LOG_BYTES, _REASON_LENGTH = 20_000, 400
_LAST_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit)\b.*$", re.MULTILINE)

_log = logging.getLogger(__name__)

Say = Callable[[str], None]


class LocalServer:
    """The server's process, as the command sees it.

    Args:
        port: Port on loopback; 0 = any free one.
        schedules: Whether it also starts scheduled runs and serves Prefect's UI, with the user's Prefect database.
        say: Prints one line about a slow start.

    Attributes:
        url: Its API; accepts connections at once and answers them when the server has started.
        key: What it asks for, ``user:password``.

    Raises:
        InputError: the port is taken.
    """

    def __init__(self, port: int = 0, *, schedules: bool = False, say: Say = _log.warning) -> None:
        self._say = say
        with _listening(port) as listening:
            port = listening.getsockname()[1]
            self.url = f"http://{HOST}:{port}/api"
            self.key = (os.environ.get(prefect_process.KEY) if schedules else None) or prefect_process.new_key()
            self.home = None if schedules else Path(tempfile.mkdtemp(prefix="layerprint-prefect-"))  # of mode 0700
            self._filled = self.home is None or template.fill(self.home)
            self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
            words = ["schedules"] if self.home is None else [str(self.home)]
            command = [sys.executable, "-P", "-m", "flows.orchestration.prefect_process", "socket"]
            self._process = subprocess.Popen(
                [*command, str(listening.fileno()), *words],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                cwd=self.home,  # Prefect reads settings from files in the working folder
                env=self._environment(port),
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C ends the command first, then the server
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> None:
        """Wait until it answers, as long as it makes progress.

        Raises:
            StageError: it does not.
        """
        began = worked = noticed = time.monotonic()
        work = -1
        while not is_healthy(self.url):
            now = time.monotonic()
            if work != (work := self._work()):
                worked = now
            if self._process.poll() is not None or now - worked > STALLED_S or now - began > START_LIMIT_S:
                raise self._not_started(now - began)
            if now - noticed > NOTICE_S:
                self._say(f"waits for its Prefect server to start, {now - began:.0f} s so far")
                noticed = now
            time.sleep(0.1)
        if self.home is not None and not self._filled:
            template.keep(self.home)

    def stop(self) -> None:
        """End the server by closing its pipe; kill it when that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)

    def _environment(self, port: int) -> dict[str, str]:
        own = prefect_process.settings(port, self.key)
        if self.home is not None:
            return {**lean_environment("PREFECT_LOGGING_"), **own, "PREFECT_HOME": str(self.home)}
        users = lean_environment("PREFECT_")
        for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
            users.pop(name, None)
        return {**own, **users, prefect_process.KEY: self.key}

    def _work(self) -> int:
        """A number that changes while the server makes progress: its processor time, and the size of its log."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # no /proc on this system
            fields = ["0"] * 13
        return int(fields[11]) + int(fields[12]) + self._log.seek(0, os.SEEK_END)

    def _not_started(self, seconds: float) -> StageError:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_BYTES))
        log = self._log.read().decode(errors="replace")
        reason = (_LAST_ERROR.findall(log) or [log])[-1]
        said = " ".join(reason.split())[:_REASON_LENGTH] or f"it printed nothing in {seconds:.0f} s"
        remedy = "set PREFECT_API_URL to a server of yours, or see what `prefect server start` prints"
        if self.home is None:
            remedy = (
                "its database is prefect.db in PREFECT_HOME (~/.prefect): move a broken one away, or set PREFECT_HOME "
                "to another folder"
            )
        return StageError(f"no Prefect server could be started ({said})", remedy)


@contextmanager
def prefect_server(meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Within this block Prefect has a server: the configured one, else one that ends with the block.

    Args:
        meanwhile: Runs while the server starts, which takes seconds; for imports that do too.

    Raises:
        InputError: the user's Prefect profiles cannot be read.
        StageError: it could not be started.
    """
    if _is_configured():
        meanwhile()
        yield
        return
    server = LocalServer()
    local_urls.add(server.url)
    with ExitStack() as stack:
        stack.callback(local_urls.remove, server.url)
        stack.callback(server.stop)
        meanwhile()
        stack.enter_context(_used(server))
        yield


@contextmanager
def process_server(meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """As `prefect_server`, but our own server stays for later blocks and ends with the process.

    Prefect's background services keep the address of the first server that a process used: a second one fails.

    Args:
        meanwhile: Called while the server starts.

    Raises:
        InputError: The user's Prefect profiles cannot be read.
        StageError: It could not be started.
    """
    if _is_configured():
        meanwhile()
        yield
        return
    server = _process_server()
    meanwhile()
    with _used(server):
        yield


@cache
def _process_server() -> LocalServer:
    server = LocalServer()
    local_urls.add(server.url)
    atexit.register(server.stop)
    return server


@contextmanager
def _used(server: LocalServer) -> Iterator[None]:
    """Within this block Prefect uses this server, and keeps its files where the server does."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings

    server.wait()
    # Heartbeats let a server find flow runs that died; this one ends with ours, and each costs half a second.
    ours = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_HOME: server.home}
    with used(server.url, server.key), temporary_settings(ours):
        yield


def _is_configured() -> bool:
    """Whether the environment or the active profile names a Prefect server."""
    check_profiles()
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def check_profiles() -> None:
    """Check the user's Prefect profiles, which Prefect reads when it is imported.

    Raises:
        InputError: they cannot be read.
    """
    home = Path(os.environ.get("PREFECT_HOME") or os.path.expanduser("~/.prefect"))
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: Prefect's profiles cannot be read ({' '.join(str(error).split())})",
            "correct or remove the file, or set PREFECT_PROFILES_PATH to another one",
        ) from error


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port), backlog=128)
    except OSError as error:
        raise InputError(
            f"no Prefect server can be started on port {port}: {error.strerror}",
            "set PREFECT_SERVER_API_PORT to a free port, or PREFECT_API_URL to a server of yours",
        ) from error
