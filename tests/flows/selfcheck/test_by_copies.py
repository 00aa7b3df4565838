"""Placebos and copies of the user's own images, kind by kind, through the stages of an audit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from flows.audit import AuditReport
from flows.cli.main import run
from flows.results.audit_result import load_audit_result
from flows.runtime.runtime import Runtime
from flows.selfcheck.by_copies import REPEATS, _classes
from flows.selfcheck.flow import selfcheck
from flows.selfcheck.judged import ScoredSet
from flows.spec.spec import AuditSpec, load_spec
from storage.errors import InputError
from storage.image_sets.manifest import MANIFEST_SCHEMA, Manifest
from storage.objects.open import open_store
from tests.flows.conftest import HELD_OUT

COPIES = 20


def test_kinds_are_planted_and_audits_say_which_are_found(
    runtime: Runtime,
    audited: AuditReport,
    audited_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("actors.encoder.alterations.USUAL_KINDS", ("re-encoded", "mirrored", "quarter pasted"))
    path = str(audited_path)
    own = ["--perturb", "crop 50-60 + mirrored", "--copies", str(COPIES)]
    assert run(["selfcheck", path, *own, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    half = HELD_OUT // 2

    kinds = {kind["name"]: kind for kind in first["kinds"]}
    assert len(kinds) == 4
    assert kinds["re-encoded"]["found"] == kinds["re-encoded"]["source_right"] == COPIES
    for kind in kinds.values():
        assert kind["found"] + kind["missed"] == kind["planted"] <= COPIES
        assert kind["source_right"] <= kind["found"]
    assert kinds["quarter pasted"]["found"] < kinds["re-encoded"]["found"]

    trials = {trial["name"]: trial for trial in first["trials"]}
    assert not any(trial["verdict"] == "copying" for trial in trials.values() if not trial["planted"])
    assert trials["half as it is"]["images"] == first["unseen_images"] == half
    assert trials[f"each image {REPEATS} times"]["images"] == half // REPEATS  # repeated files count once
    assert "no classes" in trials["one class only"]["sentence"]
    assert first["held_out_images"] == HELD_OUT
    assert first["altered_images"] == 4 * half + half // REPEATS * REPEATS + 4 * COPIES

    again = selfcheck(runtime, load_spec(path), tuple(kinds), COPIES)
    assert json.loads(json.dumps(again.to_json())) == first

    audit_id = audited.outcomes[0].audit_id
    outcome = load_audit_result(open_store(load_spec(path).store), audit_id)
    assert outcome is not None
    assert set(outcome.kinds) == set(kinds)
    assert run(["audit", path, "--release", "unseen"]) == 0
    assert outcome.power_by_kind[:30] in " ".join(capsys.readouterr().out.split())


def test_classes_are_folders() -> None:
    keys = ["b/y.png", "a/cats/x.png", "z.png"]
    table = pa.table([keys, [1, 1, 1], keys], schema=MANIFEST_SCHEMA)
    opened = SimpleNamespace(held_out=Manifest("held_out", "objects", table))
    release = ScoredSet(np.array([2, 1]), np.zeros(2), np.zeros(2, np.int64))
    assert _classes(opened, release) == ["", "cats"]  # type: ignore[arg-type]


def test_a_kind_that_does_not_exist(runtime: Runtime, audited_spec: AuditSpec) -> None:
    with pytest.raises(InputError, match="--perturb glued: no alteration 'glued'"):
        selfcheck(runtime, audited_spec, ("re-encoded", "glued"))
