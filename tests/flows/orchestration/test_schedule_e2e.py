"""The daily life, on real services: releases are dropped into a bucket, and audited without a hand.

A Prefect server, `layerprint serve` as a user runs it, SeaweedFS, and a Ray of each sweep's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.base import PrefectHttpxSyncClient

from flows.orchestration.health import is_healthy
from storage.claims import Claims
from storage.objects.open import ObjectStore, open_store
from storage.results.tables import read_result
from tests.flows.conftest import COPIES, TRAIN, UNSEEN, Write
from tests.flows.dropping import drop
from tests.flows.free_port import free_port

WAIT_S = 240.0
FLAGGED = "layerprint.audit.flagged"


class Server:
    """A Prefect server of this test's own, asked as Prefect asks it: one that is busy (503) is asked again."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)}
        self.client = PrefectHttpxSyncClient(base_url=url, timeout=30)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.client.post(path, json=body or {}).json()

    def runs(self) -> list[dict[str, Any]]:
        """The runs of sweeps."""
        return list(self.ask("/flow_runs/filter", {"flows": {"name": {"any_": ["sweep_releases"]}}}))

    def sweeps(self) -> list[str]:
        """What the finished sweeps said, the oldest first."""
        done = [run for run in self.runs() if run["state_type"] == "COMPLETED"]
        return [run["state"]["message"] for run in sorted(done, key=lambda run: str(run["end_time"]))]

    def events(self) -> list[dict[str, Any]]:
        found = self.ask("/events/filter", {"filter": {"event": {"prefix": ["layerprint."]}}})["events"]
        return list(found)


@pytest.fixture
def server(s3: object, tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    found = Server(f"http://127.0.0.1:{port}/api", tmp_path / "prefect")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    settings = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        environment = {**found.environment, **settings}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: is_healthy(found.url))
            yield found
        finally:
            found.client.close()
            process.terminate()
            process.wait(30)


class Serving:
    """`layerprint serve` in a process group of its own, as often as it is started."""

    def __init__(self, server: Server, spec: Path, log: Path) -> None:
        self._server, self._spec, self._log = server, spec, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "flows.cli.main", "serve", str(self._spec), "--every", "8s", "--settle", "1"]
        with self._log.open("ab") as log:
            environment = {**self._server.environment, "OMP_NUM_THREADS": "1", "LAYERPRINT_LAYER_HOSTS": "1"}
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def said(self) -> str:
        """What it told its user."""
        return self._log.read_text()

    def kill(self) -> None:
        """As a machine does that loses its power: no process has time for anything."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def stop(self) -> int:
        """As Ctrl-C does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        code, self._process = self._process.wait(60), None
        return code


@pytest.fixture
def serving(server: Server, write_spec: Write, s3_prefix: str, tmp_path: Path) -> Iterator[Serving]:
    spec = write_spec(releases={"from": f"{s3_prefix}/releases/*"})
    found = Serving(server, spec, tmp_path / "serve.log")
    try:
        yield found
    finally:
        found.kill()


def until(true: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """What is true in the end; the test fails when it does not become so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not so within {seconds:g} s: {true.__doc__ or true}")


def pause_promotion_when_flagged(server: Server) -> str:
    """A deployment that would promote releases, and the automation that pauses it; the deployment's id."""
    flow = server.ask("/flows/", {"name": "promote"})
    deployment = server.ask("/deployments/", {"name": "promote", "flow_id": flow["id"], "paused": False})
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "match": {"prefect.resource.id": "layerprint.release.*"},
        "expect": [FLAGGED],
        "threshold": 1,
    }
    action = {"type": "pause-deployment", "source": "selected", "deployment_id": deployment["id"]}
    server.ask("/automations/", {"name": "no promotion after a flag", "trigger": trigger, "actions": [action]})
    return str(deployment["id"])


@pytest.mark.timeout(900)
def test_releases_are_audited_without_a_hand(server: Server, serving: Serving, lab: str, s3_prefix: str) -> None:
    bucket, store = open_store(f"{s3_prefix}/releases"), open_store(f"{s3_prefix}/audits")
    promotion = pause_promotion_when_flagged(server)
    serving.start()
    drop(bucket, "a-copies", "copies")
    drop(bucket, "b-unseen", "unseen")

    # both are audited; a third one that comes while they are is left to the next sweep
    until(lambda: audits(store))
    drop(bucket, "c-fresh", "fresh")
    until(lambda: [said for said in server.sweeps() if said.startswith("audited")])
    said = server.sweeps()
    assert said[-1] in ("audited 2 (1 flagged)", "audited 1 (1 flagged)"), said

    # the process is killed while it audits the third; the next one goes on, and nothing is lost
    killed = until(lambda: auditing(store))
    serving.kill()
    assert "c-fresh" not in audits(store)
    serving.start()
    until(lambda: "c-fresh" in audits(store))
    found = audits(store)
    assert {name: row["verdict"] for name, row in found.items()} == {
        "a-copies": "copying",
        "b-unseen": "no copying seen",
        "c-fresh": "copying",
    }
    assert found["b-unseen"]["forward_images"] == UNSEEN
    assert found["c-fresh"]["forward_images"] in (0, TRAIN - COPIES)  # of nothing but itself

    # there is nothing left to do, and the sweep says so
    until(lambda: server.sweeps()[-1] == "nothing to do, 3 current")
    assert len(list(store.list("results/audits/"))) == 3
    until(lambda: "sweep completed: nothing to do, 3 current" in serving.said())
    assert serving.stop() == 0
    assert len([run for run in server.runs() if not run["auto_scheduled"]]) == 2  # the first of each start came at once

    flagged = {event["resource"]["prefect.resource.id"] for event in server.events() if event["event"] == FLAGGED}
    assert flagged == {"layerprint.release.a-copies.1.1", "layerprint.release.c-fresh.1.1"}
    (event,) = [one for one in server.events() if one["payload"]["release"] == "b-unseen@1"]
    assert event["event"] == "layerprint.audit.completed"
    assert {one.get("prefect.resource.role") for one in event["related"]} >= {"reference", "store", "flow-run"}
    deployment = server.client.get(f"/deployments/{promotion}").json()
    assert deployment["paused"], killed


def audits(store: ObjectStore) -> dict[str, dict[str, Any]]:
    return {row["release"]: row for row in read_result(store, "audits").to_pylist()}


def auditing(store: ObjectStore) -> list[str]:
    """The claims that are held now, once two releases are audited."""
    if len(audits(store)) < 2:
        return []
    names = {info.key.split("/")[1] for info in store.list("claims/")}
    return [name for name in names if Claims(store).holder(name)]
