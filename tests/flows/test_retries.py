"""What a flow tries again, and what it does not: by real tasks of Prefect, and over a store that refuses."""

from __future__ import annotations

import errno
import pkgutil
from importlib import import_module

import pytest
from prefect import Flow, Task, flow, task

import flows
from flows.audit import build_reference
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from flows.tasks import RETRIED, is_retried
from storage.errors import InputError, LayerprintError, StageError, StoreError, StoreUnavailableError
from storage.objects.embedded_s3 import EmbeddedS3
from tests.faults.proxy import Answer, FaultyProxy, Request

TRIES = 1 + int(RETRIED["retries"])


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (StoreUnavailableError("s3://b/x: 503", ""), TRIES),
        (StageError("embed: every process died", ""), TRIES),
        (ConnectionResetError(), TRIES),
        (TimeoutError(), TRIES),
        (StoreError("s3://b/x: the table is damaged", ""), 1),
        (InputError("release: too few images", ""), 1),
        (LayerprintError("", ""), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (PermissionError(), 1),
        (ValueError("a fault of ours"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_may_pass_is_tried_again(runtime: Runtime, error: Exception, tries: int) -> None:
    tried: list[int] = []

    @task(**RETRIED | {"retry_delay_seconds": 0})
    def fails() -> None:
        tried.append(1)
        raise error

    @flow(name="retries")
    def one() -> None:
        fails()

    with pytest.raises(type(error)):
        one()
    assert len(tried) == tries


def test_every_task_keeps_to_the_rule_and_flows_leave_it_to_them() -> None:
    modules = [import_module(one.name) for one in pkgutil.walk_packages(flows.__path__, "flows.")]
    found = {(module.__name__, name): one for module in modules for name, one in vars(module).items()}
    tasks = {place: one for place, one in found.items() if isinstance(one, Task)}
    assert len(tasks) >= 6
    assert {place for place, one in tasks.items() if one.retry_condition_fn is not is_retried} == set()
    assert {place for place, one in found.items() if isinstance(one, Flow) and one.retries} == set()


def test_a_store_that_refuses_is_asked_once(
    runtime: Runtime, spec: AuditSpec, s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_encoders(request: Request) -> Answer | None:
        return Answer(403, "AccessDenied") if "/encoders/" in request.path and request.method == "PUT" else None

    runtime.cluster.pool("embed")  # Ray starts before the proxy: this process alone goes through it
    with FaultyProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.rule = no_encoders
        with pytest.raises(StoreError) as refused:
            build_reference(runtime, spec)
        assert not isinstance(refused.value, StoreUnavailableError)
        assert len(proxy.broken) == 1
