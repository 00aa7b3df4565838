"""Placebos and planted copies made of the user's own images, where the layers decide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from flows.cli.main import run
from flows.runtime.runtime import Runtime
from flows.selfcheck.by_layers import SelfCheck, Trial
from flows.selfcheck.flow import selfcheck
from flows.spec.spec import AuditSpec, CopiesSpec, load_spec
from storage.errors import InputError
from tests.flows.conftest import HELD_OUT, write_yaml


def by_layers(path: Path) -> Path:
    """The spec without the copy score."""
    content = yaml.safe_load(path.read_text())
    return write_yaml(path, {**content, "copies": False})


@pytest.mark.parametrize("search", ["in_cell", "global"])
def test_placebos_pass_and_planted_copies_are_measured(runtime: Runtime, audited_spec: AuditSpec, search: str) -> None:
    gate = audited_spec.gate.model_copy(update={"max_copy_rate": 0.0})
    scoring = audited_spec.scoring.model_copy(update={"search": search})
    spec = audited_spec.model_copy(update={"gate": gate, "scoring": scoring, "copies": False})
    found = selfcheck(runtime, spec)
    assert isinstance(found, SelfCheck)
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
    path = str(by_layers(audited_path))
    assert run(["selfcheck", path, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    again = selfcheck(runtime, load_spec(path))
    assert json.loads(json.dumps(again.to_json())) == first
    assert runtime.forward_images == 0
    assert first["detectable"]["2000"] < first["detectable"]["200"]
    assert run(["selfcheck", path]) == 0
    shown = capsys.readouterr().out
    assert all(f"{trial['name']} " in shown for trial in first["trials"])
    assert "wrong" not in shown


@pytest.mark.parametrize("copies", [False, CopiesSpec()])
def test_too_few_held_out_images_to_split(
    runtime: Runtime, spec: AuditSpec, lab: str, s3_prefix: str, copies: CopiesSpec | bool
) -> None:
    reference = spec.reference.model_copy(update={"held_out": f"{lab}/copies/", "train": f"{lab}/unseen/"})
    small = spec.model_copy(update={"reference": reference, "store": f"{s3_prefix}/small", "copies": copies})
    with pytest.raises(InputError, match="80 images cannot be split"):
        selfcheck(runtime, small)


def test_a_trial_that_misleads_fails() -> None:
    trial = Trial("re-encoded", 0.0, 70, True, 0.2, 0.1, 0.3, {0: 0.5}, False, "copying")
    assert not trial.passed


def test_own_kinds_need_the_copy_score(audited_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selfcheck", str(by_layers(audited_path)), "--perturb", "crop 50-60"]) == 2
    assert "remove --perturb" in " ".join(capsys.readouterr().err.split())
