"""A validity check as a named row of the result, and the effect of failed checks on a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["invalid", "inconclusive", "note"]
"""Effect of a failed check: no verdict counts; a verdict that saw nothing does not count; for information."""


@dataclass(frozen=True, slots=True)
class Check:
    """A condition of a valid audit.

    Attributes:
        name: Name of the check.
        passed: Whether the condition holds.
        value: The number that decides; None when it could not be measured.
        threshold: The limit of ``value``.
        sentence: The finding in words, with its numbers.
        remedy: How to fix a failure; empty when the check passed.
        severity: Effect of a failure.
    """

    name: str
    passed: bool
    value: float | None
    threshold: float
    sentence: str
    remedy: str = ""
    severity: Severity = "invalid"


def failed(checks: Iterable[Check], severity: Severity) -> list[Check]:
    """The failed checks with this effect."""
    return [check for check in checks if not check.passed and check.severity == severity]


def invalidity(checks: Iterable[Check], *, saw_something: bool = False) -> str | None:
    """Say why an audit is invalid and how to fix it; None when it is valid.

    Args:
        checks: The audit's checks.
        saw_something: True for a verdict that found copying or a difference: a lack of power then does not matter.

    >>> failed = Check("power", False, 0.2, 0.05, "only copy rates of 20 % can be seen", "more images", "inconclusive")
    >>> invalidity([failed])
    'invalid: power: only copy rates of 20 % can be seen (more images)'
    >>> invalidity([failed], saw_something=True) is None
    True
    """
    harmful = {"invalid"} if saw_something else {"invalid", "inconclusive"}
    wrong = [check for check in checks if not check.passed and check.severity in harmful]
    if not wrong:
        return None
    return "invalid: " + "; ".join(f"{check.name}: {check.sentence} ({check.remedy})" for check in wrong)
