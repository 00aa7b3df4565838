"""The process of a Prefect server of ours: on loopback, behind a key, for requests to its own address only.

    python -m flows.orchestration.prefect_process socket DESCRIPTOR [schedules] [HOME]
    python -m flows.orchestration.prefect_process port PORT schedules

With a socket that a command listens on, standard input is a pipe from that command: the server ends when it breaks, and
removes HOME, if given. The key comes in PREFECT_SERVER_API_AUTH_STRING.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

HOST = "127.0.0.1"
KEY = "PREFECT_SERVER_API_AUTH_STRING"
STOP_TIMEOUT_S = 5.0


def new_key() -> str:
    """A random key, as Prefect's UI and clients take it."""
    return f"layerprint:{secrets.token_hex(32)}"


def settings(port: int, key: str) -> dict[str, str]:
    """The settings of a server: its key, and which web pages may talk to it, namely its own."""
    origin = f"http://{HOST}:{port}"
    return {
        KEY: key,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
        "PREFECT_SERVER_UI_API_URL": f"{origin}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def serve(listening: socket.socket, schedules: bool) -> None:
    """Run the server.

    Requests with another host in their header are refused: a page of another site could otherwise reach it by a name
    of its own that resolves to loopback.
    """
    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if not os.environ.get(KEY):
        sys.exit(f"{KEY} is not set")
    app = TrustedHostMiddleware(create_app(ephemeral=not schedules, final=True), [HOST, "localhost"])
    uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=[listening])


def _end_with_the_command(home: Path | None) -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    _remove(home)
    os._exit(1)


def _remove(home: Path | None) -> None:
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)


def main(kind: str, number: str, *rest: str) -> None:
    """Serve until the command ends, or SIGTERM."""
    os.umask(0o077)
    schedules = "schedules" in rest
    if kind == "port":
        serve(socket.create_server((HOST, int(number)), backlog=128), schedules)
        return
    home = next((Path(word) for word in rest if word != "schedules"), None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again when it has ended
    threading.Thread(target=_end_with_the_command, args=(home,), daemon=True).start()
    try:
        serve(socket.socket(fileno=int(number)), schedules)
    finally:
        _remove(home)


if __name__ == "__main__":
    main(*sys.argv[1:])
