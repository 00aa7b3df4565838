"""The Prefect servers of commands and of `serve`: behind a key, found by their owner alone, and never a stranger's."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

import httpx
import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.orchestration import local_server, own_servers
from flows.orchestration.health import is_healthy
from flows.orchestration.local_server import LocalServer, check_profiles, prefect_server
from flows.orchestration.own_servers import OwnServer
from flows.orchestration.schedules import Sweeps, sweeps
from flows.spec.cluster import ClusterSpec
from storage.errors import InputError, StageError
from tests.flows.conftest import laboratory_spec, write_yaml
from tests.paths import ROOT
from tests.processes import wait_until
from tests.security.conftest import Command, clean_environment
from tests.security.listening import is_documented, listening
from tests.security.second_user import run_as_second_user

pytestmark = pytest.mark.timeout(300)

SECRET = "a-secret-of-the-owner-" + "7" * 20

ATTACK = """
import asyncio, json, sys
import httpx, websockets

url = sys.argv[1]
answers = {}
with httpx.Client(timeout=10, trust_env=False) as client:
    def ask(name, method, path, **more):
        answers[name] = client.request(method, url + path, **more).status_code
    ask("read", "POST", "/deployments/filter", json={})
    ask("runs", "POST", "/flow_runs/filter", json={})
    ask("create", "POST", "/flows/", json={"name": "his"})
    ask("variable", "POST", "/variables/", json={"name": "his", "value": 1})
    ask("change", "PATCH", "/deployments/00000000-0000-0000-0000-000000000000", json={"pull_steps": []})
    ask("settings", "GET", "/admin/settings")
    ask("guess", "POST", "/flows/filter", json={}, auth=("layerprint", "0" * 64))
    ask("host", "GET", "/health", headers={"Host": "his.example"})
    page = client.get(url + "/health", headers={"Origin": "http://his.example"})
    answers["origin"] = page.headers.get("access-control-allow-origin")

async def listen(path):
    try:
        async with websockets.connect(url.replace("http", "ws") + path, subprotocols=["prefect"]) as socket:
            await socket.send(json.dumps({"type": "auth", "token": "0" * 64}))
            reply = json.loads(await asyncio.wait_for(socket.recv(), 10))
            return reply["type"]
    except Exception as error:
        return type(error).__name__

for path in ("/events/in", "/events/out", "/logs/out", "/task_runs/subscriptions/scheduled"):
    answers[path] = asyncio.run(listen(path))
print(json.dumps(answers))
"""


def attack(url: str) -> dict[str, object]:
    """What another user gets from a Prefect API."""
    done = run_as_second_user(ATTACK, url)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def is_refused(answers: dict[str, object]) -> bool:
    calls = ("read", "runs", "create", "variable", "change", "settings", "guess")
    sockets = [answer for name, answer in answers.items() if name.startswith("/")]
    return (
        [answers[call] for call in calls] == [401] * len(calls)
        and answers["host"] == 400
        and answers["origin"] is None
        and "auth_success" not in sockets
    )


def test_another_user_gets_nothing_from_a_commands_server(command: Command) -> None:
    assert is_healthy(command.prefect)
    answers = attack(command.prefect)
    assert is_refused(answers), answers


class Serving(NamedTuple):
    """A `serve` that waits for its next sweep: its process, its environment, its spec and what it said."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    spec: Path
    log: Path


def start_serve(folder: Path, *schedule: str) -> Serving:
    environment = clean_environment(folder) | {"PREFECT_HOME": str(folder / "prefect")}
    spec = write_yaml(folder / "spec.yaml", laboratory_spec(str(folder / "images"), str(folder / "audits")))
    command = [sys.executable, "-m", "flows.cli.main", "serve", str(spec), *schedule]
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out, stderr=out)
    return Serving(process, environment, spec, log)


@pytest.fixture(autouse=True)
def _no_server_is_configured() -> Iterator[None]:
    """Other tests of the same process may have configured one."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


@pytest.fixture(scope="module")
def serving(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A `serve` whose first sweep starts at once and fails, as its images are nowhere."""
    found = start_serve(tmp_path_factory.mktemp("serve"), "--every", "1d")
    try:
        wait_until(
            lambda: "next sweep" in found.log.read_text() or found.process.poll() is not None, 120, "the schedule"
        )
        assert found.process.poll() is None, found.log.read_text()
        yield found
    finally:
        found.process.send_signal(signal.SIGTERM)
        found.process.wait(60)


