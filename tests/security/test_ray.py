"""The Ray of a command: what listens, and that another user gets no answer from any of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from ray.core.generated import gcs_service_pb2

from tests.processes import alive, descendants, kill, name_of, wait_until
from tests.security.conftest import Command, start_command
from tests.security.listening import is_documented, listening
from tests.security.second_user import run_as_second_user

pytestmark = pytest.mark.timeout(300)

ASK = """
import json, sys
import grpc, httpx

CALLS = [
    "InternalKVGcsService/InternalKVGet", "InternalKVGcsService/InternalKVPut", "NodeInfoGcsService/GetAllNodeInfo",
    "NodeInfoGcsService/RegisterNode", "JobInfoGcsService/AddJob", "ActorInfoGcsService/RegisterActor",
    "NodeManagerService/RequestWorkerLease", "NodeManagerService/GetNodeStats", "ObjectManagerService/Pull",
    "ObjectManagerService/Push", "CoreWorkerService/PushTask", "CoreWorkerService/GetCoreWorkerStats",
    "ReporterService/GetTraceback", "RayletDriver/Init", "RuntimeEnvService/GetOrCreateRuntimeEnv",
]
PATHS = ["/", "/metrics", "/api/jobs/", "/api/job_agent/jobs/", "/logs", "/api/local_raylet_healthz", "/nodes",
         "/get_or_create_runtime_env"]
answers = []
for port in json.loads(sys.argv[1]):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=3)
                answers.append([port, call, "OK"])
            except grpc.RpcError as error:
                answers.append([port, call, error.code().name])
                if error.code().name == "UNAVAILABLE":  # not gRPC
                    break
    for path in PATHS:
        for verb in ("GET", "POST"):
            try:
                answer = httpx.request(verb, f"http://127.0.0.1:{port}{path}", timeout=3, trust_env=False)
                answers.append([port, f"{verb} {path}", answer.status_code])
            except httpx.HTTPError:
                break
print(json.dumps(answers))
"""

JOIN = """
import os, subprocess, sys, time

LOOPBACK = "from ray._private import services; services.resolve_ip_for_localhost = lambda host: host;"
INIT = (
    "import os, ray, sys; ray.init(sys.argv[1], _temp_dir='/tmp/other-ray');"
    "print('JOINED', ray.get(ray.remote(lambda: os.getuid()).remote()))"
)
START = "from ray.scripts.scripts import main; main()"
ways = {
    "start": ["-c", LOOPBACK + START, "start", "--temp-dir=/tmp/other-ray", "--address", sys.argv[1]],
    "init": ["-c", LOOPBACK + INIT, sys.argv[1]],
}
started = {}
for way, words in ways.items():
    for mode in ("disabled", "token"):
        environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "0" * 64}
        started[way, mode] = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
deadline = time.monotonic() + 25
for (way, mode), process in started.items():
    try:
        out, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:  # it still tries
        process.kill()
        out, _ = process.communicate()
    print(way, mode, process.returncode, out.decode()[-3000:])
"""

REACH = """
import os, socket, sys
for path in sys.argv[1:]:
    for attempt in (os.listdir, open, lambda p: socket.socket(socket.AF_UNIX).connect(p), lambda p: open(p, "w")):
        try:
            attempt(path)
            print("REACHED", path)
        except OSError as error:
            print("not reached", type(error).__name__)
