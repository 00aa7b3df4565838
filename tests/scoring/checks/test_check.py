from __future__ import annotations

from scoring.checks.check import Check, Severity, invalidity


def check(name: str, passed: bool, severity: Severity) -> Check:
    return Check(name, passed, 1.0, 0.0, f"{name} was found", f"mend {name}", severity)


def test_all_failed_checks_are_named_with_their_remedies() -> None:
    checks = [check("codec", False, "invalid"), check("size", True, "invalid"), check("halves", False, "invalid")]
    assert invalidity(checks) == (
        "invalid: codec: codec was found (mend codec); halves: halves was found (mend halves)"
    )


def test_what_a_failure_means_depends_on_the_verdict() -> None:
    power, note = check("power", False, "inconclusive"), check("order", False, "note")
    assert invalidity([power, note]) == "invalid: power: power was found (mend power)"
    assert invalidity([power, note], saw_something=True) is None
    assert invalidity([note]) is None
    assert invalidity([]) is None
