"""Searches a sample of a set exactly, and chooses the number of probes with which the index finds the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.workers.arrays import load_arrays, save_arrays
from actors.workers.partition import StoredPartition
from scoring.checks.search_error import measure_recall
from scoring.nearest import search_plan
from scoring.nearest.paired_distances import recompute_euclidean
from scoring.nearest.two_nearest import TwoNearest, two_nearest
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column
from storage.vectors.train_index import nearest_indexed

TRAIN_ROWS = 131_072
"""Training vectors that are compared with the sample at once."""


@dataclass(frozen=True, slots=True)
class SampleSearch:
    """One layer of one set of ``rows`` images to sample; ``key`` is the sample's place in the store."""

    store: str
    table: str
    version: int
    rows: int
    layer: int
    partition_key: str
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class SearchSample:
    """Images of a set whose nearest training images are known exactly.

    Attributes:
        row: Their rows, (s,) int64; empty for a constant layer.
        nearest: Exact distances, (s,) each.
        probes: Partitions of the index that must be searched to find the same.
    """

    row: NDArray[np.int64]
    nearest: TwoNearest
    probes: int

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> SearchSample:
        arrays = load_arrays(store, key)
        return cls(arrays["row"], TwoNearest(arrays["first"], arrays["second"]), int(arrays["probes"]))

    def save(self, store: ObjectStore, key: str) -> bool:
        """Publish the sample; False when another worker was first."""
        first, second = self.nearest
        return save_arrays(store, key, row=self.row, first=first, second=second, probes=self.probes)

    def of_rows(self, rows: NDArray[np.int64]) -> TwoNearest:
        """Exact distances of images by their rows; NaN for those outside the sample."""
        known = TwoNearest(np.full(len(rows), np.nan), np.full(len(rows), np.nan))
        _, here, sampled = np.intersect1d(rows, self.row, assume_unique=True, return_indices=True)
        known.first[here], known.second[here] = self.nearest.first[sampled], self.nearest.second[sampled]
        return known


def search_sample(task: SampleSearch) -> bool:
    """Sample one layer; False when its sample was already there."""
    store = open_store(task.store)
    if store.exists(task.key):
        return False
    stored = StoredPartition.load(store, task.partition_key)
    if not stored.partition.informative:
        nothing = np.empty(0)
        return SearchSample(np.empty(0, np.int64), TwoNearest(nothing, nothing), 1).save(store, task.key)
    vectors = VectorStore(store)
    tuned, measured = choose_sample(task.rows, stored.partition.seed)
    positions = np.union1d(tuned, measured)
    rows, x = vectors.take(task.table, task.version, layer_column(task.layer), positions)
    queries = stored.partition.project(x)
    exact = two_nearest(queries, _train(vectors, stored))
    index = vectors.open(stored.index_table, stored.index_version)
    choosing, kept = np.isin(positions, tuned), np.isin(positions, measured)
    with vectors.guarded(stored.index_table):
        most = search_plan.index_partitions(index.count_rows())
        probes = choose_probes(index, queries[choosing], exact.first[choosing], wanted_recall(task.rows), most)
    return SearchSample(rows[kept], TwoNearest(exact.first[kept], exact.second[kept]), probes).save(store, task.key)


def choose_sample(images: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the images that the probes are chosen on, and of those that the recall is measured on.

    >>> [[len(part) for part in choose_sample(n, 0)] for n in (300, 2500, 50_000, 1_000_000)]
    [[300, 300], [1000, 1000], [1000, 2500], [1000, 20000]]
    """
    tuned, measured = search_plan.TUNED, search_plan.measured_images(images)
    if images <= tuned + measured:
        return np.arange(images), np.arange(images)
    chosen = np.random.default_rng(seed).choice(images, tuned + measured, replace=False)
    return np.sort(chosen[:tuned]), np.sort(chosen[tuned:])


def wanted_recall(images: int) -> float:
    """Recall that the number of probes is chosen for.

    One in a thousand may be missed. Fewer beyond 100,000 images: there SE/4 of Â, about 0.1/√n, is below the effect of
    twice as many misses (the end of the interval) with a flip of 0.15 each.

    >>> [round(wanted_recall(n), 5) for n in (500, 100_000, 1_000_000)]
    [0.999, 0.999, 0.99968]
    """
    return 1 - min(0.001, 0.32 / math.sqrt(images))


def choose_probes(
    index: Any, queries: NDArray[np.float32], exact: NDArray[np.float64], wanted: float, most: int
) -> int:
    """The smallest number of probes that reaches the wanted recall, in steps of half an octave.

    Args:
        index: LanceDB table written by `write_indexed`.
        queries: (s, k) float32.
        exact: (s,) float64, distances to their nearest training vectors.
        wanted: Recall.
        most: Number of partitions.
    """
    for probes in _steps(most):
        near = nearest_indexed(index, queries, probes=probes)
        if measure_recall(recompute_euclidean(queries, near.vector), exact).rate >= wanted:
            return probes
    return most


def _steps(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, 16 …, below ``most``."""
    octave = 1
    while octave < most:
        yield octave
        if octave > 1 and octave * 3 // 2 < most:
            yield octave * 3 // 2
        octave *= 2


def _train(vectors: VectorStore, stored: StoredPartition) -> Iterator[NDArray[np.float32]]:
    for _, x in vectors.scan(stored.index_table, stored.index_version, "vector", TRAIN_ROWS):
        yield x
