"""The pictures of audits: layer curves, and sheets of the closest pairs, kept in the store as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from actors.encoder.decode import decode
from flows.inputs import list_set
from flows.report.figures.draw import Curve, Pair, draw_curves, draw_pairs
from flows.results.audit_result import COPYING, AuditResult
from flows.runtime.runtime import running
from flows.spec.spec import AuditSpec
from flows.text import file_name
from storage.digest import digest, short
from storage.image_sets.image_ref import ImageReader
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import open_reader
from storage.objects.open import ObjectStore
from storage.results.tables import read_result

PAIRS_PER_LAYER = 8


def save_curves(store: ObjectStore, outcomes: Sequence[AuditResult]) -> str:
    """Draw the curves of Â over layers of some audits into one picture; returns its URI."""
    key = f"pictures/curves-{short(digest(audits=[outcome.audit_id for outcome in outcomes]))}.png"
    if not store.exists(key):
        title = f"Closer to train than unseen real images? Reference {outcomes[0].audit['reference']}"
        store.put(key, draw_curves([curve_of(outcome) for outcome in outcomes], title))
    return store.child_uri(key)


def curve_of(outcome: AuditResult) -> Curve:
    """An audit's Â with its interval over layers."""
    rows = outcome.scores
    return Curve(
        label=outcome.label,
        layers=[row["layer"] for row in rows],
        a_hat=[row["a_hat"] for row in rows],
        low=[row["a_low"] for row in rows],
        high=[row["a_high"] for row in rows],
        copying=outcome.verdict == COPYING,
    )


def save_pairs(store: ObjectStore, spec: AuditSpec, outcome: AuditResult) -> str:
    """Draw the closest pairs of the first, the middle and the last layer, and of the one that the verdict rests on.

    Returns:
        The picture's URI.
    """
    key = f"pictures/pairs-{file_name(outcome.label)}-{outcome.audit_id}.png"
    if not store.exists(key):
        evidence = read_result(store, "evidence", outcome.audit_id).to_pylist()
        release = _ListedSet.of(str(outcome.audit["images_uri"]))
        train = _ListedSet.of(spec.reference.train)
        shown = {
            layer: [
                _pair(row, release, train)
                for row in sorted(evidence, key=lambda row: int(row["rank"]))
                if row["layer"] == layer and row["rank"] <= PAIRS_PER_LAYER
            ]
            for layer in _shown_layers(outcome)
        }
        store.put(key, draw_pairs(shown, f"{outcome.label}: generated images and their nearest training images"))
    return store.child_uri(key)


def _shown_layers(outcome: AuditResult) -> list[int]:
    layers = [int(row["layer"]) for row in outcome.informative]
    decisive = outcome.audit["copying_layer"]
    ends = {layers[0], layers[len(layers) // 2], layers[-1]} if layers else set()
    return sorted(ends if decisive is None else ends | {int(decisive)})


class _ListedSet(NamedTuple):
    """An image set as this command listed it."""

    manifest: Manifest
    reader: ImageReader

    @classmethod
    def of(cls, uri: str) -> _ListedSet:
        with running() as runtime:
            return cls(manifest := list_set(runtime, uri), open_reader(uri, manifest.kind))

    def picture(self, key: str) -> Image.Image:
        return decode(self.reader.read(self.manifest.find(key))).rgb


def _pair(row: dict[str, Any], release: _ListedSet, train: _ListedSet) -> Pair:
    return Pair(
        image=release.picture(row["image_key"]),
        train=train.picture(row["train_key"]),
        distance=row["distance"],
        p_value=row["p_value"],
        identical=row["identical"],
        image_key=row["image_key"],
        train_key=row["train_key"],
    )
