"""Artifacts in Prefect's UI: progress of long stages, the scores, the curve, a link to the report.

Artifacts are for people. When Prefect's server refuses one, the work goes on and the log says so.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext

from actors.stages.context import Progress
from flows.results.audit_result import AuditResult, copy_kind
from flows.text import artifact_key, markdown

EVERY_S = 2.0

MOST_COPIES = 100
"""Listed copies in the table of an audit; the result table `copies` has all."""

_log = logging.getLogger(__name__)


@dataclass
class _Shown:
    """The progress artifact of one stage; ``artifact`` is None until the stage has run for two seconds."""

    began: float
    last: float
    artifact: UUID | None = None


class ProgressArtifacts:
    """Progress of the stages of the current flow run, at most one message per stage in two seconds.

    A stage that ends within two seconds is not shown.
    """

    def __init__(self) -> None:
        self._stages: dict[str, _Shown] = {}

    def report(self, now: Progress) -> None:
        """Show the progress of a stage."""
        if not (TaskRunContext.get() or FlowRunContext.get()):
            return
        clock = monotonic()
        shown = self._stages.setdefault(now.stage, _Shown(clock, clock))
        ended = now.done >= now.total
        if ended:
            del self._stages[now.stage]
        if clock - shown.last < EVERY_S and not (ended and shown.artifact):
            return
        shown.last = clock
        percent, text = 100 * now.done / max(now.total, 1), progress_text(now, clock - shown.began)
        with _for_people():
            if shown.artifact is None:
                made = create_progress_artifact(percent, key=artifact_key("progress", now.stage), description=text)
                shown.artifact = cast(UUID, made)  # called synchronously
            else:
                update_progress_artifact(shown.artifact, percent, description=text)


def progress_text(now: Progress, seconds: float) -> str:
    """The progress of a stage, its rate and the time left, as Markdown.

    >>> progress_text(Progress("embed glow@80", "images", 300, 1000, 100), 20.0)
    '**embed glow@80**: 300 of 1,000 images, 100 found in the store, 10 images/s, 1 min 10 s left'
    """
    parts = [f"**{markdown(now.stage)}**: {now.done:,} of {now.total:,} {now.unit}"]
    fresh = now.done - now.skipped
    if now.skipped:
        parts.append(f"{now.skipped:,} found in the store")
    if fresh > 0 and seconds > 0:
        parts.append(f"{fresh / seconds:,.3g} {now.unit}/s")
    if fresh > 0 and now.done < now.total:
        parts.append(f"{_duration((now.total - now.done) * seconds / fresh)} left")
    return ", ".join(parts)


def show_audit_result(
    outcome: AuditResult, curve: bytes | None, links: dict[str, str], missing: Sequence[str] = ()
) -> None:
    """Show an audit in the current flow run: its scores, its curve, and links.

    Args:
        outcome: The audit.
        curve: Picture of its Â over layers, PNG; None when there is none.
        links: Name → URI.
        missing: Pictures and pages that could not be made, and why.
    """
    audit = outcome.audit
    text = f"**{markdown(outcome.label)}: {outcome.verdict}.** {markdown(audit['invalid_reason'] or audit['sentence'])}"
    text += "".join(f"\n\n{markdown(sentence)}" for sentence in missing)
    with _for_people():
        create_table_artifact(score_rows(outcome), key=artifact_key("scores", outcome.label), description=text)
        if outcome.listed:
            create_table_artifact(copy_rows(outcome), key=artifact_key("copies", outcome.label), description=text)
        if curve is not None:
            picture = f"data:image/png;base64,{base64.b64encode(curve).decode()}"
            create_image_artifact(picture, key=artifact_key("curve", outcome.label), description=text)
        for name, uri in links.items():
            key = artifact_key(name, outcome.label)
            create_link_artifact(uri, link_text=f"{name}: {uri}", key=key, description=text)


def score_rows(outcome: AuditResult) -> list[dict[str, Any]]:
    """The scores of each layer, rounded for a table; a missing number is a dash."""
    names = {"a_hat": "Â", "a_low": "from", "a_high": "to", "p_adjusted": "p", "c_t": "C_T", "copy_rate": "copy rate"}
    return [
        {"layer": row["layer"], "name": row["layer_name"]}
        | {shown: "–" if row[name] is None else f"{row[name]:.3g}" for name, shown in names.items()}
        for row in outcome.scores
    ]


def copy_rows(outcome: AuditResult) -> list[dict[str, Any]]:
    """The strongest listed copies, for a table; Markdown in their names is escaped."""
    return [
        {
            "image": markdown(row["image_key"]),
            "copy of": markdown(row["train_key"]),
            "kind": copy_kind(row),
            "view": markdown(row["view"]),
            "score": f"{row['score']:.1f}",
        }
        for row in outcome.listed[:MOST_COPIES]
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def _for_people() -> Iterator[None]:
    """Within this block an error is only logged."""
    try:
        yield
    except Exception as error:  # an artifact that cannot be shown must not fail the audit
        _log.warning("no artifact: %s: %s", type(error).__name__, error)
