"""Audits whose store fails for a while, and two audits at once on one store: the same results, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from flows.audit import build_reference
from flows.cli.main import run
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, load_spec
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store
from storage.results.tables import read_result
from storage.vectors.tables import VectorStore
from tests.faults.proxy import Answer, FaultyProxy, Request
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN, Write
from tests.paths import ROOT

pytestmark = pytest.mark.timeout(600)  # processes of their own start slowly on a busy machine


def test_a_flow_tries_again(runtime: Runtime, spec: AuditSpec, s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 refuses every marker for longer than its attempts: the task fails, and its second run finds all shards."""
    monkeypatch.setattr("storage.objects.s3_client.MAX_ATTEMPTS", 2)

    def first_two(request: Request) -> Answer | None:
        return (
            Answer(503, "SlowDown")
            if "/tables/" in request.path and request.method == "PUT" and request.number < 2
            else None
        )

    runtime.cluster.pool("embed")  # Ray starts before the proxy: this process, which commits, goes through it alone
    with FaultyProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.rule = first_two
        reference = build_reference(runtime, spec)
        assert len(proxy.broken) == 4
    assert (reference.tables.train.rows, reference.tables.held_out.rows) == (TRAIN, HELD_OUT)
    assert runtime.forward_images == 0  # of the runs that ended: the shards were those of the first ones


def test_two_audits_at_once(runtime: Runtime, write_spec: Write, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.settings import get_current_settings

    path = write_spec()
    store = open_store(load_spec(path).store)
    environment = {**os.environ, "PREFECT_API_URL": str(get_current_settings().api.url)}
    command = [sys.executable, "-m", "flows.cli.main", "audit", str(path), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True) as other:
        end = time.monotonic() + 120
        while not list(store.list("manifests/")):  # the other one is about to embed
            assert other.poll() is None, other.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        code = run(["audit", str(path), "--json"])
        printed, errors = other.communicate(timeout=200)
    assert (code, other.returncode) == (0, 0), errors
    ours, theirs = json.loads(capsys.readouterr().out), json.loads(printed)

    assert ours["audits"] == theirs["audits"]
    assert ours["failures"] == theirs["failures"] == []
    assert [audit["verdict"] for audit in ours["audits"]] == ["copying", "no copying seen"]
    assert len(read_result(store, "audits")) == 2
    assert len(read_result(store, "scores")) == 2 * 7
    vectors = VectorStore(store)
    tables = [vectors.committed(info.key[7:-5]) for info in store.list("tables/")]
    assert sorted(table.rows for table in tables if table) == sorted(
        [TRAIN, HELD_OUT, COPIES, UNSEEN] * 2 + [TRAIN]  # embeddings, tokens, and those of the sample of train
    )
    for table in filter(None, tables):
        rows = vectors.read(table.name, table.version, ["row", "key"])
        assert rows["row"].to_pylist() == list(range(table.rows))
        assert len(set(rows["key"].to_pylist())) == table.rows
