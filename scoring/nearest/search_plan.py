"""Choose the search mode of a reference and the size of its index, by cost."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SearchMode = Literal["in_cell", "global"]
"""Two different quantities L(x), never to be compared with each other: the distance to the nearest training image of
the same cell, as published, by exact search; or to the nearest of all, by an index with measured recall."""

QUERY_SECONDS = 2.0e-4
SCANNED_SECONDS = 2.1e-8
BUILT_SECONDS = 9.4e-6
EXACT_SECONDS = 2.5e-9
IN_CELL_SECONDS = 3.7e-9
"""Seconds per query of an index; per training vector scanned; per training vector indexed with √|T| partitions; per
pair compared exactly for the two nearest; per pair of one cell, for 50 neighbours and the gap of the nearest. For 64
dimensions and 50 neighbours on 2 cores, in proportion to the dimensions. Source: the last line of
`python -m benchmarks.search` on a quiet machine."""

USUAL_SETS = 6
"""Sets that a reference is expected to serve: its held-out images, and five releases of the same size."""

PATIENCE_SECONDS = 60.0
"""Extra seconds per layer that the exact in-cell search may cost before `auto` switches to global."""

FEWEST_SAMPLED = 32
"""Sampled vectors that k-means needs per partition of an index."""

TUNED = 1000
"""Images on which the number of probes is chosen."""

FEWEST_MEASURED, MOST_MEASURED, MEASURED_SHARE = 1000, 20_000, 20
"""Images on which the recall is measured: one in twenty, none of the tuning images if the set is large enough."""


def measured_images(images: int) -> int:
    """Number of images on which the recall of a set is measured.

    >>> [measured_images(n) for n in (300, 50_000, 1_000_000)]
    [1000, 2500, 20000]
    """
    return min(MOST_MEASURED, max(FEWEST_MEASURED, images // MEASURED_SHARE))


def in_cell_seconds(train: int, images: int, components: int, cells: int) -> float:
    """Seconds of one layer's in-cell searches for all sets of a reference with this many held-out images.

    >>> round(in_cell_seconds(1_000_000, 10_000, 64, 10))
    22
    """
    return USUAL_SETS * images * train / cells * IN_CELL_SECONDS * components / 64


def global_seconds(train: int, images: int, components: int, probes: int = 4) -> float:
    """Seconds of one layer's global searches for all sets: index, exact samples, searches.

    >>> round(global_seconds(1_000_000, 10_000, 64))
    56
    """
    scanned = probes * math.sqrt(train) * SCANNED_SECONDS
    compared = (TUNED + measured_images(images)) * EXACT_SECONDS
    once = train * (BUILT_SECONDS + USUAL_SETS * compared)
    return USUAL_SETS * images * QUERY_SECONDS + (once + USUAL_SETS * images * scanned) * components / 64


def search_mode(
    asked: Literal["auto", "in_cell", "global"], preset: str, train: int, images: int, components: int, cells: int
) -> SearchMode:
    """Choose the mode of a reference. It does not depend on the release, so that all releases are searched alike.

    Args:
        asked: The mode in the spec; ``auto`` = in the cell unless that costs a minute per layer more.
        preset: The published presets always search in the cell.
        train: |T|.
        images: Held-out images; releases are expected to be as large.
        components: Dimensions of the projected vectors.
        cells: Cells of the partition.

    >>> [search_mode("auto", "default", n, 50_000, 64, 10) for n in (50_000, 5_000_000)]
    ['in_cell', 'global']
    >>> search_mode("auto", "paper", 5_000_000, 50_000, 64, 10)
    'in_cell'
    """
    if preset != "default":
        return "in_cell"
    if asked != "auto":
        return asked
    extra = in_cell_seconds(train, images, components, cells) - global_seconds(train, images, components)
    return "global" if extra > PATIENCE_SECONDS else "in_cell"


def index_partitions(train: int) -> int:
    """Largest number of partitions of an index: √|T|, where reading centroids costs as much as reading vectors.

    >>> index_partitions(1_000_000)
    1000
    """
    return max(1, math.isqrt(train))


def index_centroids(sample: NDArray[np.float32], train: int, seed: int) -> NDArray[np.float32]:
    """Compute centroids of about √|T| partitions by a few steps of k-means: only speed depends on them.

    Args:
        sample: (s, k) float32, projected training vectors.
        train: |T|.
        seed: Seed of k-means.

    Returns:
        (partitions, k) float32; each is the nearest centroid of at least one vector of the sample.

    >>> index_centroids(np.random.default_rng(0).normal(size=(900, 2)).astype(np.float32), 400, seed=0).shape
    (20, 2)
    """
    from sklearn.cluster import KMeans  # the import takes most of a second, and only fitting needs it
    from sklearn.exceptions import ConvergenceWarning

    partitions = max(1, min(index_partitions(train), len(sample) // FEWEST_SAMPLED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal vectors leave partitions empty
        fitted = KMeans(partitions, init="random", n_init=1, max_iter=10, random_state=seed).fit(sample)
    filled = np.unique(fitted.labels_)  # a probe of an empty partition finds nothing
    return np.ascontiguousarray(fitted.cluster_centers_[filled], np.float32)
