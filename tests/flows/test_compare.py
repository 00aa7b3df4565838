"""Two releases side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.main import run
from flows.compare import compare
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec


def test_the_memorizer_is_closer(runtime: Runtime, audited_spec: AuditSpec) -> None:
    copies, unseen = audited_spec.releases
    found = compare(runtime, audited_spec, copies, unseen)
    first = {row["layer"]: row["a_hat"] for row in found.first.scores}
    second = {row["layer"]: row["a_hat"] for row in found.second.scores}
    assert found.layers == list(range(7))
    for layer, difference in zip(found.layers, found.comparison.difference, strict=True):
        assert difference == pytest.approx(first[layer] - second[layer])
    assert (found.comparison.high < 0).all()
    assert found.comparison.p_joint < 0.01
    assert found.sentence.startswith("copies@1 is closer")
    assert found.drift.curve_p < 1e-6
    assert found.drift.p < 0.01
    assert found.drift_sentence.startswith("copies@1 and unseen@2 make different images")


def test_a_release_is_like_itself(runtime: Runtime, audited_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(audited_path)
    assert run(["compare", path, "unseen", "unseen", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["p_joint"] > 0.9
    assert document["drift_p"] > 0.9
    assert all(layer["drift"] == 0 for layer in document["layers"])
    assert all(layer["difference"] == 0 for layer in document["layers"])
    assert run(["compare", path, "copies", "unseen"]) == 0
    shown = capsys.readouterr().out
    assert "copies@1 is closer" in " ".join(shown.split())
    assert run(["compare", path, "copies", "nobody"]) == 2
