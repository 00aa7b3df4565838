"""A TCP proxy in front of the real S3 server that writes down what was asked."""

from __future__ import annotations

import re
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class CountingProxy:
    """Hands bytes on in both directions and keeps those of the client.

    Args:
        endpoint: The server's URL.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._server = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._heard: list[bytearray] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def take(self) -> list[tuple[str, str]]:
        """Method and path of every request since the last call."""
        lines = [line for heard in self._heard for line in re.findall(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n", bytes(heard))]
        for heard in self._heard:
            heard.clear()
        return [(method.decode(), path.decode()) for method, path in lines]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._server)
            heard = bytearray()
            self._heard.append(heard)
            threading.Thread(target=_hand_on, args=(client, server, heard), daemon=True).start()
            threading.Thread(target=_hand_on, args=(server, client, bytearray()), daemon=True).start()


def _hand_on(source: socket.socket, target: socket.socket, heard: bytearray) -> None:
    with source, target:
        try:
            while data := source.recv(65536):
                heard += data
                target.sendall(data)
        except OSError:  # the other direction has ended
            return
