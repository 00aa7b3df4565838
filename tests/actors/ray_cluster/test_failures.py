"""What a call that did not come back means to the user."""

from __future__ import annotations

import pytest
import ray
from ray.exceptions import ActorDiedError, RaySystemError, RayTaskError

from actors.ray_cluster.failures import WorkerFailure, outcome
from storage.errors import StageError

IMPORT = "ModuleNotFoundError: No module named 'actors'"


def _raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def get(_ref: object) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)


@pytest.mark.parametrize("kind", ["task", "start", "system"])
def test_a_cluster_without_layerprint_says_so(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    text = f"the actor failed to be imported\n  {IMPORT}"
    task = RayTaskError("run", text, RuntimeError(text))
    errors: dict[str, Exception] = {"task": task, "start": ActorDiedError(task), "system": RaySystemError(text)}
    _raising(monkeypatch, errors[kind])
    with pytest.raises(StageError, match="embed: layerprint is not installed on the cluster") as caught:
        outcome(None, "embed")
    assert "cluster.runtime_env" in caught.value.remedy


def test_a_process_that_was_killed_is_no_such_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(monkeypatch, ActorDiedError())
    assert isinstance(outcome(None, "embed"), WorkerFailure)
