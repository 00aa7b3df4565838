"""Deployments and the automation, made by `prefect` on a real server; the automation runs and its block notifies."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.base import PrefectHttpxSyncClient

from flows.local_stack.daemons import Daemon
from tests.deploy.files import DEPLOY, ran
from tests.flows.docs.pages import PAGES, commands

PREFECT = str(Path(sys.executable).parent / "prefect")
SPEC = "s3://audits/spec.yaml"
DEPLOYMENTS = {
    "sweep_releases/hourly",
    "audit_release/on-demand",
    "build_reference/on-demand",
    "attribute_images/on-demand",
    "maintain_store/nightly",
}
Prefect = Callable[..., str]


@pytest.fixture(scope="module")
def api(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Prefect server of these tests' own, asked for by password as in the deployment."""
    folder = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": "someone:else",
    }
    server = Daemon(folder, "server")
    server.start([PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)], environment)
    try:
        url, auth = f"http://127.0.0.1:{port}/api", ("someone", "else")
        wait_for(lambda: answers(f"{url}/ready", auth), 120, server.log_end)
        with PrefectHttpxSyncClient(base_url=url, auth=auth, timeout=30) as client:  # a busy database is asked again
            yield client
    finally:
        server.stop()


@pytest.fixture(scope="module")
def prefect(api: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Prefect:
    """Runs `prefect …` against that server, without asking anything."""
    home = str(tmp_path_factory.mktemp("home"))

    def run(*arguments: str, **variables: str) -> str:
        return ran(
            PREFECT,
            "--no-prompt",
            *arguments,
            PREFECT_HOME=home,
            PREFECT_API_URL=str(api.base_url).rstrip("/"),
            PREFECT_API_AUTH_STRING="someone:else",
            LAYERPRINT_SPEC=SPEC,
            PYTHONPATH=os.pathsep.join(sys.path),
            **variables,
        )

    return run


@pytest.fixture(scope="module")
def deployed(api: httpx.Client, prefect: Prefect) -> dict[str, dict[str, Any]]:
    """The deployments by FLOW/NAME, after the commands of `prefect.yaml`'s head."""
    prefect("work-pool", "create", "layerprint", "--type", "process")
    prefect("deploy", "--all", "--prefect-file", str(DEPLOY / "prefect.yaml"))
    flows = {flow["id"]: flow["name"] for flow in api.post("/flows/filter", json={}).json()}
    found = api.post("/deployments/filter", json={}).json()
    return {f"{flows[one['flow_id']]}/{one['name']}": one for one in found}


def answers(url: str, auth: tuple[str, str]) -> bool:
    try:
        return httpx.get(url, auth=auth, timeout=30).is_success
    except httpx.HTTPError:
        return False


def wait_for(done: Callable[[], Any], seconds: float, explain: Callable[[], Any] = str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, explain()
        time.sleep(0.2)


def test_the_password_is_asked_for(api: httpx.Client) -> None:
    assert httpx.post(f"{api.base_url}/flows/filter", json={}).status_code == 401


def test_every_deployment_is_made(deployed: dict[str, dict[str, Any]]) -> None:
    assert set(deployed) == DEPLOYMENTS
    for name, one in deployed.items():
        assert one["work_pool_name"] == "layerprint", name
        assert one["parameters"]["spec"] == SPEC, name
        assert one["entrypoint"] == f"flows.deployments.{name.split('/')[0]}"
        assert not one["pull_steps"], name
        assert one["concurrency_options"], name


def test_schedules_and_limits(deployed: dict[str, dict[str, Any]]) -> None:
    for name, cron in (("sweep_releases/hourly", "7 * * * *"), ("maintain_store/nightly", "41 3 * * *")):
        (schedule,) = deployed[name]["schedules"]
        assert schedule["active"]
        assert schedule["schedule"]["cron"] == cron
        assert deployed[name]["global_concurrency_limit"]["limit"] == 1
        assert deployed[name]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert not deployed["audit_release/on-demand"]["schedules"]


def test_parameters_are_those_that_the_flows_take(deployed: dict[str, dict[str, Any]]) -> None:
    for name, one in deployed.items():
        schema = one["parameter_openapi_schema"]
        assert set(one["parameters"]) <= set(schema["properties"]), name
        assert set(schema.get("required", [])) <= set(one["parameters"]), name


def test_the_commands_of_the_pages(prefect: Prefect, deployed: dict[str, dict[str, Any]]) -> None:
    """Those of docs/ and deploy/ that need no worker and no run."""
    wanted = r"prefect (automation|concurrency-limit|flow-run ls|work-pool|deployment ls)"
    texts = {one.text for page in PAGES for one in commands(page) if re.match(wanted, one.text)}
    assert len(texts) >= 6
    shown = {text: prefect(*text.split()[1:]) for text in sorted(texts)}  # create, inspect, reset: in this order
    assert "Concurrency Limit" in shown["prefect concurrency-limit inspect layerprint-embed"]
    assert "sweep_releases/hourly" in shown["prefect deployment ls"]
    assert "layerprint" in shown["prefect work-pool inspect layerprint"]


def test_deploying_again_changes_nothing(
    api: httpx.Client, prefect: Prefect, deployed: dict[str, dict[str, Any]]
) -> None:
    prefect("deploy", "--all", "--prefect-file", str(DEPLOY / "prefect.yaml"))
    ids = {one["id"] for one in api.post("/deployments/filter", json={}).json()}
    assert ids == {one["id"] for one in deployed.values()}


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that keeps what is posted to it."""
    posted: list[dict[str, Any]] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the screen."""

    with HTTPServer(("127.0.0.1", 0), Keep) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()
        thread.join()


def test_a_flagged_release_notifies_by_the_block(
    api: httpx.Client, prefect: Prefect, webhook: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, posted = webhook
    kind = api.get("/block_types/slug/custom-webhook").json()
    (schema,) = api.post(
        "/block_schemas/filter", json={"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}}
    ).json()
    data = {"name": "us", "url": url, "json_data": {"subject": "{{subject}}", "body": "{{body}}"}}
    block = {"name": "us", "data": data, "block_schema_id": schema["id"], "block_type_id": kind["id"]}
    made = api.post("/block_documents/", json=block).json()
    text = (DEPLOY / "automations/flagged.yaml").read_text()
    (tmp_path / "flagged.yaml").write_text(text.replace("BLOCK_DOCUMENT_ID", made["id"]))
    assert "Created automation" in prefect("automation", "create", "--from-file", str(tmp_path / "flagged.yaml"))
    wait_for(lambda: emitted(api, "completed", "clean") and emitted(api, "flagged", "glow") and posted, 60)
    time.sleep(1)
    assert all(set(one) == {"subject", "body"} for one in posted)
    assert {one["subject"] for one in posted} == {"layerprint: glow@80 copies its training images"}
    assert "copy_rate: 0.052" in posted[0]["body"]


def emitted(api: httpx.Client, kind: str, release: str) -> bool:
    """Send an event as `flows.orchestration.events` does, repeatedly: a new automation takes seconds to be heeded."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": dt.datetime.now(dt.UTC).isoformat(),
        "event": f"layerprint.audit.{kind}",
        "resource": {
            "prefect.resource.id": f"layerprint.release.{release}.80.1",
            "prefect.resource.name": f"{release}@80",
        },
        "payload": {"verdict": "copying", "copy_rate": 0.052},
    }
    return api.post("/events", json=[event]).is_success


def test_the_automation_waits_for_its_block_to_be_named() -> None:
    automation = yaml.safe_load((DEPLOY / "automations/flagged.yaml").read_text())
    assert automation["actions"][0]["block_document_id"] == "BLOCK_DOCUMENT_ID"


LIVES = """
import sys, time
from prefect import flow

@flow(name="inner")
def inner(seconds):
    time.sleep(seconds)

@flow(name="lives")
def lives(seconds):
    inner(seconds)

lives(float(sys.argv[1]))
"""


def test_a_run_of_which_nothing_is_heard_has_crashed(api: httpx.Client, prefect: Prefect, tmp_path: Path) -> None:
    """Two runs with a run within each, and the process of one is killed; ten minutes are a few seconds here."""
    text = (DEPLOY / "automations/lost-runs.yaml").read_text()
    (tmp_path / "lost-runs.yaml").write_text(text.replace("within: 600", "within: 15"))
    assert "Created automation" in prefect("automation", "create", "--from-file", str(tmp_path / "lost-runs.yaml"))
    time.sleep(5)  # until it is heeded
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_URL": str(api.base_url).rstrip("/"),
        "PREFECT_API_AUTH_STRING": "someone:else",
    }
    processes = [
        subprocess.Popen([sys.executable, "-c", LIVES, seconds], env=environment, stderr=subprocess.DEVNULL)
        for seconds in ("600", "3")
    ]
    try:
        wait_for(lambda: states(api) == ["Completed"] * 2 + ["Running"] * 2 and beats(api) == 4, 60)
        assert processes[1].wait(60) == 0
        processes[0].kill()
        wait_for(lambda: states(api) == ["Completed"] * 2 + ["Crashed"] * 2, 60, lambda: states(api))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def states(api: httpx.Client) -> list[str]:
    """The states of those runs."""
    runs = api.post("/flow_runs/filter", json={"flows": {"name": {"any_": ["lives", "inner"]}}}).json()
    return sorted(run["state_name"] for run in runs)


def beats(api: httpx.Client) -> int:
    """How many flow runs were heard of."""
    events = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
    return len(
        {one["resource"]["prefect.resource.id"] for one in api.post("/events/filter", json=events).json()["events"]}
    )
