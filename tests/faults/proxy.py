"""A proxy in front of a real S3 server that breaks chosen requests on the way.

The client signs for the proxy's own address and the proxy hands that Host header on, so signatures stay valid.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

_ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"


class Request(NamedTuple):
    """One request as it reached the proxy; ``number`` counts from 0 the requests for its method and path."""

    method: str
    path: str
    number: int
    access_key: str


@dataclass(frozen=True)
class Answer:
    """An error instead of the server's answer."""

    status: int
    code: str


@dataclass(frozen=True)
class Silence:
    """No answer for `seconds`, then a closed connection."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """The server's answer, whose body breaks off after `after` bytes; an error answer stays whole."""

    after: int


@dataclass(frozen=True)
class Trickle:
    """The server's answer, its body in pieces of ``piece`` bytes, a pause before each."""

    piece: int
    pause: float


Fault = Answer | Silence | Cut | Trickle
Rule = Callable[[Request], Fault | None]


def healthy(_request: Request) -> None:
    """The rule that breaks nothing."""


class FaultyProxy:
    """The proxy while its ``with`` block runs.

    Attributes:
        rule: Says what breaks; may be set at any time.
        broken: The requests that it broke.

    Args:
        upstream: URL of the real server.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.rule: Rule = healthy
        self.broken: list[Request] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def endpoint(self) -> str:
        """The URL that clients are given."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fault(self, method: str, path: str, authorization: str) -> Fault | None:
        """Count a request, and ask the rule."""
        access_key = authorization.partition("Credential=")[2].partition("/")[0]
        with self._lock:
            number = self._counts.get((method, path), 0)
            self._counts[method, path] = number + 1
            request = Request(method, path, number, access_key)
            fault = self.rule(request)
            if fault is not None:
                self.broken.append(request)
        return fault

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.fault(self.command, unquote(urlsplit(self.path).path), self.headers.get("Authorization", ""))
        match fault:
            case Answer(status, code):
                self._head(status, {"Content-Type": "application/xml"}, _ERROR.format(code=code).encode())
            case Silence(seconds):
                time.sleep(seconds)
                self.close_connection = True
            case _:
                self._forward(body, fault)

    def _forward(self, body: bytes, fault: Cut | Trickle | None) -> None:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = b"" if self.command == "HEAD" else answer.read()
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
            self._head(answer.status, headers, data, fault if answer.status < 300 else None)
        finally:
            upstream.close()

    def _head(
        self, status: int, headers: dict[str, str], data: bytes = b"", fault: Cut | Trickle | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        match fault:
            case Cut(after):
                self.wfile.write(data[:after])
                self._reset()
            case Trickle(piece, pause):
                for start in range(0, len(data), piece):
                    time.sleep(pause)
                    self.wfile.write(data[start : start + piece])
            case None:
                self.wfile.write(data)

    def _reset(self) -> None:
        """End the connection as a server does that dies: with RST, not with an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):  # the client gave up, which is what a fault is for
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: tests read `FaultyProxy.broken`."""
