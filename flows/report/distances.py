"""Histogram of the distances to the nearest training image at one layer: generated images beside unseen real ones.

The distances are read from the store, under keys that follow from the digests of the audit.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.stages.reference import PartitionSettings, partition_prefix
from actors.stages.search import plan_search
from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from flows.report.facts import AuditFacts, Row
from flows.results.store_owner import OWNER_KEY
from scoring.nearest.search_plan import SearchMode
from scoring.presets import PRESETS
from scoring.score.copy_rate import tail_rank
from storage.digest import digest, short
from storage.errors import LayerprintError
from storage.objects.open import ObjectStore
from storage.vectors.tables import EmbeddingTable, VectorStore

ALPHA = 0.01
BINS = 48
FARTHEST = 3.0
"""The largest distance shown, in thresholds; larger ones are counted in the last bin."""


class DistanceHistogram(NamedTuple):
    """Shares of images by distance, in multiples of the threshold that 1 % of unseen images fall below.

    Attributes:
        layer: The layer.
        edges: (b + 1,) float64, edges of the bins.
        unseen: (b,) float64, shares of the held-out images.
        generated: (b,) float64, shares of the generated images.
        identical: Number of generated images at distance 0.
    """

    layer: int
    edges: NDArray[np.float64]
    unseen: NDArray[np.float64]
    generated: NDArray[np.float64]
    identical: int


def read_histogram(store: ObjectStore, facts: AuditFacts) -> DistanceHistogram | None:
    """The histogram at the decisive layer; None if the distances are not (or no longer) in the store."""
    if facts.decisive is None:
        return None
    try:
        held_out, release = _distances(store, facts.audit, facts.decisive)
    except (LayerprintError, KeyError, ValueError):  # keys of another version, or deleted objects
        return None
    return histogram(facts.decisive, held_out, release)


def histogram(layer: int, held_out: NDArray[np.float64], release: NDArray[np.float64]) -> DistanceHistogram | None:
    """Count distances into bins; None if there are too few held-out images for a threshold above 0.

    Args:
        layer: The layer.
        held_out: (n,) float64, distances of the held-out images.
        release: (m,) float64, distances of the generated images.

    >>> counted = histogram(3, np.arange(1.0, 200.0), np.array([0.0, 0.0, 2.5, 90.0]))
    >>> counted.identical, float(counted.generated[0]), round(float(counted.generated[counted.edges[1:] <= 1].sum()), 2)
    (2, 0.5, 0.5)
    """
    rank = tail_rank(len(held_out), ALPHA)
    if rank < 1 or not len(release):
        return None
    threshold = float(np.partition(held_out, rank - 1)[rank - 1])
    if threshold <= 0:
        return None
    edges = np.linspace(0.0, FARTHEST, BINS + 1)

    def shares(distances: NDArray[np.float64]) -> NDArray[np.float64]:
        within = np.minimum(distances / threshold, FARTHEST)
        return np.histogram(within, edges)[0] / len(distances)

    return DistanceHistogram(layer, edges, shares(held_out), shares(release), int((release == 0).sum()))


def _distances(store: ObjectStore, audit: Row, layer: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    contents = json.loads(store.get(OWNER_KEY))["contents"]
    train, held_out = (_table(store, audit, contents[name]) for name in ("train", "held_out"))
    mode: SearchMode = "global" if audit["search"] == "global" else "in_cell"
    settings = PartitionSettings(audit["components"], audit["cells"], audit["seed"], mode)
    partition = partition_prefix(train, settings)
    if digest(partition=partition, held_out=held_out.name) != audit["reference_digest"]:
        raise ValueError("the store's reference is not that of the audit")
    release = _table(store, audit, audit["images_digest"])
    metric = PRESETS[audit["preset"]].metric
    keys = [plan_search(store, one, [layer], partition, metric, mode)[0].key for one in (held_out, release)]
    left_out = contaminated_rows(store, f"contaminated/{keys[0].split('/')[-2]}.json")
    tables = [NearestTable.load(store, key) for key in keys]
    return tables[0].without(left_out).distance, tables[1].distance


def _table(store: ObjectStore, audit: Row, images: str) -> EmbeddingTable:
    name = f"images-{short(digest(encoder=audit['encoder_digest'], images=images))}"
    found = VectorStore(store).committed(name)
    if found is None:
        raise KeyError(name)
    return found
