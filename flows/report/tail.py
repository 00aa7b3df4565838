"""The tail: how near the generated images of one layer come to the training images, beside unseen real ones.

The distances lie in the store, under names that the audit's digests decide. They are counted, not computed.
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
from scoring.nearest.search_plan import SearchMode
from scoring.presets import PRESETS
from scoring.score.copy_rate import tail_rank
from storage.digest import digest
from storage.errors import LayerprintError
from storage.layout import OWNER_KEY, contaminated_key, embedding_table
from storage.objects.open import ObjectStore
from storage.vectors.tables import EmbeddingTable, VectorStore

ALPHA = 0.01
BINS = 48
FARTHEST = 3.0
"""Distances are shown up to so many thresholds; what lies beyond is counted with the last."""


class Tail(NamedTuple):
    """Shares of images by distance, in multiples of the threshold that only 1 % of unseen images come below.

    Attributes:
        layer: The layer.
        edges: (b + 1,) float64, ends of the bins.
        unseen: (b,) float64, shares of the held-out images.
        generated: (b,) float64, shares of the generated ones.
        identical: Generated images at distance 0.
    """

    layer: int
    edges: NDArray[np.float64]
    unseen: NDArray[np.float64]
    generated: NDArray[np.float64]
    identical: int


def read_tail(store: ObjectStore, facts: AuditFacts) -> Tail | None:
    """The tail in the layer that decides; None where the distances are not in the store (any more)."""
    if facts.decisive is None:
        return None
    try:
        held_out, release = _distances(store, facts.audit, facts.decisive)
    except (LayerprintError, KeyError, ValueError):  # another version's names, or what is gone
        return None
    return count(facts.decisive, held_out, release)


def count(layer: int, held_out: NDArray[np.float64], release: NDArray[np.float64]) -> Tail | None:
    """Count distances into bins; None where the tail cannot be measured.

    Args:
        layer: The layer.
        held_out: (n,) float64, nearest distances of held-out images.
        release: (m,) float64, of generated images.

    >>> tail = count(3, np.arange(1.0, 200.0), np.array([0.0, 0.0, 2.5, 90.0]))
    >>> tail.identical, float(tail.generated[0]), round(float(tail.generated[tail.edges[1:] <= 1].sum()), 2)
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

    return Tail(layer, edges, shares(held_out), shares(release), int((release == 0).sum()))


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
    left_out = contaminated_rows(store, contaminated_key(keys[0].rpartition("/")[0]))
    tables = [NearestTable.load(store, key) for key in keys]
    return tables[0].without(left_out).distance, tables[1].distance


def _table(store: ObjectStore, audit: Row, images: str) -> EmbeddingTable:
    name = embedding_table(audit["encoder_digest"], images)
    found = VectorStore(store).committed(name)
    if found is None:
        raise KeyError(name)
    return found
