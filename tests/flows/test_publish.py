"""What cannot be made for people of an audit is told, and the audit stands."""

from __future__ import annotations

import pytest

from flows.cli import run
from flows.runtime import Runtime
from flows.sweep import sweep
from storage.embedded_s3 import EmbeddedS3
from tests.faults.proxy import Answer, FaultyProxy, Request
from tests.flows.conftest import Write


def test_a_report_that_cannot_be_stored_is_told(
    runtime: Runtime,
    write_spec: Write,
    lab: str,
    s3: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_reports(request: Request) -> Answer | None:
        return Answer(403, "AccessDenied") if "/reports/" in request.path and request.method == "PUT" else None

    spec = str(write_spec(releases=[{"name": "unseen", "images": f"{lab}/unseen/"}]))
    runtime.cluster.pool("embed")  # Ray starts before the proxy: this process alone goes through it
    with FaultyProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.rule = no_reports
        assert run(["sweep", spec, "--settle", "0"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "audited 1" in shown
    assert "not shown unseen@1: no report: s3://test" in shown
    runtime.forget()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    again = sweep(spec, 0)
    assert (again.standing, again.failures, again.unpublished) == ({"unseen@1": "no copying seen"}, {}, {})
