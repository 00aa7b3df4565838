"""An audit says which kinds of copies it would find, on a terminal and in its report."""

from __future__ import annotations

import pytest

from flows.cli.console import output
from flows.cli.screens.audits import show_verdicts
from flows.report.answers import answer
from flows.results.audit_result import INCONCLUSIVE, NO_COPYING, AuditResult
from flows.results.kinds_found import KindFound
from tests.storage.results.test_tables import row


def outcome(verdict: str, kinds: dict[str, KindFound]) -> AuditResult:
    numbers = {"copies_at_least": 0, "distinct_images": 90, "copies_low": 0.0, "copies_high": 0.01, "images": 90}
    return AuditResult(row("audits", run="1", verdict=verdict, **numbers), [], [], [], kinds)


@pytest.mark.parametrize("verdict", [NO_COPYING, INCONCLUSIVE])
def test_it_is_said_where_no_copies_are_seen(verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    measured = outcome(verdict, {"mirrored": KindFound(100, 98, 98)})
    assert "Finds 98 % of mirrored copies (selfcheck)." in answer(measured).sure
    show_verdicts(output(), measured)
    assert "finds 98 % of mirrored copies (selfcheck)" in " ".join(capsys.readouterr().out.split())
    assert measured.to_json()["power_by_kind"] == "finds 98 % of mirrored copies (selfcheck)"


def test_nothing_is_said_without_a_self_check() -> None:
    assert not any("selfcheck" in said for said in answer(outcome(NO_COPYING, {})).sure)
