"""Which nearest train image is searched for, and with how large an index: decided by cost before any search."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SearchMode = Literal["in_cell", "global"]
"""Two different quantities L(x), never compared with each other: the distance to the nearest train image of the image's
own cell, as published, searched exactly; or to the nearest of all, found by an index whose recall is measured."""

QUERY_SECONDS = 2.0e-4
SCANNED_SECONDS = 2.1e-8
BUILT_SECONDS = 9.4e-6
EXACT_SECONDS = 2.5e-9
IN_CELL_SECONDS = 3.7e-9
"""Seconds a query of an index; a train vector that it scans; a train vector that is indexed with √|T| partitions; a
pair of query and train vector compared exactly, for the two nearest; a pair of one cell, for 50 neighbours and the gap
of the nearest. For 64 dimensions and 50 neighbours on 2 cores; longer vectors in proportion. Source:
`python -m benchmarks.search`, its last line, on a quiet machine."""

USUAL_SETS = 6
"""What a reference is expected to serve: its held-out images, and five releases of as many images."""

PATIENCE_SECONDS = 60.0
"""So much more, a layer, may the exact search in the cell cost before the global one takes its place."""

FEWEST_SAMPLED = 32
"""Vectors that k-means needs for each partition of an index."""

TUNED = 1000
"""Images that choose the number of probes."""

FEWEST_MEASURED, MOST_MEASURED, MEASURED_SHARE = 1000, 20_000, 20
"""Images that measure the recall: one in twenty. They are others than those that chose, where a set has so many."""


def measured_images(images: int) -> int:
    """Images of a set that measure the recall.

    >>> [measured_images(n) for n in (300, 50_000, 1_000_000)]
    [1000, 2500, 20000]
    """
    return min(MOST_MEASURED, max(FEWEST_MEASURED, images // MEASURED_SHARE))


def in_cell_seconds(train: int, images: int, components: int, cells: int) -> float:
    """Seconds of one layer's searches inside cells, for what a reference with so many held-out images is to serve.

    >>> round(in_cell_seconds(1_000_000, 10_000, 64, 10))
    22
    """
    return USUAL_SETS * images * train / cells * IN_CELL_SECONDS * components / 64


def global_seconds(train: int, images: int, components: int, probes: int = 4) -> float:
    """Seconds of one layer's searches among all train images: index, exact samples, searches.

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
    """The mode of a reference; nothing about a release decides it, so that all its releases are searched alike.

    Args:
        asked: What the spec says; ``auto`` = in the cell unless that costs a minute a layer more.
        preset: The published presets are in-cell always.
        train: |T|.
        images: Held-out images; releases are expected to hold as many.
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
    dearer = in_cell_seconds(train, images, components, cells) - global_seconds(train, images, components)
    return "global" if dearer > PATIENCE_SECONDS else "in_cell"


def index_partitions(train: int) -> int:
    """Partitions of an index over so many vectors, at most: √|T|, where reading centroids and vectors cost alike.

    >>> index_partitions(1_000_000)
    1000
    """
    return max(1, math.isqrt(train))


def index_centroids(sample: NDArray[np.float32], train: int, seed: int) -> NDArray[np.float32]:
    """Centroids of an index of about √|T| partitions: a few steps of k-means, since nothing but speed depends on them.

    Args:
        sample: (s, k) float32, projected train vectors.
        train: |T|.
        seed: Seed of k-means.

    Returns:
        (partitions, k) float32, each the nearest one of some vector of the sample.

    >>> index_centroids(np.random.default_rng(0).normal(size=(900, 2)).astype(np.float32), 400, seed=0).shape
    (20, 2)
    """
    from sklearn.cluster import KMeans  # takes most of a second, and only whoever fits needs it
    from sklearn.exceptions import ConvergenceWarning

    partitions = max(1, min(index_partitions(train), len(sample) // FEWEST_SAMPLED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal vectors: some partitions stay empty
        fitted = KMeans(partitions, init="random", n_init=1, max_iter=10, random_state=seed).fit(sample)
    filled = np.unique(fitted.labels_)  # a probe of an empty partition would find nothing
    return np.ascontiguousarray(fitted.cluster_centers_[filled], np.float32)
