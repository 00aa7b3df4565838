from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows.cli.console import output
from flows.cli.screens.audits import COPIES, COPY_RATE, MOST_COPIES, show_report, show_verdicts
from flows.cli.screens.comparisons import show_comparison
from flows.results.audit_result import AuditResult
from tests.storage.results.test_tables import row


def outcome(copies: int, **columns: Any) -> AuditResult:
    numbers = {
        "copies_at_least": 12,
        "distinct_images": 1300,
        "units": 1300,
        "copies_low": 0.029,
        "copies_high": 0.0812,
    }
    audit = row("audits", release="copier", version="1", run="1", verdict="copying", **numbers | columns)
    names = {i: {"image_key": f"i{i}.png", "train_key": f"t{i}.png"} for i in range(1, copies + 1)}
    flags = [{"part": i % 2 == 0, "identical": i == 1, "listed": i < copies} for i in names]
    rows = [
        row("copies", rank=i, score=30.0 - i, view="mirrored", **names[i], **kind)
        for i, kind in zip(names, flags, strict=True)
    ]
    return AuditResult(audit, [], [], rows)


@pytest.mark.parametrize("width", [60, 100])
def test_the_strongest_copies_are_shown_and_where_the_others_are(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_verdicts(output(), outcome(9))
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "i1.png → t1.png the same file, mirrored, score 29.0" in text
    assert "i2.png → t2.png a part, mirrored, score 28.0" in text
    assert "i3.png → t3.png whole, mirrored, score 27.0" in text
    assert text.count("→") == MOST_COPIES + 1  # and in the heading
    assert "and 3 more" in text  # 8 of 9 are listed
    assert "FROM copies WHERE listed AND audit_id = 'x' ORDER BY rank" in text


def test_a_release_is_said_to_copy_by_its_copies(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(SimpleNamespace(outcomes=[outcome(2)], failures={}), 0, [])  # type: ignore[arg-type]
    text = " ".join(capsys.readouterr().out.split())
    assert "≥ 12 of 1,300 2.9–8.1" in text
    assert COPIES in text
    assert COPY_RATE not in text
    assert "more:" not in text


def test_an_audit_by_layers_looks_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"copy_rate": 0.052, "copy_rate_low": 0.027, "copy_rate_high": 0.084}
    old = outcome(0, copies_at_least=None, **rates)
    show_report(SimpleNamespace(outcomes=[old], failures={}), 0, [])  # type: ignore[arg-type]
    text = " ".join(capsys.readouterr().out.split())
    assert "copy rate % Â first Â last" in text
    assert "5.2 (2.7–8.4)" in text
    assert COPY_RATE in text
    assert COPIES not in text


def test_both_kinds_stand_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"copy_rate": 0.052, "copy_rate_low": 0.027, "copy_rate_high": 0.084}
    old = outcome(0, copies_at_least=None, **rates)
    show_report(SimpleNamespace(outcomes=[outcome(1), old], failures={}), 0, [])  # type: ignore[arg-type]
    text = " ".join(capsys.readouterr().out.split())
    assert "≥ 12 of 1,300 2.9–8.1" in text
    assert "– 5.2 (2.7–8.4)" in text


def test_a_comparison_names_the_copies(capsys: pytest.CaptureFixture[str]) -> None:
    drift = SimpleNamespace(distance=[])
    texts = {"sentence": "alike", "drift_sentence": "no drift"}
    compared: Any = SimpleNamespace(
        first=outcome(1), second=outcome(1), layers=[], comparison=None, drift=drift, **texts
    )
    show_comparison(compared)
    assert "copier@1: copying, copies ≥ 12 of 1,300, copy rate 2.9–8.1 %" in " ".join(capsys.readouterr().out.split())
