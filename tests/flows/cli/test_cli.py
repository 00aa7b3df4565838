"""The commands as a user types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flows.spec.spec
from flows.cli.console import safe
from flows.cli.main import run
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from storage.objects.open import open_store
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN, Write

Capture = pytest.CaptureFixture[str]


def as_json(capsys: Capture, *arguments: str) -> Any:
    """The document of a command that is run with --json."""
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_audit_from_spec_to_sql(runtime: Runtime, write_spec: Write, capsys: Capture) -> None:
    path = str(write_spec())
    assert run(["audit", path]) == 0
    shown = capsys.readouterr()
    assert "copies@1" in shown.out
    assert "no copying seen" in shown.out
    assert f"{TRAIN + HELD_OUT + COPIES + UNSEEN} images" in shown.out
    assert f"embed copies@1: {COPIES} images" in shown.err

    repeated = as_json(capsys, "audit", path, "--release", "copies")
    assert repeated["forward_images"] == 0
    (audit,) = repeated["audits"]
    assert (audit["release"], audit["verdict"], len(audit["scores"])) == ("copies", "copying", 7)
    store = open_store(audit["settings"] and json.loads(audit["settings"])["store"])
    for picture in repeated["pictures"]:
        png = store.get(picture.removeprefix(store.uri + "/"))
        assert png.startswith(b"\x89PNG")

    assert run(["audit", path, "--gate"]) == 3
    assert run(["audit", path, "--gate", "--release", "unseen"]) == 0
    capsys.readouterr()

    rows = as_json(capsys, "sql", "--spec", path, "SELECT release, verdict FROM releases ORDER BY release")
    assert rows == [
        {"release": "copies", "verdict": "copying"},
        {"release": "unseen", "verdict": "no copying seen"},
    ]
    assert run(["sql", "--store", store.uri, "SELECT count(*) AS pairs FROM evidence"]) == 0
    assert "280" in capsys.readouterr().out

    status = as_json(capsys, "status", "--spec", path)
    assert [row["release"] for row in status["releases"]] == ["copies", "unseen"]
    assert status["not_audited"] == status["unfinished"] == []
    assert run(["status", "--spec", path]) == 0
    assert "copies@1" in capsys.readouterr().out

    attributed = as_json(capsys, "attribute", path, "s3://test/lab/fresh/")
    assert attributed["candidates"][0]["maker"] == "copies@1"
    assert run(["attribute", path, "s3://test/lab/fresh/"]) == 0
    assert "copies@1" in capsys.readouterr().out

    reference = as_json(capsys, "reference", path)
    assert (reference["train_images"], reference["held_out_images"]) == (TRAIN, HELD_OUT)
    assert run(["reference", path]) == 0
    shown_reference = capsys.readouterr().out
    assert f"{TRAIN} training images" in shown_reference
    assert f"{HELD_OUT} held-out images" in shown_reference


def test_a_release_that_fails_ends_with_2_and_the_others_are_audited(
    runtime: Runtime, audited_spec: AuditSpec, write_spec: Write, lab: str, capsys: Capture
) -> None:
    releases = [{"name": "copies", "images": f"{lab}/copies/"}, {"name": "gone", "images": f"{lab}/nothing/"}]
    path = str(write_spec(store=audited_spec.store, releases=releases))
    assert run(["audit", path, "--gate"]) == 2
    shown = capsys.readouterr().out
    assert "copies@1" in shown
    assert "gone@1" in shown
    assert run(["audit", path, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [failure["release"] for failure in document["failures"]] == ["gone@1"]
    assert json.loads("[" + capsys.readouterr().out + "]") == []
    assert run(["status", "--spec", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_audited"] == ["gone@1"]


def test_errors_have_a_remedy_and_no_traceback(tmp_path: Path, capsys: Capture) -> None:
    assert run(["audit", str(tmp_path / "none.yaml")]) == 2
    error, remedy = capsys.readouterr().err.splitlines()
    assert "none.yaml" in error
    assert remedy.startswith("→ ")
    assert run(["audit", str(tmp_path / "none.yaml"), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert document["remedy"]


@pytest.mark.parametrize("arguments", [["audit"], ["nonsense"], ["sql", "--nope", "x"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: Capture) -> None:
    assert run(arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted(_path: Path, _harmonise: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flows.spec.spec, "load_spec", interrupted)
    assert run(["audit", "spec.yaml"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_unexpected_error_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def broken(_path: Path, _harmonise: str | None) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(flows.spec.spec, "load_spec", broken)
    assert run(["audit", "spec.yaml"]) == 1
    shown = capsys.readouterr().err
    assert "RuntimeError: a bug" in shown
    assert "--verbose" in shown
    assert "Traceback" not in shown


def test_hostile_names_cannot_control_the_terminal() -> None:
    assert safe("\x1b[2J[red]x[/]") == "�[2J\\[red]x\\[/]"


@pytest.mark.usefixtures("processes")
def test_help_lists_commands_and_exit_codes_and_is_fast() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("demo", "audit", "reference", "attribute", "sql", "status", "doctor", "open", "stack"):
        assert re.search(rf"^│ {command} ", done.stdout, re.MULTILINE), command
    for number in (0, 1, 2, 3, 130):
        assert re.search(rf"\b{number} \w", " ".join(done.stdout.split())), number
    code = "import flows.cli.main, sys; print([m for m in ('torch', 'ray', 'prefect', 'lancedb') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_doctor_reports_a_bad_store(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.doctor.checks
    from flows.doctor.checks import Finding

    findings = [Finding("Python", "ok", "3.11"), Finding("store", "fail", "gone", "make it")]
    monkeypatch.setattr(flows.doctor.checks, "run_checks", lambda store, sets: iter(findings))
    assert run(["doctor", "--store", str(tmp_path)]) == 2
    shown = capsys.readouterr().out
    assert "fail store: gone" in shown
    assert "→ make it" in shown
    assert run(["doctor", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)[1]["status"] == "fail"
