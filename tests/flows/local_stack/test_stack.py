"""The stack as a user runs it: up, used, half of it killed, up again, down."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.objects.open import open_store
from tests.flows.processes import gone
from tests.security.listening import is_documented, listening
from tests.security.second_user import run_as_second_user
from tests.security.test_prefect import attack, is_refused
from tests.security.test_ray import answers_of_ray

pytestmark = [
    pytest.mark.timeout(600),  # processes start slowly on a busy machine
    pytest.mark.usefixtures("processes"),
]

OWNERS_PASSWORD = "the-password-of-something-else"
NAMES = ["s3", "ray", "prefect-server", "prefect-worker"]


def stack(folder: Path, *arguments: str) -> tuple[int, Any]:
    """Run `layerprint stack …` as a process; its exit code and its JSON document."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_", "RAY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "stack", *arguments, "--folder", str(folder), "--json"],
        env=env | {"PYTHONPATH": os.pathsep.join(sys.path), "OWNERS_PASSWORD": OWNERS_PASSWORD},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("stack") / "layerprint-stack"
    yield made
    stack(made, "down")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    code, document = stack(folder, "up")
    assert code == 0, document
    return dict(document["environment"])


def test_nothing_runs_before(tmp_path: Path) -> None:
    code, services = stack(tmp_path / "none", "status")
    assert code == 1
    assert [service["pid"] for service in services] == [None] * 4
    assert stack(tmp_path / "none", "down") == (0, {"ended": []})


def test_the_error_names_a_service_that_does_not_start_and_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    (folder / "s3").mkdir(parents=True)
    (folder / "s3" / "s3.json").write_text("{}")
    code, document = stack(folder, "up")
    assert code == 1
    assert document["error"].startswith("s3 ")
    assert "s3.log" in document["error"]
    assert "s3.json" in document["error"]
    assert stack(folder, "down") == (0, {"ended": []})


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, document = stack(tmp_path, "up")
    assert code == 2
    assert "`layerprint stack`" in document["error"]


def test_every_service_answers(folder: Path, environment: dict[str, str]) -> None:
    code, services = stack(folder, "status")
    assert code == 0
    assert [service["name"] for service in services] == NAMES
    assert all(service["ready"] for service in services)
    assert (folder / "stack.json").stat().st_mode & 0o077 == 0
    exported = (folder / "environment.sh").read_text()
    assert (folder / "environment.sh").stat().st_mode & 0o077 == 0
    assert all(f"export {name}=" in exported for name in environment)


def test_the_bucket_takes_objects(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://layerprint/try")
    store.put("a", b"one")
    assert store.get("a") == b"one"


def test_ray_runs_jobs_for_those_with_the_token(folder: Path, environment: dict[str, str]) -> None:
    jobs = next(service["where"] for service in stack(folder, "status")[1] if service["name"] == "ray")
    assert httpx.get(f"{jobs}/api/jobs/").status_code == 401
    headers = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
    with httpx.Client(base_url=jobs, headers=headers, timeout=60) as client:
        entrypoint = f'test "$AWS_ENDPOINT_URL" = {environment["AWS_ENDPOINT_URL"]}'
        end, status = time.monotonic() + 120, "PENDING"
        answer = client.post("/api/jobs/", json={"entrypoint": entrypoint})
        assert answer.is_success, answer.text  # a service that is up takes jobs at once
        job = answer.json()["submission_id"]
        while status in ("PENDING", "RUNNING") and time.monotonic() < end:
            time.sleep(0.5)
            status = client.get(f"/api/jobs/{job}").json()["status"]
    assert status == "SUCCEEDED"


JOIN = """
import os, ray
ray.init(os.environ["LAYERPRINT_RAY_ADDRESS"], log_to_driver=False)
print(ray.get(ray.remote(lambda: os.environ["AWS_ENDPOINT_URL"]).remote()))
"""


def test_a_command_can_join_ray(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOIN],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.strip() == environment["AWS_ENDPOINT_URL"], done.stderr


def test_another_user_gets_nothing(folder: Path, environment: dict[str, str]) -> None:
    """Nor does anybody on another machine: all of it listens on loopback."""
    answers = attack(environment["PREFECT_API_URL"])
    assert is_refused(answers), answers
    pids = [service["pid"] for service in stack(folder, "status")[1]]
    sockets = {socket for pid in pids for socket in listening(pid)}
    sockets = {socket for socket in sockets if socket.process not in ("weed", "s3")}  # they have tests of their own
    assert is_documented("stack", sockets), sockets
    asked = {socket.where: socket.process for socket in sockets if socket.address == "loopback"}
    calls = answers_of_ray(list(asked))
    guarded = {asked[port] for port, _, answer in calls if answer in ("UNAUTHENTICATED", 401)}
    assert guarded >= {"gcs_server", "raylet", "dashboard.py", "server", "prefect_process", "ray::DashboardAgent"}
    files = [folder / name for name in ("stack.json", "environment.sh", "prefect/prefect.db")]
    for path in [*files, Path(json.loads(files[0].read_text())["ray_folder"]) / "ray"]:
        done = run_as_second_user("import os, sys; os.scandir(sys.argv[1])", str(path))
        assert "PermissionError" in done.stderr, path


def test_each_service_has_the_secrets_that_it_needs(folder: Path, environment: dict[str, str]) -> None:
    pids = {service["name"]: service["pid"] for service in stack(folder, "status")[1]}
    secrets = {name: environment[name] for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")}
    secrets["OWNERS_PASSWORD"] = OWNERS_PASSWORD
    held = {
        name: {key for key, value in secrets.items() if value in Path(f"/proc/{pid}/environ").read_text()}
        for name, pid in pids.items()
    }
    s3_and_ray = {"AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"}
    assert held == {"s3": set(), "ray": s3_and_ray, "prefect-server": set(), "prefect-worker": s3_and_ray}


def test_a_second_up_changes_nothing_and_restarts_a_killed_service(folder: Path, environment: dict[str, str]) -> None:
    before = stack(folder, "status")[1]
    assert stack(folder, "up") == (0, {"environment": environment})
    assert stack(folder, "status")[1] == before
    os.kill(before[2]["pid"], signal.SIGKILL)
    assert stack(folder, "status")[0] == 1
    assert stack(folder, "up") == (0, {"environment": environment})
    after = stack(folder, "status")[1]
    assert [service["ready"] for service in after] == [True] * 4
    assert [one["pid"] == other["pid"] for one, other in zip(before, after, strict=True)] == [True, True, False, False]


def test_down_stops_all_services_and_keeps_the_objects(folder: Path, environment: dict[str, str]) -> None:
    running = [service["pid"] for service in stack(folder, "status")[1]]
    assert stack(folder, "down") == (0, {"ended": list(reversed(NAMES))})
    assert all(gone(pid) for pid in running)
    assert not list(folder.glob("*.pid"))
    assert (folder / "s3" / "data").is_dir()
    assert not (folder / "stack.json").exists()
