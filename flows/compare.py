"""The flow `compare`: two releases on one reference, paired on the held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import flow

from actors.score_stages import compare_releases
from flows.audit import audit_release, embed_set, known_reference, list_set, search_set
from flows.outcome import AuditOutcome
from flows.runtime import running
from flows.spec import AuditSpec, ReleaseSpec
from scoring.paired import Comparison
from storage.errors import InputError

LEVEL = 0.05


@dataclass(frozen=True)
class ReleaseComparison:
    """Two audits, and the differences of Â (first minus second) in the layers that both inform."""

    first: AuditOutcome
    second: AuditOutcome
    layers: list[int]
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Differences per layer and the joint test, with both audits."""
        found = self.comparison
        names = ("difference", "se", "low", "high", "p", "p_adjusted")
        layers = [
            {"layer": layer, **{name: float(getattr(found, name)[i]) for name in names}}
            for i, layer in enumerate(self.layers)
        ]
        audits = {"first": self.first.audit, "second": self.second.audit}
        return {**audits, "layers": layers, "p_joint": found.p_joint, "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """What the joint test says, in words."""
        found, p = self.comparison, self.comparison.p_joint
        if p > LEVEL:
            return f"no difference seen between {self.first.label} and {self.second.label} (joint p = {p:.2g})"
        strongest = int(abs(found.difference / found.se).argmax())
        nearer = self.first if found.difference[strongest] < 0 else self.second
        return (
            f"{nearer.label} lies closer to the training images: most at layer {self.layers[strongest]}, where Â "
            f"differs by {abs(found.difference[strongest]):.3f} (joint p = {p:.2g} over {len(self.layers)} layers)"
        )


@flow(name="compare", persist_result=False, validate_parameters=False)
def compare(spec: AuditSpec, first: ReleaseSpec, second: ReleaseSpec) -> ReleaseComparison:
    """Audit both releases (found in the store when they were audited before) and compare them.

    Raises:
        InputError: one of them cannot be audited, or no layer carries information.
    """
    with running() as runtime:
        outcomes = [audit_release(spec, release) for release in (first, second)]
        reference = known_reference(spec)
        bench = runtime.bench(spec.store)
        prefixes = []
        for release in (first, second):
            manifest = list_set(runtime, release.images)
            table = embed_set(spec, reference.facts, manifest, release.label)
            prefixes.append(search_set(spec, reference, table, release.label))
        a_hats = [{row["layer"]: row["a_hat"] for row in outcome.informative} for outcome in outcomes]
        layers = [layer for layer in a_hats[0] if layer in a_hats[1]]
        if not layers:
            raise InputError("no layer of this encoder carries information", "set encoder.pooling: mean")
        found = compare_releases(bench, reference.tables, layers, (prefixes[0], prefixes[1]), (a_hats[0], a_hats[1]))
        return ReleaseComparison(outcomes[0], outcomes[1], layers, found)
