"""A store that may only be read, with nothing left to do: the audit gives its answer, and the gate works."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.main import run
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import LocalStore, open_store
from tests.faults.proxy import Answer, FaultyProxy
from tests.flows.conftest import Write, audited, audited_folder, lab, services, write_spec

__all__ = ["audited", "audited_folder", "lab", "services", "write_spec"]

DENIED = Answer(403, "AccessDenied")


@pytest.mark.usefixtures("audited")
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
