"""The process that runs the statements of `storage.results.sql_process`, and may be killed at any time.

``python -m storage.results.sql_child FD``: requests come from a connection of `multiprocessing` with this file
descriptor, as JSON, the first one opens a store; answers go there, as JSON, rows after it as an Arrow stream.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import TIMEOUT_MAX, Thread
from typing import Any

import pyarrow as pa

from storage.errors import LayerprintError
from storage.results.sql import SqlSession

SPARE_BYTES = 2**30
"""Memory for the interpreter, the libraries and the rows that are read, beside DuckDB's own."""

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_CHUNK = 2**20


class _Sink(io.RawIOBase):
    """What is written here goes to the connection; an empty message ends it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._connection.send_bytes(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._connection.send_bytes(b"")
        super().close()


def main(number: int) -> None:
    """Open a store, then answer requests until the other side is gone.

    Args:
        number: The file descriptor of the connection.
    """
    connection = Connection(number)
    requests: SimpleQueue[dict[str, str]] = SimpleQueue()
    Thread(target=_receive, args=(connection, requests), daemon=True).start()
    asked = requests.get()
    try:
        session = SqlSession(asked["store"], seconds=TIMEOUT_MAX, memory_limit=asked["memory"])
        _limit_memory(session.memory_limit())
    except LayerprintError as error:
        _send(connection, _error(error))
        return
    _send(connection, {"ready": True})
    while True:
        _answer(connection, session, requests.get())


def _receive(connection: Connection, requests: SimpleQueue[dict[str, str]]) -> None:
    """Hand requests on; end this process, whatever it does, when the other side is gone."""
    try:
        while True:
            requests.put(json.loads(connection.recv_bytes()))
    except (EOFError, OSError):
        os._exit(0)


def _answer(connection: Connection, session: SqlSession, request: dict[str, str]) -> None:
    match request["ask"]:
        case "columns":
            _send(connection, {"columns": session.columns()})
        case "keywords":
            _send(connection, {"keywords": session.keywords()})
        case _:
            try:
                rows = session.run(request["statement"])
            except LayerprintError as error:
                _send(connection, _error(error))
            except (MemoryError, pa.ArrowException) as error:
                _send(connection, {"error": "InputError", "found": f"SQL: {error}", "remedy": "ask for less"})
            else:
                _send(connection, {"rows": rows.num_rows})
                with io.BufferedWriter(_Sink(connection), _CHUNK) as sink, pa.ipc.new_stream(sink, rows.schema) as out:
                    out.write_table(rows)


def _send(connection: Connection, answer: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(answer).encode())


def _error(error: LayerprintError) -> dict[str, str]:
    return {"error": type(error).__name__, "found": error.found, "remedy": error.remedy}


def _limit_memory(limit: str) -> None:
    """Let this process have as much as DuckDB may use, and a gigabyte; Linux only."""
    amount = re.fullmatch(r"([0-9.]+) (\w+)", limit)
    if sys.platform != "linux" or amount is None:
        return
    in_use = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * resource.getpagesize()
    most = in_use + SPARE_BYTES + int(float(amount[1]) * _UNITS[amount[2]])
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main(int(sys.argv[1]))
