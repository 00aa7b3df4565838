"""Audits whose stages run as Ray jobs on a cluster elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling

from actors.ray_job.client import JobCluster
from flows.audit import audit
from flows.orchestration.ray_jobs import job_settings, reap_jobs
from flows.results.identity import scoring_digest
from flows.runtime.runtime import Runtime, running
from flows.spec.cluster import ClusterSpec
from flows.spec.spec import load_spec
from storage.errors import InputError
from storage.objects.open import ObjectStore, open_store
from storage.results.tables import read_result
from tests.actors.ray_job.test_client import squares
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, Write
from tests.ray_head import TOKEN, RayHead

pytestmark = pytest.mark.timeout(600)  # processes of their own start slowly on a busy machine


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", TOKEN)


def _cluster(head: RayHead) -> dict[str, Any]:
    return {"ray": head.jobs_api, "token": "env:A_TOKEN", "embed": {"hosts": 1}, "layers": {"hosts": 2}}


def _one(write_spec: Write, head: RayHead, lab: str) -> Path:
    return write_spec(cluster=_cluster(head), releases=[{"name": "copies", "images": f"{lab}/copies/"}])


def test_jobs_give_what_a_ray_of_our_own_gives(
    runtime: Runtime, write_spec: Write, head: RayHead, lab: str, s3_prefix: str
) -> None:
    spec = load_spec(_one(write_spec, head, lab))
    (there,) = audit(runtime, spec).outcomes
    assert runtime.forward_images == TRAIN + HELD_OUT + COPIES
    assert len(head.jobs().unfinished()) == 1, "the whole audit is one job"
    runtime.close()
    _wait_for(lambda: not head.jobs().unfinished(), 15)
    assert list(open_store(spec.store).list("jobs/")) == []
    local = spec.model_copy(update={"cluster": None, "store": f"{s3_prefix}/local"})
    with running() as fresh:
        (here,) = audit(fresh, local).outcomes
    assert there.audit_id == here.audit_id, "the cluster is no part of an audit's identity"
    assert there.audit["spec_digest"] != here.audit["spec_digest"], "the store is part of the spec"
    assert there.scores == here.scores
    assert there.checks == here.checks
    assert TOKEN not in json.dumps(there.to_json(), default=str)
    for table in ("profiles", "evidence"):
        name = "profile_id" if table == "profiles" else "audit_id"
        first, second = (
            read_result(open_store(one.store), table, here.audit[name]).drop_columns(
                [column for column in ("created_at", "table_version") if table == "profiles"]
            )
            for one in (spec, local)
        )
        assert first.equals(second)


class Command:
    """`layerprint audit SPEC` in a process of its own, with the session's Prefect server."""

    def __init__(self, spec: Path, folder: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        env |= {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": str(PREFECT_API_URL.value())}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", "audit", str(spec), "--json"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> dict[str, Any]:
        """Its document."""
        out, err = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, out + err
        document: dict[str, Any] = json.loads(out)
        return document


def _wait_for(what: Callable[[], Any], seconds: float = 100) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def _shards(store: ObjectStore) -> int:
    """Receipts of embedded shards."""
    return len(list(store.list("receipts/")))


def test_a_killed_audit_goes_on_in_its_job_and_a_terminated_one_stops_it(
    runtime: Runtime, write_spec: Write, head: RayHead, lab: str, tmp_path: Path
) -> None:
    spec = _one(write_spec, head, lab)
    store = open_store(load_spec(spec).store)
    lost = Command(spec, tmp_path)
    _wait_for(lambda: list(store.list("jobs/")))
    (job,) = _wait_for(head.jobs().unfinished)
    lost.process.send_signal(signal.SIGKILL)
    lost.process.communicate()
    stopped = Command(spec, tmp_path)
    _wait_for(lambda: _shards(store))
    assert list(head.jobs().unfinished()) == [job], "the second command works with the job of the first"
    stopped.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, told = stopped.process.communicate(timeout=60)
    assert stopped.process.returncode == 143, told
    _wait_for(lambda: not head.jobs().unfinished(), 15)
    assert time.monotonic() - began < 15
    found = Command(spec, tmp_path).end()
    assert [row["verdict"] for row in found["audits"]] == ["copying"]
    assert set(read_result(store, "scores")["m"].to_pylist()) == {COPIES}
    assert _shards(store) == 7, "one of each set, and of the tokens of each and of the train sample"


SERVE = """
from prefect.types.entrypoint import EntrypointType
from flows.deployments import audit_release
audit_release.serve(name="cancelled", entrypoint_type=EntrypointType.MODULE_PATH)
"""


@pytest.fixture
def serving(runtime: Runtime, tmp_path: Path) -> Iterator[None]:
    """A process that runs what is asked of the session's Prefect server."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_HOME": str(tmp_path / "home"),
    }
    environment |= {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def test_a_run_that_is_cancelled_through_the_api_stops_its_job(
    serving: None, write_spec: Write, head: RayHead, lab: str, tmp_path: Path
) -> None:
    spec = _one(write_spec, head, lab)
    store = open_store(load_spec(spec).store)
    with get_client(sync_client=True) as client:

        def deployment() -> Any:
            with suppress(ObjectNotFound):
                return client.read_deployment_by_name("audit_release/cancelled")

        run = client.create_flow_run_from_deployment(
            _wait_for(deployment).id, parameters={"spec": str(spec), "release": "copies"}
        )
        _wait_for(lambda: _shards(store))
        ((_, told),) = head.jobs().unfinished().items()
        assert told["flow_run"] == str(run.id)
        client.set_flow_run_state(run.id, Cancelling())
        began = time.monotonic()
        _wait_for(lambda: not head.jobs().unfinished(), 20)
        assert time.monotonic() - began < 15
        _wait_for(lambda: (state := client.read_flow_run(run.id).state) and state.is_cancelled(), 30)
    assert [row["verdict"] for row in Command(spec, tmp_path).end()["audits"]] == ["copying"]
    assert _shards(store) == 7, "one of each set, and of the tokens of each and of the train sample"


def test_jobs_of_flows_that_are_gone_are_stopped(runtime: Runtime, head: RayHead, s3_prefix: str) -> None:
    @flow(validate_parameters=False, persist_result=False)
    def ended() -> str:
        return str(flow_run.id)

    @flow(validate_parameters=False, persist_result=False)
    def going_on(spec: ClusterSpec, gone: str) -> tuple[list[str], list[str], list[str]]:
        ours = str(PREFECT_API_URL.value())
        labels = [
            {"flow_run": gone, "prefect": ours},
            {"flow_run": str(flow_run.id), "prefect": ours},
            {"flow_run": gone, "prefect": "http://another:4200/api"},
        ]
        settings = [replace(head.settings(1), labels=one) for one in labels]
        stores = [open_store(f"{s3_prefix}/{i}") for i in range(3)]  # a job a store
        running = [
            squares(JobCluster(one, store), "layers", 60, 1.0) for one, store in zip(settings, stores, strict=True)
        ]
        for one in running:
            next(one)
        said = reap_jobs(spec, dry_run=True)
        before = list(head.jobs().unfinished())
        assert reap_jobs(spec) == said
        _wait_for(lambda: len(head.jobs().unfinished()) < 3, 15)
        after = list(head.jobs().unfinished())
        for job in after:
            head.jobs().stop(job)
        return said, before, after

    said, before, after = going_on(ClusterSpec.model_validate(_cluster(head)), ended())
    assert len(said) == 1
    assert set(before) - set(after) == set(said)


def test_a_token_that_is_not_where_the_spec_says(tmp_path: Path) -> None:
    wanting = {"ray": "http://head:8265", "token": "env:NOT_SET"}
    with pytest.raises(InputError, match="the variable NOT_SET is not set"):
        job_settings(ClusterSpec.model_validate(wanting))
    with pytest.raises(InputError, match="cannot be read"):
        job_settings(ClusterSpec.model_validate({**wanting, "token": f"file:{tmp_path}/none"}))
    (tmp_path / "token").write_text("abc\n")
    found = job_settings(ClusterSpec.model_validate({**wanting, "token": f"file:{tmp_path}/token"}))
    assert found.token == "abc"
    assert "abc" not in repr(found)


def test_the_cluster_changes_no_digest(write_spec: Write) -> None:
    plain = load_spec(write_spec())
    with_cluster = load_spec(write_spec(cluster={"ray": "http://head:8265"}))
    assert scoring_digest(plain) == scoring_digest(with_cluster)


@pytest.mark.parametrize(
    "wrong", [{"ray": "ray://head:10001"}, {"ray": "http://user:secret@head"}, {"ray": "http://head", "token": "abc"}]
)
def test_a_cluster_that_cannot_be_meant_is_refused(write_spec: Write, wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match="cluster"):
        load_spec(write_spec(cluster=wrong))
