"""The tail: how near the generated images of one layer come to the training images, beside unseen real ones.

The distances are in the store. They are counted, not computed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from flows.report.facts import ReleaseFacts
from flows.results.made_from import made_from
from scoring.score.copy_rate import tail_rank
from storage.errors import LayerprintError
from storage.layout import layer_key
from storage.objects.open import ObjectStore

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


def read_tail(store: ObjectStore, facts: ReleaseFacts) -> Tail | str:
    """The tail in the layer that decides, or a sentence that says why there is none."""
    layer = facts.decisive
    if layer is None:
        return "No layer carries information about these images."
    try:
        sources = made_from(store, facts.audit)
        if sources is None:
            return "An older layerprint did not record what this audit was made from, and the reference has changed."
        left_out = contaminated_rows(store, sources.contaminated)
        held_out, release = (
            NearestTable.load(store, layer_key(prefix, layer, "parquet"))
            for prefix in (sources.held_out_nearest, sources.nearest)
        )
    except (LayerprintError, KeyError, ValueError) as error:  # what is gone, or by another version
        why = error.found if isinstance(error, LayerprintError) else error
        return f"The single distances of this audit cannot be read: {why}."
    tail = count(layer, held_out.without(left_out).distance, release.distance)
    return tail or "There are too few held-out images, or too many of them are at distance 0."


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
