"""Read-only SQL over the Parquet results of a store.

A statement runs in a DuckDB database of Arrow tables (`storage.results.files`) only: external access is off and the
configuration is locked before the first statement. What a person types runs in a process of its own
(`storage.results.sql_process`), since DuckDB cannot be interrupted within one expression, and its memory limit does not
hold there either: ``list_sort(range(200000000))`` took 51 s and 14 GB with 3 s and 2 GB allowed.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from storage.errors import InputError
from storage.results.files import ResultFiles, ResultTable
from storage.results.tables import SCHEMAS
from storage.results.views import BY_AUDIT, VIEWS

SECONDS = 60.0
MEMORY_LIMIT = "50%"
MOST_BYTES = 2 * 1024**3
"""The largest result, in Arrow's memory."""

MOST_THREADS = 8

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
_LOCK = ("SET TimeZone = 'UTC'", "SET enable_external_access = false", "SET lock_configuration = true")
_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def connect(store_uri: str, *, memory_limit: str = MEMORY_LIMIT) -> duckdb.DuckDBPyConnection:
    """A locked in-memory database with every results table and the views of `storage.results.views.VIEWS`.

    It opens at once: files are listed when a view is first read, and stay as listed for the life of the connection.

    Args:
        store_uri: The store of the audits.
        memory_limit: DuckDB's, such as ``4GB`` or a percentage of the machine's memory; nothing spills to disk.

    Raises:
        InputError: The store cannot be opened, or the limit is invalid.
    """
    return _connect(ResultFiles(store_uri), memory_limit)


def _connect(files: ResultFiles, memory_limit: str) -> duckdb.DuckDBPyConnection:
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    try:
        connection = duckdb.connect(":memory:", config={**_CONFIG, "memory_limit": memory_limit, "threads": threads})
    except duckdb.Error as error:
        raise InputError(f"memory limit {memory_limit!r}: {error}", "give it as 4GB or 50%") from error
    for table in SCHEMAS:
        connection.register(table, ResultTable(files, table))
    for view, query in VIEWS.items():
        table = view.removeprefix("latest_")
        if table in BY_AUDIT:  # as the query, without opening files of earlier audits
            connection.register(view, ResultTable(files, table, latest=True))
        else:
            connection.execute(f"CREATE TEMP VIEW {view} AS {query}")
    for statement in _LOCK:
        connection.execute(statement)
    return connection


class SqlSession:
    """Statements over one store; each sees the results at its start.

    Args:
        store_uri: The store of the audits.
        seconds: Time limit of a statement.
        memory_limit: See `connect`.

    Raises:
        InputError: As `connect`.
    """

    def __init__(self, store_uri: str, *, seconds: float = SECONDS, memory_limit: str = MEMORY_LIMIT) -> None:
        self._files = ResultFiles(store_uri)
        self._connection = _connect(self._files, memory_limit)
        self._seconds = seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def run(self, statement: str) -> pa.Table:
        """Runs one reading statement (SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN).

        An interrupt (Ctrl-C) stops it and is raised; the session stays usable.

        Raises:
            InputError: It is not exactly one reading statement, DuckDB refuses it, or it exceeds a limit.
            StoreError: The store cannot be read.
        """
        self._files.list_again()
        try:
            _demand_reading(statement)
            return self._result(statement)
        except duckdb.OutOfMemoryException as error:
            raise InputError("SQL: out of memory", "aggregate or LIMIT earlier, or raise the memory limit") from error
        except duckdb.Error as error:
            if self._files.error is not None:
                raise self._files.error from error
            raise InputError(f"SQL: {error}", self._remedy(statement)) from error

    def columns(self) -> dict[str, list[tuple[str, str]]]:
        """The columns of every view with their types, by the name of the view."""
        columns = self._connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal "
            "ORDER BY table_name, column_index"
        )
        views: dict[str, list[tuple[str, str]]] = {}
        for view, column, kind in columns.fetchall():
            views.setdefault(view, []).append((column, kind))
        return views

    def memory_limit(self) -> str:
        """The memory limit as DuckDB writes it, such as ``3.7 GiB``."""
        return str(self._connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0])

    def keywords(self) -> list[str]:
        """The keywords of DuckDB's SQL."""
        words = self._connection.execute("SELECT upper(keyword_name) FROM duckdb_keywords() ORDER BY 1")
        return [row[0] for row in words.fetchall()]

    def _result(self, statement: str) -> pa.Table:
        """Runs it in another thread, so that this one can wait for timeout and interrupt."""
        with ThreadPoolExecutor(1, "layerprint-sql") as pool:
            running = pool.submit(_fetch, self._connection, statement)
            try:
                return running.result(self._seconds)
            except TimeoutError as error:
                self._stop(running)
                raise InputError(
                    f"SQL: stopped after {self._seconds:g} s", "ask for less, or raise the timeout"
                ) from error
            except KeyboardInterrupt:
                self._stop(running)
                raise

    def _stop(self, running: Future[pa.Table]) -> None:
        while not running.done():  # an interrupt before DuckDB starts is lost
            self._files.stop()
            self._connection.interrupt()
            wait([running], timeout=0.05)

    def _remedy(self, statement: str) -> str:
        """The columns of the views in the statement, or the names of all views."""
        views = self.columns()
        named = [view for view in views if re.search(rf"\b{view}\b", statement, re.IGNORECASE)]
        if not named:
            return f"the views are {', '.join(views)}"
        return "; ".join(f"the columns are {view}({', '.join(name for name, _ in views[view])})" for view in named)


def run_sql(store_uri: str, statement: str, *, seconds: float = SECONDS, memory_limit: str = MEMORY_LIMIT) -> pa.Table:
    """Runs one reading statement; arguments and errors are those of `SqlSession`."""
    with SqlSession(store_uri, seconds=seconds, memory_limit=memory_limit) as session:
        return session.run(statement)


def _fetch(connection: duckdb.DuckDBPyConnection, statement: str) -> pa.Table:
    reader = connection.sql(statement).to_arrow_reader()
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > MOST_BYTES:
            raise InputError(f"SQL: the result is larger than {MOST_BYTES / 1024**3:g} GiB", "aggregate, or add LIMIT")
    return pa.Table.from_batches(batches, reader.schema)


def _demand_reading(statement: str) -> None:
    kinds = [parsed.type for parsed in duckdb.extract_statements(statement)]
    if len(kinds) != 1 or kinds[0] not in _READING:
        given = ", ".join(kind.name for kind in kinds) or "nothing"
        raise InputError(f"SQL: found {given}", "give exactly one SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN")