@pytest.fixture
def owner(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> OwnServer:
    """The server of `serve`, as its owner finds it."""
    monkeypatch.setenv("XDG_STATE_HOME", serving.environment["XDG_STATE_HOME"])
    (server,) = own_servers.own_servers()
    return server


def test_another_user_gets_nothing_from_the_server_of_serve(serving: Serving, owner: OwnServer) -> None:
    answers = attack(owner.url)
    assert is_refused(answers), answers
    read = "import sys\nfor path in sys.argv[1:]:\n    print(open(path).read())"
    files = [own_servers.folder() / f"{owner.pid}.{suffix}" for suffix in ("key", "json")]
    files += [Path(f"/proc/{owner.pid}/environ"), Path(serving.environment["PREFECT_HOME"]) / "prefect.db"]
    for path in files:
        done = run_as_second_user(read, str(path))
        assert "Permission" in done.stderr, path
    assert {path.stat().st_mode & 0o777 for path in files[:2]} == {0o600}


def test_its_owner_finds_it(serving: Serving, owner: OwnServer) -> None:
    (file,) = re.findall(r"asks for the text in\s+(\S+\.key)", " ".join(serving.log.read_text().split()))
    key = Path(file).read_text().strip()
    assert key == owner.key
    user, _, password = key.partition(":")
    answer = httpx.post(f"{owner.url}/deployments/filter", json={}, auth=(user, password), timeout=30)
    assert len(answer.json()) == 1
    page = httpx.get(f"{owner.url.removesuffix('/api')}/ui-settings", timeout=30).json()
    assert (page["auth"], page["api_url"]) == ("BASIC", owner.url)
    assert sweeps(str(serving.spec)).coming is not None


def test_its_sweeps_have_its_key(serving: Serving, owner: OwnServer) -> None:
    """The first sweep ran in a process of its own, and told the server how it ended."""
    wait_until(lambda: sweeps(str(serving.spec)).last is not None, 120, "the end of the first sweep")


def test_what_listens_is_in_the_documentation(serving: Serving) -> None:
    wait_until(lambda: "\nsweep " in serving.log.read_text(), 120, "the end of the sweep")
    sockets = listening(serving.process.pid)
    assert is_documented("serve", sockets), sockets


class _Stranger(BaseHTTPRequestHandler):
    """Says of itself that it is a healthy Prefect server."""

    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"true")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A server on the configured port that no command of ours started."""
    _Stranger.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(server.server_port))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        yield server.server_port
        server.shutdown()


def test_a_server_that_we_did_not_start_is_not_used(stranger: int) -> None:
    assert sweeps("s3://bucket/spec.yaml") == Sweeps()
    assert _Stranger.requests == []


@pytest.mark.parametrize("wrong", ["readable", "folder", "ended", "another process", "no record", "link"])
def test_a_record_that_is_not_the_owners_does_not_count(
    stranger: int, wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_servers.record(f"http://127.0.0.1:{stranger}/api", "user:key", os.getpid())
    assert len(own_servers.own_servers()) == 1
    (file,) = own_servers.folder().glob("*.json")
    match wrong:
        case "readable":
            file.chmod(0o644)
        case "folder":
            file.parent.chmod(0o755)
        case "ended":
            file.write_text(json.dumps({**json.loads(file.read_text()), "pid": 2**22 + 1}))
        case "another process":
            file.write_text(json.dumps({**json.loads(file.read_text()), "began": "1"}))
        case "no record":
            file.write_text('{"url": 1')
        case _:
            file.rename(tmp_path / "other.json")
            file.symlink_to(tmp_path / "other.json")
    assert own_servers.own_servers() == []
    assert sweeps("s3://bucket/spec.yaml") == Sweeps()
    assert _Stranger.requests == []


HOLDS = """
import sys
from prefect import flow
from flows.orchestration.local_server import prefect_server

@flow
def adds(a: int, b: int) -> int:
    return a + b

with prefect_server():
    print(adds(1, 2), flush=True)
"""


@pytest.mark.parametrize("home", ["locked", "a file"])
def test_a_command_does_not_depend_on_the_users_prefect(processes: None, home: str, tmp_path: Path) -> None:
    place = tmp_path / "prefect"
    with ExitStack() as stack:
        if home == "a file":
            place.write_text("")
        else:
            place.mkdir()
            holder = stack.enter_context(closing(sqlite3.connect(place / "prefect.db")))
            holder.execute("BEGIN EXCLUSIVE")
        environment = clean_environment(tmp_path) | {"PREFECT_HOME": str(place)}
        done = subprocess.run(
            [sys.executable, "-c", HOLDS],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout.strip() == "3", done.stderr


def test_serve_names_a_broken_database(processes: None, tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_bytes(b"no database" * 1000)
    found = start_serve(tmp_path, "--every", "1d")
    assert found.process.wait(120) == 1
    said = " ".join(found.log.read_text().split())
    assert "file is not a database" in said
    assert "prefect.db" in said
    assert "Traceback" not in said


def test_profiles_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text("active = [[[")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"profiles\.toml"):
        check_profiles()


class TestSlowStarts:
    def test_it_waits_while_the_server_works_and_says_so(
        self, processes: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(local_server, "NOTICE_S", 0.5)
        said: list[str] = []
        server = LocalServer(say=said.append)
        try:
            os.kill(server.pid, signal.SIGSTOP)
            threading.Timer(3, os.kill, (server.pid, signal.SIGCONT)).start()
            server.wait()
            assert is_healthy(server.url)
        finally:
            server.stop()
        assert said
        assert "Prefect server" in said[0]

    def test_one_that_stalls_is_given_up(self, processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_server, "STALLED_S", 2.0)
        server = LocalServer()
        home = server.home
        try:
            os.kill(server.pid, signal.SIGSTOP)
            with pytest.raises(StageError, match="printed nothing"):
                server.wait()
        finally:
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
        assert home is not None
        assert not home.exists()


@flow(persist_result=False)
def takes(cluster: ClusterSpec) -> str:
    """A flow with a parameter that has a secret."""
    return str(cluster.runtime_env["env_vars"]["TOKEN"])


def test_prefect_keeps_no_value_of_a_runtime_environment(processes: None) -> None:
    cluster = ClusterSpec(ray="http://head:8265", runtime_env={"env_vars": {"TOKEN": SECRET}, "pip": [SECRET]})
    assert SECRET not in repr(cluster) + cluster.model_dump_json()
    with prefect_server():
        assert takes(cluster) == SECRET
        database = Path(str(PREFECT_HOME.value())) / "prefect.db"
        with sqlite3.connect(database) as connection:
            (parameters,) = connection.execute("SELECT parameters FROM flow_run").fetchone()
        kept = b"".join(path.read_bytes() for path in database.parent.glob("prefect.db*"))
    assert json.loads(parameters)["cluster"]["runtime_env"] == {"env_vars": ["TOKEN"], "pip": "…"}
    assert SECRET.encode() not in kept
