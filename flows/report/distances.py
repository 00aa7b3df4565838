"""Histogram of the distances to the nearest training image at one layer: generated images beside unseen real ones.

The distances are read from the store: they are counted, not computed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from flows.report.facts import AuditFacts
from flows.results.made_from import made_from
from scoring.score.copy_rate import tail_rank
from storage.errors import LayerprintError
from storage.layout import layer_key
from storage.objects.open import ObjectStore

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


def read_histogram(store: ObjectStore, facts: AuditFacts) -> DistanceHistogram | str:
    """The histogram at the decisive layer, or a sentence that says why there is none."""
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
    except (LayerprintError, KeyError, ValueError) as error:  # objects that were deleted or have another schema
        reason = error.found if isinstance(error, LayerprintError) else error
        return f"The distances of this audit cannot be read: {reason}."
    counted = histogram(layer, held_out.without(left_out).distance, release.distance)
    return counted or "There are too few held-out images, or too many of them are at distance 0."


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
