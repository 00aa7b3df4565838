"""The flows to deploy, called with plain parameters as a deployment calls them: what they say, show and tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
)
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL

from flows import deployments
from flows.cli.main import run
from flows.orchestration import artifacts
from flows.orchestration.artifacts import ProgressArtifacts
from flows.orchestration.events import PREFIX
from flows.results.audit_result import load_audit_result
from flows.runtime.runtime import Runtime
from flows.spec.spec import load_spec
from flows.sweep import sweep
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store
from tests.faults.proxy import Answer, FaultyProxy, Request
from tests.flows.conftest import Write
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(600)  # processes of their own start slowly on a busy machine

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def path(write_spec: Write) -> str:
    """A spec in the bucket, as deployments name it, over a store that these tests share."""
    spec = write_spec(store="s3://test/deployed/audits")
    open_store("s3://test/deployed").put("spec.yaml", spec.read_bytes())
    return "s3://test/deployed/spec.yaml"


def last_run(flow: str) -> FlowRun:
    """The flow's run that ended last; the server is shared by all tests and answers with 200 runs at most."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=FlowRunFilter(end_time=FlowRunFilterEndTime(is_null_=False)),
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
    return runs[0]


def artifacts_of(flow_run: UUID) -> dict[str, Artifact]:
    """The artifacts of a flow run by their keys."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
    with get_client(sync_client=True) as client:
        return {str(one.key): one for one in client.read_artifacts(artifact_filter=of_run)}


def test_an_audit_by_its_name(runtime: Runtime, path: str) -> None:
    uri = deployments.audit_release(path, "copies")
    store = open_store("s3://test/deployed/audits")
    assert store.exists(str(uri).removeprefix(f"{store.uri}/"))
    flow_run = last_run("audit_release")
    assert flow_run.state is not None
    assert flow_run.state.message == "copies@1: copying"
    found = artifacts_of(flow_run.id)
    assert {"scores-copies-1", "curve-copies-1", "outcome-copies-1", "pairs-copies-1", "report-copies-1"} <= set(found)
    rows = json.loads(str(found["scores-copies-1"].data))
    assert [row["layer"] for row in rows] == list(range(7))
    assert str(found["curve-copies-1"].data).startswith("data:image/png;base64,iVBOR")
    assert str(uri) in str(found["outcome-copies-1"].data)

    audit_id = str(uri).rpartition("/")[2].removesuffix(".parquet")
    report = store.child_uri(f"reports/{audit_id}.html")
    assert report in str(found["report-copies-1"].data)
    page = store.get(f"reports/{audit_id}.html").decode()
    assert "copies@1" in page
    assert "index.html" not in page  # there is none beside it
    assert load_audit_result(store, audit_id) is not None
    wait_until(lambda: len(events_of(audit_id)) == 2, 60, "the events")  # the server stores them in its own time
    told = events_of(audit_id)
    assert set(told) == {f"{PREFIX}.completed", f"{PREFIX}.flagged"}
    assert told[f"{PREFIX}.flagged"]["resource"]["prefect.resource.id"] == "layerprint.release.copies.1.1"


def events_of(audit_id: str) -> dict[str, dict[str, Any]]:
    return {event["event"]: event for event in events() if event["payload"]["audit_id"] == audit_id}


def events() -> list[dict[str, Any]]:
    from prefect.events.worker import EventsWorker

    EventsWorker.instance().wait_until_empty()
    body = {"filter": {"event": {"prefix": [PREFIX]}}, "limit": 50}
    return list(httpx.post(f"{PREFECT_API_URL.value()}/events/filter", json=body, timeout=30).json()["events"])


def test_a_gate_fails_the_flow(runtime: Runtime, path: str) -> None:
    assert deployments.audit_release(path, "unseen", gate=True)
    state = deployments.audit_release(path, "copies", gate=True, return_state=True)
    assert state.is_failed()
    assert state.message == "copies@1: copying"


def test_a_report_that_cannot_be_stored_is_told_and_the_audit_stands(
    runtime: Runtime, write_spec: Write, lab: str, s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def no_reports(request: Request) -> Answer | None:
        return Answer(403, "AccessDenied") if "/reports/" in request.path and request.method == "PUT" else None

    spec = str(write_spec(store="s3://test/deployed/audits", releases=[{"name": "late", "images": f"{lab}/unseen/"}]))
    runtime.cluster.pool("embed")  # Ray starts before the proxy: only this process goes through it
    with FaultyProxy(s3.endpoint) as proxy, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.rule = no_reports
        assert run(["sweep", spec, "--settle", "0"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "audited 1" in shown
        assert "not shown late@1: no report: s3://test/deployed/audits/reports/" in shown
        deployments.audit_release(spec, "late")
    flow_run = last_run("audit_release")
    assert flow_run.state is not None
    assert str(flow_run.state.message).startswith(
        "late@1: no copying seen; no report: s3://test/deployed/audits/reports/"
    )
    found = artifacts_of(flow_run.id)
    assert "report-late-1" not in found
    assert "no report" in str(found["scores-late-1"].description)
    again = sweep(runtime, spec, 0)
    assert (again.current, again.failures, again.unpublished) == ({"late@1": "no copying seen"}, {}, {})


def test_the_reference_attribution_and_upkeep(runtime: Runtime, path: str, lab: str) -> None:
    assert str(deployments.build_reference(path)).startswith("s3://test/deployed/audits/partitions/")
    deployments.audit_release(path, "copies")
    deployments.audit_release(path, "unseen")
    answer = deployments.attribute_images(path, f"{lab}/fresh/")
    assert answer["candidates"][0]["maker"] == "copies@1"  # type: ignore[index]
    done = deployments.maintain_store(path, dry_run=True)
    assert done["tables"] == []  # type: ignore[index]


def test_the_commands(runtime: Runtime, write_spec: Write, lab: str, capsys: Capture) -> None:
    spec = write_spec(store="s3://test/deployed/audits")
    assert run(["sweep", str(spec), "--settle", "0"]) == 0
    assert "copies@1" in capsys.readouterr().out
    assert run(["sweep", str(spec), "--gate", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["sentence"], document["forward_images"]) == ("nothing to do, 2 current", 0)
    assert run(["releases", "--spec", str(spec)]) == 0
    screen = capsys.readouterr().out
    assert "flagged" in screen
    assert "next sweep: not scheduled" in screen
    assert run(["releases", "--store", "s3://test/deployed/audits", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert ("copies@1", "flagged") in {(one["release"], one["state"]) for one in document["releases"]}
    assert run(["maintain", "--spec", str(spec), "--dry-run"]) == 0
    assert "nothing to remove" in capsys.readouterr().out

    content = yaml.safe_load(spec.read_text())
    content["releases"] = [{"name": "unseen", "version": 2, "images": f"{lab}/unseen/"}]
    spec.write_text(yaml.safe_dump(content))
    assert run(["sweep", str(spec), "--gate"]) == 0
    content["releases"].append({"name": "gone", "images": f"{lab}/nowhere/"})
    spec.write_text(yaml.safe_dump(content))
    assert run(["sweep", str(spec), "--gate"]) == 2
    assert "no image here" in capsys.readouterr().out


def test_a_spec_in_a_bucket(path: str, tmp_path: Path) -> None:
    store = open_store("s3://test/deployed")
    content = yaml.safe_load(store.get("spec.yaml"))
    content["store"], content["reference"]["train"] = "audits", "../lab/train/"
    store.put("relative.yaml", yaml.safe_dump(content).encode())
    spec = load_spec("s3://test/deployed/relative.yaml")
    assert (spec.store, spec.reference.train) == ("s3://test/deployed/audits", "s3://test/lab/train")


def test_progress_is_shown_at_most_once_in_two_seconds(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow

    from actors.stages.context import Progress

    clock = iter([0.0, 1.0, 2.5, 3.0, 5.0, 5.5, 10.0, 10.1])
    said: list[str] = []

    def create(percent: float, **_: str) -> int:
        said.append(f"new {percent:g}")
        return 1

    def update(_artifact: int, percent: float, **_: str) -> None:
        said.append(f"{percent:g}")

    monkeypatch.setattr(artifacts, "monotonic", lambda: next(clock))
    monkeypatch.setattr(artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", update)
    progress = ProgressArtifacts()

    def long() -> None:
        for done in (0, 10, 25, 30, 50, 100):
            progress.report(Progress("embed", "images", done, 100))
        for done in (0, 100):
            progress.report(Progress("score", "layers", done, 100))

    long()  # in no run there is nobody to show it to
    assert said == []
    flow(name="progress")(long)()
    assert said == ["new 25", "50", "100"]
