"""A Prefect server of a command's own: it is there while the command works and ends with it, however that ends.

Prefect would start one by itself with the first flow, wait for it, and leave it running when the command is killed.
This one starts while the command still imports, and watches a pipe that breaks with the command.

    python -m flows.orchestration.local_server DESCRIPTOR [schedules]

DESCRIPTOR is that of a listening socket; standard input is the pipe.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import IO

from flows.orchestration.settings import _own
from storage.errors import InputError, StageError

STOP_TIMEOUT_S = 5.0
_LOG_BYTES = 600


class OwnServer:
    """The server's process, seen from the command.

    Args:
        port: Where it listens on loopback; 0: on a free one.
        schedules: Whether it also starts what is scheduled, and shows Prefect's UI.

    Attributes:
        url: Its API, which takes connections at once and answers them when it has started.

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
                start_new_session=True,  # Ctrl-C ends the command first, the server after it
            )

    def wait(self, seconds: float) -> None:
        """Wait until it answers.

        Raises:
            StageError: it does not.
        """
        from flows.orchestration.settings import healthy_within

        if not healthy_within(seconds, self.url, lambda: self._process.poll() is None):
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_BYTES))
            said = " ".join(self._log.read().decode(errors="replace").split())
            raise StageError(
                f"no Prefect server could be started ({said or 'it says nothing'})",
                "set PREFECT_API_URL to a server of yours, or see what `prefect server start` says",
            )

    def stop(self) -> None:
        """End it: told by its pipe, killed when that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextmanager
def prefect_server() -> Iterator[None]:
    """Within this block Prefect has a server: the one that is configured, else one of our own.

    What the block's beginning takes is the time to import the flows: the server starts meanwhile.

    Raises:
        StageError: it could not be started.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        yield
        return
    server = OwnServer()
    _own.append(server.url)
    with ExitStack() as stack:
        stack.callback(_own.remove, server.url)
        stack.callback(server.stop)
        stack.enter_context(_used(server))
        yield


@contextmanager
def process_server() -> Iterator[None]:
    """As `prefect_server`, but our own server stays for later blocks and ends with the process.

    Prefect's background services keep the address of the first server that a process used: a second one fails.

    Raises:
        StageError: it could not be started.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        yield
        return
    with _used(_process_server()):
        yield


@cache
def _process_server() -> OwnServer:
    server = OwnServer()
    _own.append(server.url)
    atexit.register(server.stop)
    return server


@contextmanager
def _used(server: OwnServer) -> Iterator[None]:
    """Within this block Prefect uses this server."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )

    import flows.audit  # noqa: F401 (takes seconds, as the server's start does)

    server.wait(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())
    # Heartbeats tell a server which flow runs have died; this one dies with ours, and each costs half a second.
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
    """Be that server, until standard input ends."""
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
