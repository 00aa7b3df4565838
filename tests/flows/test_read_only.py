"""A store that may only be read, with nothing left to do: the audit gives its answer, and the gate works."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.main import run
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import LocalStore, open_store
from tests.faults.proxy import Answer, FaultyProxy
from tests.flows.conftest import Write

DENIED = Answer(403, "AccessDenied")


@pytest.fixture
def proxy(s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy that this process reaches the S3 server through."""
    with FaultyProxy(s3.endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made
    gc.collect()  # sockets that the proxy broke


@pytest.mark.usefixtures("audited")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_gate_with_a_role_that_may_only_read(
    s3: EmbeddedS3,
    write_spec: Write,
    audited_folder: Path,
    proxy: FaultyProxy,
    s3_prefix: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    store = open_store(f"{s3_prefix}/audits")
    local = LocalStore(audited_folder)
    for info in local.list():
        store.put(info.key, local.get(info.key))
    proxy.rule = lambda request: DENIED if request.method != "GET" and "/audits/" in request.path else None
    assert run(["audit", str(write_spec(store=store.uri)), "--gate"]) == 3
    shown = capfd.readouterr()
    assert "copying" in shown.out
    assert "Error" not in shown.err
    assert proxy.broken
    assert run(["status", "--store", store.uri]) == 0
