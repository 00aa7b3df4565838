"""The block for a release's model card: metadata in Hugging Face's `model-index` form, and a short text."""

from __future__ import annotations

from typing import Any

import yaml

from flows.report import words
from flows.report.answers import answer, rate
from flows.report.facts import AuditFacts, Row
from flows.results.audit_result import judged_by_copies
from flows.text import markdown, one_line


def model_card(facts: AuditFacts) -> str:
    """Markdown: front matter to merge into the card's own, and a section of text."""
    front = yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front}---\n\n{_text(facts)}"


def _metadata(facts: AuditFacts) -> dict[str, Any]:
    audit = facts.audit
    result = {
        "task": {"type": "unconditional-image-generation", "name": "memorization audit"},
        "dataset": {"type": one_line(audit["reference"], 100), "name": one_line(audit["reference"], 100)},
        "metrics": [
            {"type": kind, "name": name, "value": round(value, 5), "verified": False}
            for kind, name, value in _metrics(audit)
            if value is not None
        ],
        "source": {
            "name": f"layerprint {one_line(audit['layerprint_version'], 20)}, audit {one_line(audit['audit_id'], 40)}"
        },
    }
    index = {"name": one_line(facts.outcome.label, 200), "results": [result]}
    return {"tags": ["layerprint", "memorization-audit"], "model-index": [index]}


def _metrics(audit: Row) -> list[tuple[str, str, float | None]]:
    if judged_by_copies(audit):
        return [
            (
                "copies_at_least",
                "generated images that copy training images, at least (95 %)",
                audit["copies_at_least"],
            ),
            ("copy_rate_low", "rate of copies, 95 % lower bound", audit.get("copies_low")),
            ("copy_rate_high", "rate of copies, 95 % upper bound", audit.get("copies_high")),
        ]
    return [
        ("copy_rate", "copy rate (share of generated images that copy training images)", audit["copy_rate"]),
        ("copy_rate_high", "copy rate, upper end of the 95 % interval", audit["copy_rate_high"]),
    ]


def _text(facts: AuditFacts) -> str:
    audit, said = facts.audit, answer(facts.outcome)
    first, last = _ends(facts) or ("–", "–")
    numbers = [
        ("verdict", facts.outcome.verdict),
        *_copies(audit),
        ("copy rate", rate(audit)),
        ("allowed copy rate", words.percent(audit["max_copy_rate"])),
        ("smallest rate detected with 80 % probability", words.percent(audit["smallest_detectable_rate"])),
        ("Â, first / last layer (0.5 = like unseen images)", f"{first} / {last}"),
        ("images: generated / training / held-out",
         f"{audit['images']:,} / {audit['train_images']:,} / {audit['held_out_images']:,}"),
        ("encoder", audit["encoder_model"]),
        ("date", audit["created_at"].strftime("%Y-%m-%d")),
        ("images digest", audit["images_digest"]),
        ("settings digest", audit["spec_digest"]),
    ]  # fmt: skip
    rows = "\n".join(f"| {name} | {markdown(str(value), 120)} |" for name, value in numbers)
    sure = "\n".join(f"- {markdown(line, 600)}" for line in said.sure)
    limits = "\n".join(f"- {line}" for line in words.limits(audit)[:4])
    return (
        f"## Memorization audit\n\n**{markdown(said.headline, 300)}**\n\n{sure}\n\n| | |\n|---|---|\n{rows}\n\n"
        f"Limits:\n\n{limits}\n"
    )


def _copies(audit: Row) -> list[tuple[str, object]]:
    if not judged_by_copies(audit):
        return []
    listed = audit.get("copies_listed") or 0
    return [("copies, at least (95 %)", f"{audit['copies_at_least']:,}"), ("images listed as copies", f"{listed:,}")]


def _ends(facts: AuditFacts) -> tuple[str, str] | None:
    known = facts.outcome.informative
    return (f"{known[0]['a_hat']:.2f}", f"{known[-1]['a_hat']:.2f}") if known else None
