"""`layerprint sql` as a user types it: one statement, a file of statements, and the shell in a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from flows.cli.main import run
from flows.cli.sql.shell import SqlCompleter
from storage.objects.open import open_store
from storage.results.tables import SCHEMAS
from tests.paths import ROOT
from tests.storage.fleet import fleet, write_fleet

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small synthetic store."""
    place = open_store(str(tmp_path_factory.mktemp("fleet")))
    write_fleet(place, fleet(releases=3))
    return place.uri


def piped(store: str, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli.main", "sql", "--store", store, *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.usefixtures("processes")
def test_one_statement_in_every_format(store: str, tmp_path: Path, capsys: Capture) -> None:
    statement = "SELECT release, version FROM releases ORDER BY ALL LIMIT 2"
    assert run(["sql", "--store", store, statement]) == 0
    assert capsys.readouterr().out.split() == ["release", "version", "r0", "0", "r0", "1"]
    assert run(["sql", "--store", store, "--format", "csv", statement]) == 0
    assert capsys.readouterr().out == "release,version\nr0,0\nr0,1\n"
    rows = [{"release": "r0", "version": "0"}, {"release": "r0", "version": "1"}]
    for option in (["--json"], ["--format", "json"]):
        assert run(["sql", "--store", store, *option, statement]) == 0
        assert json.loads(capsys.readouterr().out) == rows
    assert run(["sql", "--store", store, "--out", str(tmp_path / "x.parquet"), statement]) == 0
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == rows


@pytest.mark.usefixtures("processes")
def test_a_time_out_and_the_file_of_views(store: str, tmp_path: Path, capsys: Capture) -> None:
    slow = "SELECT count(*) FROM range(100000000000) AS a, range(1000) AS b WHERE a.range % 7 = b.range"
    assert run(["sql", "--store", store, "--timeout", "0.2", slow]) == 2
    assert "0.2 s" in capsys.readouterr().err
    path = tmp_path / "x.duckdb"
    assert run(["sql", "--store", store, "--export", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    with duckdb.connect(path, read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM releases").fetchone() == (6,)
    assert run(["sql", "--store", store, "--export", str(path), "--json"]) == 2


@pytest.mark.usefixtures("processes")
def test_statements_from_a_file(store: str) -> None:
    text = """-- a comment; with a semicolon
SELECT count(*) AS audits
FROM audits;
SELEC nonsense;
.schema rejects
SELECT ';' AS mark"""
    done = piped(store, text)
    assert done.returncode == 2
    columns = " ".join(f"{name} VARCHAR" for name in SCHEMAS["rejects"].names)
    assert done.stdout.split() == f"audits 12 {columns} mark ;".split()
    assert "SELEC" in done.stderr
    assert "nanobind" not in done.stderr
    good = piped(store, "SELECT 1 AS one; SELECT 2 AS two;", "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert re.sub(r"\s", "", good.stdout) == '[{"one":1}][{"two":2}]'
    refused = piped(store, "COPY audits TO 'x.csv'; ATTACH 'x.db'; SELECT 1; .nonsense\n.nonsense")
    assert refused.stderr.count("found COPY") == refused.stderr.count("found ATTACH") == 1
    assert piped(store, "SELECT 1", "--format", "parquet").returncode == 2


def test_completion() -> None:
    completer = SqlCompleter({"scores": [("a_hat", "DOUBLE")], "audits": [("sentence", "VARCHAR")]}, ["SELECT"])

    def offered(text: str) -> list[str]:
        return [completion.text for completion in completer.get_completions(Document(text), CompleteEvent())]

    assert offered("se") == ["sentence", "SELECT"]
    assert offered("SELECT a_") == ["a_hat"]
    assert offered("SELECT a_hat FROM s") == ["scores"]
    assert offered("FROM scores JOIN ") == ["scores", "audits"]
    assert offered(".schema a") == ["audits"]
    assert offered("SELECT ") == []


class Typist:
    """A user at a terminal of 80 columns."""

    def __init__(self, store: str, home: Path) -> None:
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            environment = {**os.environ, "XDG_STATE_HOME": str(home), "TERM": "xterm"}
            os.execve(sys.executable, [sys.executable, "-m", "flows.cli.main", "sql", "--store", store], environment)
        termios.tcsetwinsize(self._terminal, (24, 80))

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def read_until(self, expected: str, seconds: float = 60) -> str:
        """The output up to and including the expected text."""
        seen, end = "", time.monotonic() + seconds
        while expected not in seen:
            assert time.monotonic() < end, seen
            if select.select([self._terminal], [], [], 0.2)[0]:
                raw = os.read(self._terminal, 65536).decode(errors="replace")
                if "\x1b[6n" in raw:  # prompt_toolkit asks where the cursor is
                    self.type("\x1b[1;1R")
                seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", raw)
        return seen

    def end(self) -> int:
        """The exit code."""
        for _ in range(100):
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    os.read(self._terminal, 65536)
                except OSError:  # the other end is closed
                    time.sleep(0.1)
        raise AssertionError("the shell did not end")


@pytest.fixture
def typist(processes: None, store: str, tmp_path: Path) -> Iterator[Typist]:
    user = Typist(store, tmp_path)
    yield user
    try:
        os.kill(user.process, signal.SIGKILL)
        os.waitpid(user.process, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def test_the_shell_in_a_terminal(typist: Typist, tmp_path: Path) -> None:
    typist.read_until("layerprint>")
    typist.type(".tables\r")
    assert "latest_scores" in typist.read_until("rejects\r\n")
    typist.type("SELECT count(*) AS n\r")
    typist.read_until("...>")
    typist.type("FROM aud\t")
    typist.read_until("audits")
    typist.type(";\r")
    assert re.search(r"n\s+12", typist.read_until("12\r\n"))
    typist.type("SELECT nope FROM audits;\r")
    typist.read_until("the columns are audits(")
    typist.type("SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range % 7 = b.range;\r")
    time.sleep(1.5)
    typist.type("\x03")
    typist.read_until("stopped")
    typist.type("SELECT 40 + 2 AS answer;\r")
    assert re.search(r"answer\s+42", typist.read_until("42\r\n"))
    typist.type(".quit\r")
    assert typist.end() == 0
    history = tmp_path / "layerprint" / "sql_history"
    assert "SELECT 40 + 2" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("processes")
def test_the_commands_of_the_page(store: str, tmp_path: Path) -> None:
    """Run by a shell without a terminal."""
    page = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (tmp_path / "audits").symlink_to(store)
    (tmp_path / "questions.sql").write_text("FROM releases;")
    script = f'set -e\nlayerprint() {{ {sys.executable} -m flows.cli.main "$@"; }}\n{block}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert block.count("\n") == 5
    assert len(re.findall(r"^r2 +1 ", done.stdout, re.MULTILINE)) == 2  # FROM releases, twice
    assert len((tmp_path / "releases.csv").read_text().splitlines()) == 7
    assert (tmp_path / "audits.duckdb").stat().st_size > 0
