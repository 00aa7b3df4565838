"""A Prefect server for one command, which ends with the command in any case.

Prefect would start one with the first flow, wait for it, and leave it running when the command is killed. This one
starts while the command is still importing, and watches a pipe that breaks when the command ends.

    python -m flows.orchestration.local_server DESCRIPTOR [schedules]

DESCRIPTOR is the file descriptor of a listening socket; standard input is the pipe.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import IO

from flows.orchestration.settings import healthy_within, local_urls
from storage.errors import InputError, StageError

START_TIMEOUT_S = 120.0
"""The longest wait for a server whose process lives; Prefect's own limit of 20 s is too short on a busy machine."""

STOP_TIMEOUT_S = 5.0
_LOG_BYTES = 600


class LocalServer:
    """The server's process, as the command sees it.

    Args:
        port: Port on loopback; 0 = any free one.
        schedules: Whether it also starts scheduled runs and serves Prefect's UI.

    Attributes:
        url: Its API; accepts connections at once and answers them when the server has started.

    Raises:
        InputError: the port is taken.
    """

    def __init__(self, port: int = 0, *, schedules: bool = False) -> None:
        with _listening(port) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "flows.orchestration.local_server",
                    str(listening.fileno()),
                    *["schedules"] * schedules,
                ],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C ends the command first, then the server
            )

    def wait(self, seconds: float) -> None:
        """Wait until it answers.

        Raises:
            StageError: it does not.
        """
        if not healthy_within(seconds, self.url, lambda: self._process.poll() is None):
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_BYTES))
            log = " ".join(self._log.read().decode(errors="replace").split())
            raise StageError(
                f"no Prefect server could be started ({log or 'it printed nothing'})",
                "set PREFECT_API_URL to a server of yours, or see what `prefect server start` prints",
            )

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


@contextmanager
def prefect_server(meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Within this block Prefect has a server: the configured one, else one that ends with the block.

    Args:
        meanwhile: Runs while the server starts, which takes seconds; for imports that do too.

    Raises:
        StageError: it could not be started.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
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
        StageError: It could not be started.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
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
    """Within this block Prefect uses this server."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )

    server.wait(max(START_TIMEOUT_S, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()))
    # Heartbeats let a server find flow runs that died; this one ends with ours, and each costs half a second.
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise InputError(
            f"no Prefect server can be started on port {port}: {error.strerror}",
            "set PREFECT_SERVER_API_PORT to a free port, or PREFECT_API_URL to a server of yours",
        ) from error


def serve(descriptor: int, schedules: bool) -> None:
    """Run the server until standard input ends."""
    threading.Thread(target=_end_with_the_command, daemon=True).start()

    import uvicorn
    from prefect.server.api.server import create_app

    listening = socket.socket(fileno=descriptor)
    app = create_app(ephemeral=not schedules, final=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=[listening])


def _end_with_the_command() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:] == ["schedules"])
