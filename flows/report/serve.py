"""Serves a folder of reports to the browser: on loopback only, and only its pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from storage.errors import InputError

FLEET_FILE = "index.html"
LOOPBACK = "127.0.0.1"

_PAGE = re.compile(r"/([A-Za-z0-9_][A-Za-z0-9_.-]*\.html)?")


class _Pages(SimpleHTTPRequestHandler):
    """Serves the pages of the folder itself: no listing, no other folder, no symbolic link."""

    server_version = "layerprint"
    sys_version = ""

    def do_GET(self) -> None:
        if self._allowed():
            super().do_GET()

    def do_HEAD(self) -> None:
        if self._allowed():
            super().do_HEAD()

    def _allowed(self) -> bool:
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        page = _PAGE.fullmatch(self.path)
        if host not in (LOOPBACK, "localhost"):  # another site whose name resolves to this machine
            self.send_error(HTTPStatus.FORBIDDEN)
            return False
        path = Path(self.directory) / ((page and page[1]) or FLEET_FILE)
        if page is None or not path.is_file() or path.is_symlink():
            self.send_error(HTTPStatus.NOT_FOUND)
            return False
        return True

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: the terminal belongs to the user."""


def report_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server for the pages of a folder, not yet running.

    Args:
        folder: Folder with the pages.
        port: 0 = any free port.

    Raises:
        InputError: The folder has no pages, or the port is taken.
    """
    if not (folder / FLEET_FILE).is_file():
        raise InputError(
            f"{folder} holds no {FLEET_FILE}", "write the pages first (layerprint report SPEC), or give the spec"
        )
    try:
        return ThreadingHTTPServer((LOOPBACK, port), partial(_Pages, directory=str(folder.resolve())))
    except OSError as error:
        raise InputError(f"port {port}: {error.strerror}", "use another --port, or none") from error


def serve(server: ThreadingHTTPServer, ready: Callable[[str], None]) -> None:
    """Call `ready` with the address, then serve until Ctrl-C."""
    with server, suppress(KeyboardInterrupt):
        ready(f"http://{LOOPBACK}:{server.server_address[1]}/")
        server.serve_forever()
