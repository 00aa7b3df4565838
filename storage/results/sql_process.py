"""Statements in a process of their own, which is killed when it takes too long or is interrupted.

DuckDB is loaded by that process only; this module loads Arrow once there are rows.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from storage.errors import InputError, LayerprintError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS = 60.0
MEMORY_LIMIT = "50%"

_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Arrow's other pools reserve address space, which counts."""
_ROOT = Path(__file__).parents[2]
_ERRORS: dict[str, type[LayerprintError]] = {
    kind.__name__: kind for kind in (InputError, LayerprintError, StoreError, StoreUnavailableError)
}


class _Process(Protocol):
    """What is needed of `subprocess.Popen`."""

    returncode: int | Any

    def kill(self) -> None: ...

    def wait(self) -> int: ...


@dataclass
class _Fork:
    """A process that was forked; as `subprocess.Popen`."""

    pid: int
    returncode: int | None = None

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


@dataclass
class _Child:
    """A running process, its connection and what it wrote on stderr."""

    process: _Process
    connection: Connection
    stderr: IO[bytes]
    ready: bool = False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self.stderr.close()


class SqlProcess:
    """Statements over one store; each sees the results at its start.

    It is used as `storage.results.sql.SqlSession` is, once it has its store. The process starts at once, and
    another one for the first statement after one that was stopped.

    Args:
        seconds: Time limit of a statement.
        memory_limit: DuckDB's, such as ``4GB`` or a percentage of the machine's memory; on Linux the process as a whole
            may have a gigabyte more.
    """

    def __init__(self, *, seconds: float = SECONDS, memory_limit: str = MEMORY_LIMIT) -> None:
        self._memory_limit, self._seconds = memory_limit, seconds
        self._store_uri = ""
        self._child: _Child | None = self._start()

    def open(self, store_uri: str) -> Self:
        """Name the store of the audits, before anything else is asked."""
        self._store_uri = store_uri
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(self, statement: str) -> pa.Table:
        """Runs one reading statement (SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN).

        An interrupt (Ctrl-C) stops it at once and is raised; the session stays usable.

        Raises:
            InputError: It is not exactly one reading statement, DuckDB refuses it, or it exceeds a limit.
            StoreError: The store cannot be read.
        """
        child = self._ready()
        with ThreadPoolExecutor(1, "layerprint-sql") as pool:
            running = pool.submit(_asked, child, {"ask": "run", "statement": statement})
            try:
                return running.result(self._seconds)
            except TimeoutError as error:
                self._stop()
                raise InputError(
                    f"SQL: stopped after {self._seconds:g} s", "ask for less, or raise the timeout"
                ) from error
            except (EOFError, OSError) as error:
                raise self._died("ask for less, or raise the memory limit") from error
            except KeyboardInterrupt:
                self._stop()
                raise

    def columns(self) -> dict[str, list[tuple[str, str]]]:
        """The columns of every view with their types, by the name of the view."""
        columns = self._facts("columns")
        return {view: [(name, kind) for name, kind in pairs] for view, pairs in columns.items()}

    def keywords(self) -> list[str]:
        """The keywords of DuckDB's SQL."""
        return list(self._facts("keywords"))

    def _facts(self, name: str) -> Any:
        try:
            return _asked(self._ready(), {"ask": name})
        except (EOFError, OSError) as error:
            raise self._died("run the command again") from error

    def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the child)
        with theirs:
            process = _fork(ours, theirs, stderr) if _may_fork() else _spawn(theirs, stderr)
        return _Child(process, Connection(ours.detach()), stderr)

    def _ready(self) -> _Child:
        """The process, once it has opened the store."""
        child = self._child = self._child or self._start()
        if not child.ready:
            try:
                _asked(child, {"ask": "open", "store": self._store_uri, "memory": self._memory_limit})
            except (EOFError, OSError) as error:
                raise self._died("run `layerprint doctor`") from error
            except BaseException:
                self._stop()
                raise
            child.ready = True
        return child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child:
            child.close()

    def _died(self, remedy: str) -> LayerprintError:
        """Why the process ended by itself."""
        child, self._child = self._child, None
        if child is None:
            return LayerprintError("SQL: its process was stopped", remedy)
        child.process.wait()
        child.stderr.seek(0)
        last = child.stderr.read()[-2000:].decode(errors="replace").strip().rpartition("\n")[2]
        code = child.process.returncode
        child.close()
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code < 0 or "alloc" in last or "Memory" in last:
            return InputError(f"SQL: out of memory ({last or ended})", remedy)
        return LayerprintError(f"SQL: its process ended with {ended}: {last}", remedy)


def _may_fork() -> bool:
    """Whether this process may be copied: it has one thread, and no library with threads of its own.

    That saves the start of an interpreter, a quarter of a second.
    """
    heavy = {"duckdb", "numpy", "pyarrow"} & set(sys.modules)
    return sys.platform == "linux" and not heavy and threading.active_count() == 1


def _fork(ours: socket.socket, theirs: socket.socket, stderr: IO[bytes]) -> _Process:
    pid = os.fork()
    if pid:
        return _Fork(pid)
    try:
        os.setsid()  # Ctrl-C is for the other process
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        ours.close()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for source, target in ((nowhere, 0), (nowhere, 1), (stderr.fileno(), 2)):
            os.dup2(source, target)
        os.environ.update(_ENVIRONMENT)
        from storage.results.sql_child import main

        main(theirs.fileno())
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode(errors="replace"))
        os._exit(1)
    os._exit(0)


def _spawn(theirs: socket.socket, stderr: IO[bytes]) -> _Process:
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "storage.results.sql_child", str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
        env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
    )


class _Source(io.RawIOBase):
    """The messages of a connection as a stream, up to an empty one."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._rest = connection, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._connection.recv_bytes())
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _asked(child: _Child, request: dict[str, str]) -> Any:
    """The answer to a request; rows as a table."""
    child.connection.send_bytes(json.dumps(request).encode())
    answer = _received(child)
    if "rows" not in answer:
        return next(iter(answer.values()))
    import pyarrow as pa

    source = _Source(child.connection)
    rows = pa.ipc.open_stream(io.BufferedReader(source, 2**20)).read_all()
    while source.readinto(bytearray(2**16)):  # what may follow the end of the stream
        continue
    return rows


def _received(child: _Child) -> dict[str, Any]:
    """An answer.

    Raises:
        LayerprintError: The error that it carries.
    """
    answer: dict[str, Any] = json.loads(child.connection.recv_bytes())
    if "error" in answer:
        raise _ERRORS.get(answer["error"], LayerprintError)(answer["found"], answer["remedy"])
    return answer
