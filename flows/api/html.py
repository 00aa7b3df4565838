"""The cards that a notebook shows. They load nothing and run nothing; names from files are cut and escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment

from flows.report import words
from flows.report.facts import AuditFacts
from flows.report.figures.copies import CopyView
from flows.report.figures.layer_curves import curve_chart
from flows.report.figures.pairs import PairView
from flows.report.pages import safe_environment
from flows.results.audit_result import copy_kind

MOST_COPIES = 5
"""Listed copies in the card of an audit."""


def audit_card(facts: AuditFacts, pairs: Sequence[PairView], copies: Sequence[CopyView] = ()) -> str:
    """An audit: verdict, sentence, the strongest copies, the curve, the closest pairs, the numbers of every layer.

    Args:
        facts: The audit.
        pairs: The pairs to show.
        copies: The copies to show as pictures.
    """
    outcome = facts.outcome
    tone = words.TONES.get(outcome.verdict, "open")
    return _render(
        "audit.html",
        label=outcome.label,
        verdict=outcome.verdict,
        tone=tone,
        mark=words.MARKS[tone],
        audit=facts.audit,
        scores=outcome.scores,
        curve=curve_chart(facts),
        pairs=pairs,
        copies=copies,
        listed=outcome.listed,
        most=MOST_COPIES,
        kind=copy_kind,
    )


def pairs_card(pairs: Sequence[PairView]) -> str:
    """Pairs: each generated image beside its nearest training image."""
    return _render("pairs_card.html", pairs=pairs)


def attribution_card(verdict: str, sentence: str, makers: Sequence[Mapping[str, Any]], unknown: float) -> str:
    """An attribution: verdict, sentence, the most probable makers.

    Args:
        verdict: The verdict.
        sentence: It in words.
        makers: Rows with `maker`, `probability` and `p_value`, the most probable first.
        unknown: Probability that none of them is the maker.
    """
    return _render("attribution.html", verdict=verdict, sentence=sentence, makers=makers, unknown=unknown)


def _render(template: str, **context: Any) -> str:
    return _environment().get_template(template).render(**context)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = safe_environment("flows.api")
    environment.filters.update(number=_number)
    return environment


def _number(value: float | None, form: str) -> str:
    """A number that may be missing.

    >>> _number(0.456, ".2f"), _number(None, ".2f")
    ('0.46', '–')
    """
    return "–" if value is None else f"{value:{form}}"
