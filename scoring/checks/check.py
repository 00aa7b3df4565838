"""A validity check as a named row of the result, and what failed checks do to a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["invalid", "inconclusive", "note"]
"""What a failed check means: no verdict counts; a verdict that saw nothing does not count; worth knowing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for an audit to mean what it says.

    Attributes:
        name: What was checked.
        passed: Whether it holds.
        value: The number that decides; None when it could not be measured.
        threshold: The number it was held against.
        sentence: What was found, in words with its numbers.
        remedy: What to do when it failed; empty when it passed.
        severity: What a failure means.
    """

    name: str
    passed: bool
    value: float | None
    threshold: float
    sentence: str
    remedy: str = ""
    severity: Severity = "invalid"


def invalidity(checks: Iterable[Check], *, saw_something: bool = False) -> str | None:
    """Why an audit is invalid, with the remedies; None when it is valid.

    Args:
        checks: The audit's checks.
        saw_something: True for a verdict that found what it looked for (copying, a difference): a lack of
            power then does no harm.

    >>> failed = Check("power", False, 0.2, 0.05, "only copy rates of 20 % can be seen", "more images", "inconclusive")
    >>> invalidity([failed])
    'invalid: power: only copy rates of 20 % can be seen (more images)'
    >>> invalidity([failed], saw_something=True) is None
    True
    """
    harmful = {"invalid"} if saw_something else {"invalid", "inconclusive"}
    failed = [check for check in checks if not check.passed and check.severity in harmful]
    if not failed:
        return None
    return "invalid: " + "; ".join(f"{check.name}: {check.sentence} ({check.remedy})" for check in failed)
