"""Statements that DuckDB cannot stop by itself are stopped, and the next one runs."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import InputError, LayerprintError
from storage.objects.local import LocalStore
from storage.results.sql import SqlSession
from storage.results.sql_process import SqlProcess
from storage.results.tables import write_result
from tests.paths import ROOT
from tests.processes import alive, descendants, kill, name_of, wait_until
from tests.storage.results.test_tables import row

pytestmark = pytest.mark.usefixtures("processes")

ENDLESS = {
    "one long string": "SELECT max(length(repeat('x', 100000000 + i))) FROM range(1000) t(i)",
    "one expression": "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))",
    "a cross join": "SELECT count(*) FROM range(10000000000) a, range(1000) b WHERE a.range % 7 = b.range",
    "a recursion": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """A store with the scores of one audit."""
    made = LocalStore(tmp_path_factory.mktemp("store"))
    rows = [row("scores", audit_id="a", release="glow", version="1", layer=i, a_hat=0.5) for i in range(3)]
    write_result(made, "scores", "a", rows)
    return made


@pytest.fixture(scope="module")
def session(store: LocalStore) -> Iterator[SqlProcess]:
    """One process for all tests, as long as none of them has to be stopped."""
    with SqlProcess(seconds=2, memory_limit="1GB").open(store.uri) as opened:
        yield opened


@pytest.mark.parametrize(
    "statement",
    ["FROM scores ORDER BY layer", "SELECT 'a'::ENUM('a', 'b') AS e, [1, NULL] AS l", "FROM audits", "SHOW TABLES"],
)
def test_the_rows_are_those_of_a_session(store: LocalStore, session: SqlProcess, statement: str) -> None:
    with SqlSession(store.uri) as plain:
        assert session.run(statement).equals(plain.run(statement))
        assert session.columns() == plain.columns()
        assert session.keywords() == plain.keywords()


@pytest.mark.parametrize("statement", ["SELECT nope FROM scores", "SELECT 1; SELECT 2", "DROP VIEW scores", ""])
def test_the_errors_are_those_of_a_session(store: LocalStore, session: SqlProcess, statement: str) -> None:
    with SqlSession(store.uri) as plain, pytest.raises(InputError) as expected:
        plain.run(statement)
    with pytest.raises(InputError) as found:
        session.run(statement)
    assert found.value.args == expected.value.args


@pytest.mark.parametrize("case", ENDLESS)
def test_it_ends_in_time_and_the_next_statement_runs(session: SqlProcess, case: str) -> None:
    assert session.run("SELECT 1 AS one")["one"].to_pylist() == [1]
    began = time.monotonic()
    with pytest.raises(InputError, match="stopped after 2 s"):
        session.run(ENDLESS[case])
    assert time.monotonic() - began < 4
    assert session.run("SELECT count(*) AS n FROM scores")["n"].to_pylist() == [3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_memory_that_duckdb_does_not_count_is_limited_too(store: LocalStore) -> None:
    with SqlProcess(seconds=60, memory_limit="100MB").open(store.uri) as small:
        with pytest.raises(InputError, match="memory"):
            small.run("SELECT list_sort(range(400000000))[1]")  # 3.2 GB; without the limit it is granted
        assert small.run("SELECT 1 AS one")["one"].to_pylist() == [1]


def test_a_wrong_limit_is_named(store: LocalStore) -> None:
    with SqlProcess(memory_limit="much").open(store.uri) as wrong, pytest.raises(InputError, match="'much'"):
        wrong.run("SELECT 1")


def test_a_process_that_is_killed_is_replaced(store: LocalStore) -> None:
    with SqlProcess(seconds=60).open(store.uri) as session:
        assert session.run("SELECT 1 AS one").num_rows == 1
        child = [pid for pid in descendants(os.getpid()) if "sql_child" in name_of(pid)][-1]
        threading.Timer(1, kill, [[child]]).start()
        with pytest.raises(LayerprintError, match="signal 9"):
            session.run(ENDLESS["a recursion"])
        assert session.run("SELECT 1 AS one").num_rows == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_command_and_its_process_end_at_once(store: LocalStore, number: signal.Signals) -> None:
    """Ctrl-C in a long expression ends the command; its process ends with it, also when it is killed."""
    command = [sys.executable, "-m", "flows.cli.main", "sql", "--store", store.uri, ENDLESS["one expression"]]
    usual = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # off in a shell's background
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=usual) as running:
        wait_until(lambda: any(_seconds_of(pid) > 2 for pid in descendants(running.pid)[1:]), 60, "it computes")
        child = descendants(running.pid)[1]
        began = time.monotonic()
        running.send_signal(number)
        error = running.communicate(timeout=10)[1]
        assert time.monotonic() - began < 3
        assert running.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert "Traceback" not in error
    wait_until(lambda: not alive(child), 10, "its process ends")


def _seconds_of(pid: int) -> float:
    """The time that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
