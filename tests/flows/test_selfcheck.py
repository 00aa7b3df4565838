"""Placebos and planted copies made of the user's own images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.cli.main import run
from flows.runtime.runtime import Runtime
from flows.selfcheck import Trial, selfcheck
from flows.spec.spec import AuditSpec, load_spec
from storage.errors import InputError
from tests.flows.conftest import HELD_OUT


@pytest.mark.parametrize("search", ["in_cell", "global"])
def test_placebos_pass_and_planted_copies_are_measured(runtime: Runtime, audited_spec: AuditSpec, search: str) -> None:
    gate = audited_spec.gate.model_copy(update={"max_copy_rate": 0.0})
    scoring = audited_spec.scoring.model_copy(update={"search": search})
    found = selfcheck(runtime, audited_spec.model_copy(update={"gate": gate, "scoring": scoring}))
    half, placebo, one, five = found.trials
    assert [trial.name for trial in found.trials] == ["half against half", "re-encoded", "1% planted", "5% planted"]
    assert not half.copying
    assert not placebo.copying
    assert {trial.images for trial in found.trials} == {HELD_OUT // 2}
    assert one.wanted is None  # one image of 70 cannot be seen
    for layer, a_hat in five.a_hats.items():
        assert a_hat < placebo.a_hats[layer]
    assert found.passed
    assert found.held_out_images == HELD_OUT


def test_it_is_repeated_without_a_forward_pass(
    runtime: Runtime, audited_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(audited_path)
    assert run(["selfcheck", path, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    again = selfcheck(runtime, load_spec(path))
    assert json.loads(json.dumps({**asdict(again), "passed": again.passed})) == first
    assert runtime.forward_images == 0
    assert first["detectable"]["2000"] < first["detectable"]["200"]
    assert run(["selfcheck", path]) == 0
    shown = capsys.readouterr().out
    assert all(f"{trial['name']} " in shown for trial in first["trials"])
    assert "wrong" not in shown


def test_too_few_held_out_images_to_split(runtime: Runtime, spec: AuditSpec, lab: str, s3_prefix: str) -> None:
    reference = spec.reference.model_copy(update={"held_out": f"{lab}/copies/", "train": f"{lab}/unseen/"})
    small = spec.model_copy(update={"reference": reference, "store": f"{s3_prefix}/small"})
    with pytest.raises(InputError, match="80 images cannot be split"):
        selfcheck(runtime, small)


def test_a_trial_that_misleads_fails() -> None:
    trial = Trial("re-encoded", 0.0, 70, True, 0.2, 0.1, 0.3, {0: 0.5}, False, "copying")
    assert not trial.passed
