"""The flow `stress_attribution`: tests which changes of the images break their attribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import flow

from actors.stages.transform_images import transform_images
from actors.workers.transform_images import PERTURBATIONS
from flows.attribute import AttributedImages, answer, embed_suspect, open_attribution
from flows.inputs import list_set
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from flows.tasks import embed_set
from scoring.attribution.attribute import REJECT, UNKNOWN, Attribution


@dataclass(frozen=True)
class StressedAttribution:
    """The answer for the images as they are, and for each perturbation by its name."""

    plain: AttributedImages
    perturbed: dict[str, AttributedImages]

    def same(self, name: str) -> bool:
        """Whether verdict and named releases (or the first candidate, if none is) are the same after a perturbation."""
        changed, plain = self.perturbed[name].answer, self.plain.answer
        return (changed.verdict, _named(changed)) == (plain.verdict, _named(plain))

    @property
    def sentence(self) -> str:
        """The perturbations that break the attribution, in words."""
        broken = [name for name in self.perturbed if not self.same(name)]
        if not broken:
            return f"none of {', '.join(self.perturbed)} changes the answer"
        return f"the answer does not survive: {', '.join(broken)}"

    def to_json(self) -> dict[str, Any]:
        """All answers as plain values."""
        perturbed = {
            name: {**answered.to_json(), "same_answer": self.same(name)} for name, answered in self.perturbed.items()
        }
        return {**self.plain.to_json(), "perturbed": perturbed, "stress_sentence": self.sentence}


def _named(answer: Attribution) -> set[str]:
    return {candidate.maker for candidate in answer.candidates if candidate.named} or {answer.candidates[0].maker}


@flow(name="stress_attribution", persist_result=False, validate_parameters=False)
def stress_attribution(
    runtime: Runtime,
    spec: AuditSpec,
    images: str,
    label: str = "images",
    *,
    reject: float = REJECT,
    unknown: float = UNKNOWN,
) -> StressedAttribution:
    """Attribute a set as it is, and after each change in `actors.workers.transform_images.PERTURBATIONS`.

    Raises:
        InputError: see `flows.attribute.attribute_images`.
    """
    opened = open_attribution(runtime, spec, reject, unknown)
    plain = answer(runtime, opened, images, embed_suspect(runtime, opened, images, label), label)
    perturbed = {}
    for name in PERTURBATIONS:
        changed = transform_images(runtime.context(spec), list_set(runtime, images), name, label)
        table = embed_set(runtime, spec, opened.reference.facts, list_set(runtime, changed), f"{label} ({name})")
        perturbed[name] = answer(runtime, opened, images, table, f"{label} ({name})", perturbation=name)
    return StressedAttribution(plain, perturbed)
