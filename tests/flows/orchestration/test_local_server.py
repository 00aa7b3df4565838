"""The Prefect server that a command brings along."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.orchestration.health import is_healthy
from flows.orchestration.local_server import LocalServer, prefect_server
from flows.orchestration.settings import configured_url
from storage.errors import InputError, StageError
from tests.flows.conftest import Write
from tests.flows.free_port import free_port
from tests.paths import ROOT
from tests.processes import kill, wait_until

HOLDS = """
import sys
from prefect import flow
from prefect.settings import PREFECT_API_URL
from flows.orchestration.local_server import prefect_server

@flow
def adds(a: int, b: int) -> int:
    return a + b

with prefect_server():
    print(PREFECT_API_URL.value(), adds(1, 2), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def alone(processes: None, tmp_path: Path) -> dict[str, str]:
    """An environment in which no Prefect server is configured."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return env | {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "CRITICAL"}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, None], ids=["killed", "Ctrl-C", "its end"])
def test_it_ends_with_its_command(alone: dict[str, str], end: signal.Signals | None) -> None:
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(
        command,
        env=alone,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url, answer = process.stdout.readline().split()
        assert answer == "3"
        assert is_healthy(url)
        if end is None:
            process.stdin.close()
        else:
            process.send_signal(end)
    wait_until(lambda: not is_healthy(url), 10, "the end of the server")


def test_a_server_that_is_configured_is_used() -> None:
    with temporary_settings({PREFECT_API_URL: "http://prefect.test:4200/api"}), prefect_server():
        assert PREFECT_API_URL.value() == configured_url() == "http://prefect.test:4200/api"


@pytest.mark.usefixtures("processes")
def test_its_own_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        with prefect_server():
            url = str(PREFECT_API_URL.value())
            assert is_healthy(url)
            assert configured_url() is None
        assert PREFECT_API_URL.value() is None
    assert not is_healthy(url)


@pytest.mark.usefixtures("processes")
def test_the_users_database_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////no/such/folder/prefect.db")
    with temporary_settings(restore_defaults={PREFECT_API_URL}), prefect_server():
        assert is_healthy(str(PREFECT_API_URL.value()))


@pytest.mark.usefixtures("processes")
def test_what_it_says_when_it_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////no/such/folder/prefect.db")
    server = LocalServer(schedules=True)
    try:
        with pytest.raises(StageError, match=r"no Prefect server could be started.*(unable to open|No such file)"):
            server.wait()
    finally:
        server.stop()


def test_a_serve_that_is_killed_leaves_no_server(alone: dict[str, str], write_spec: Write, tmp_path: Path) -> None:
    port = free_port()
    key = "someone:else"
    environment = alone | {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_SERVER_API_AUTH_STRING": key}
    environment |= {"XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "flows.cli.main", "serve", str(write_spec()), "--cron", "0 0 1 1 *"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: is_healthy(f"{url}/api"), 90, "the server")
            assert "<html" in httpx.get(url, timeout=10, follow_redirects=True).text.lower()
            wait_until(lambda: sweeps_known(f"{url}/api") == 1, 60, "the deployment")
        finally:
            kill([process.pid])
    wait_until(lambda: not is_healthy(f"{url}/api"), 15, "the end of the server")


def sweeps_known(url: str) -> int:
    """How many deployments the server has."""
    answer = httpx.post(f"{url}/deployments/filter", json={}, auth=("someone", "else"), timeout=10)
    return len(answer.json())


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"no Prefect server can be started on port {port}: Address already"):
            LocalServer(port)
