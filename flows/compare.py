"""The flow `compare`: two releases on one reference, paired on the held-out images, and their drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import flow

from actors.stages.score import compare_releases
from flows.audit import audit_release, built_reference
from flows.inputs import list_set
from flows.results.audit_result import AuditResult
from flows.runtime.repairs import repairing
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.tasks import embed_set, profile_set, search_set
from scoring.attribution.drift import Drift, drift
from scoring.attribution.paired import Comparison
from storage.errors import InputError

LEVEL = 0.05


@dataclass(frozen=True)
class ReleaseComparison:
    """Two audits, the differences of Â (first minus second) in layers informative for both, and their drift."""

    first: AuditResult
    second: AuditResult
    layers: list[int]
    comparison: Comparison
    drift: Drift

    def to_json(self) -> dict[str, Any]:
        """Differences per layer and the joint test, with both audits."""
        comparison = self.comparison
        names = ("difference", "se", "low", "high", "p", "p_adjusted")
        layers = [
            {
                "layer": layer,
                **{name: float(getattr(comparison, name)[i]) for name in names},
                "drift": float(self.drift.distance[i]),
                "drift_p": float(self.drift.layer_p[i]),
            }
            for i, layer in enumerate(self.layers)
        ]
        audits = {"first": self.first.audit, "second": self.second.audit}
        joint = {"p_joint": comparison.p_joint, "drift_p": self.drift.p, "curve_d2": self.drift.curve_d2}
        sentences = {"sentence": self.sentence, "drift_sentence": self.drift_sentence}
        return {**audits, "layers": layers, **joint, **sentences}

    @property
    def sentence(self) -> str:
        """The result of the joint test, in words."""
        comparison, p = self.comparison, self.comparison.p_joint
        if p > LEVEL:
            return f"no difference seen between {self.first.label} and {self.second.label} (joint p = {p:.2g})"
        strongest = int(abs(comparison.difference / comparison.se).argmax())
        nearer = self.first if comparison.difference[strongest] < 0 else self.second
        return (
            f"{nearer.label} is closer to the training images: most at layer {self.layers[strongest]}, where Â "
            f"differs by {abs(comparison.difference[strongest]):.3f} (joint p = {p:.2g} over {len(self.layers)} layers)"
        )

    @property
    def drift_sentence(self) -> str:
        """How far apart the images are, in words."""
        drift, first, second = self.drift, self.first.label, self.second.label
        if drift.p > LEVEL:
            return f"{first} and {second} may be one model: their mean embeddings and curves agree (p = {drift.p:.2g})"
        at = int(drift.distance.argmax())
        return (
            f"{first} and {second} make different images: most at layer {self.layers[at]}, where their mean embeddings "
            f"are {drift.distance[at]:.2f} standard deviations apart (p = {drift.p:.2g})"
        )


@flow(name="compare", persist_result=False, validate_parameters=False)
@repairing
def compare(runtime: Runtime, spec: AuditSpec, first: ReleaseSpec, second: ReleaseSpec) -> ReleaseComparison:
    """Audit both releases (audits that the store has are not repeated) and compare them.

    Raises:
        InputError: one of them cannot be audited, or no layer carries information.
    """
    outcomes = [audit_release(runtime, spec, release) for release in (first, second)]
    reference = built_reference(runtime, spec)
    context = runtime.context(spec)
    prefixes, profiles = [], []
    for release in (first, second):
        manifest = list_set(runtime, release.images)
        table = embed_set(runtime, spec, reference.facts, manifest, release.label)
        prefixes.append(search_set(runtime, spec, reference, table, release.label))
        profiles.append(profile_set(runtime, spec, reference, table, prefixes[-1], release.label))
    a_hats = [{row["layer"]: row["a_hat"] for row in outcome.informative} for outcome in outcomes]
    layers = [layer for layer in a_hats[0] if layer in a_hats[1]]
    if not layers or profiles[0] is None or profiles[1] is None:
        raise InputError("no layer of this encoder carries information", "set encoder.pooling: mean")
    nearest, curves = (prefixes[0], prefixes[1]), (a_hats[0], a_hats[1])
    comparison = compare_releases(context, reference.tables, layers, nearest, curves)
    apart = drift(profiles[0].whole, profiles[1].whole)
    return ReleaseComparison(outcomes[0], outcomes[1], layers, comparison, apart)