"""


def answers_of_ray(ports: list[str]) -> list[tuple[str, str, str | int]]:
    """(Port, call, answer) of what another user asks these ports of loopback."""
    done = run_as_second_user(ASK, json.dumps(ports))
    answers = json.loads(done.stdout or "[]")
    assert answers, done.stderr
    return [(str(port), str(call), answer) for port, call, answer in answers]


def test_everything_that_listens_is_in_the_documentation(command: Command) -> None:
    sockets = listening(command.pid)
    assert is_documented("audit", sockets), sockets
    assert {socket.address for socket in sockets} == {"loopback", "private folder"}


def test_another_user_gets_no_answer_without_the_token(command: Command) -> None:
    found = {socket.where: socket.process for socket in listening(command.pid) if socket.process != "prefect_process"}
    answers = answers_of_ray([port for port in found if port.isdigit()])
    refused = {"UNAUTHENTICATED", 401}
    absent = {"UNIMPLEMENTED", "UNAVAILABLE", "INTERNAL", "UNKNOWN", 404, 405}
    answered = [(found[port], call) for port, call, answer in answers if answer not in refused | absent]
    # Figures of the machine for Prometheus, at any path, and that the node is well: no data, nothing to change.
    assert {process for process, _ in answered} <= {"dashboard.py", "monitor.py", "ray::DashboardAgent"}
    assert all(call.startswith("GET /") for _, call in answered)
    guarded = {found[port] for port, _, answer in answers if answer in refused}
    assert guarded >= {
        "gcs_server",
        "raylet",
        "ray worker",
        "layerprint",
        "ray::DashboardAgent",
        "ray::RuntimeEnvAgent",
    }


def test_the_same_question_with_the_token_is_answered(command: Command) -> None:
    """So it is the token that is missing above, not the question that is wrong."""
    token = (command.ray / "token").read_text()
    with grpc.insecure_channel(command.gcs) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        assert call(b"", timeout=10, metadata=[("authorization", f"Bearer {token}")])
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", timeout=10, metadata=[("authorization", f"Bearer {'0' * 64}")])
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_another_user_cannot_join(command: Command) -> None:
    """With `ray start --address` and `ray.init`, with and without a token of his own."""
    before = nodes_and_jobs(command)
    done = run_as_second_user(JOIN, command.gcs)
    assert done.returncode == 0, done.stderr
    assert "JOINED" not in done.stdout
    assert "authentication" in done.stdout.lower(), done.stdout
    assert not re.search(r"^(start|init) \w+ 0 ", done.stdout, re.MULTILINE), done.stdout
    assert nodes_and_jobs(command) == before == (1, 1)


def nodes_and_jobs(command: Command) -> tuple[int, int]:
    """How many nodes and drivers this Ray has, dead ones included."""
    login = [("authorization", f"Bearer {(command.ray / 'token').read_text()}")]
    with grpc.insecure_channel(command.gcs) as channel:
        nodes = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")(b"", timeout=10, metadata=login)
        jobs = channel.unary_unary("/ray.rpc.JobInfoGcsService/GetAllJobInfo")(b"", timeout=10, metadata=login)
    return (
        len(gcs_service_pb2.GetAllNodeInfoReply.FromString(nodes).node_info_list),
        len(gcs_service_pb2.GetAllJobInfoReply.FromString(jobs).job_info_list),
    )


def test_another_user_cannot_reach_files_and_sockets(command: Command) -> None:
    sockets = [socket.where for socket in listening(command.pid) if socket.address == "private folder"]
    assert len(sockets) >= 2  # of the raylet and its object store
    token, database = command.ray / "token", command.home / "prefect.db"
    for path, mode in ((command.ray, 0o700), (command.home, 0o700), (token, 0o600)):
        assert path.stat().st_mode & 0o777 == mode
    places = [
        command.ray,
        token,
        command.session,
        command.home,
        database,
        *sockets,
        Path(f"/proc/{command.pid}/environ"),
    ]
    done = run_as_second_user(REACH, *map(str, places))
    assert "REACHED" not in done.stdout, done.stdout
    assert done.stdout.count("not reached") == 4 * len(places), done.stderr
    assert not list(Path("/dev/shm").glob("plasma*"))


def test_after_sigkill_nothing_is_left(processes: None, tmp_path: Path) -> None:
    process, command = start_command(tmp_path)
    others = descendants(command.pid)[1:]
    assert any("ray::DashboardAgent" in name_of(pid) for pid in others)
    kill([command.pid])
    process.communicate()
    wait_until(lambda: not any(map(alive, others)), 20, "the end of what it started")
    wait_until(lambda: not command.ray.exists() and not command.home.exists(), 20, "the end of its folders")
