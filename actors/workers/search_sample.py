"""Searches a sample of a set exactly, and chooses how many probes of the index find the same."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.workers.partition import StoredPartition
from scoring.checks.search_error import measure_recall
from scoring.nearest import search_plan
from scoring.nearest.paired_distances import recompute_euclidean
from scoring.nearest.two_nearest import TwoNearest, two_nearest
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column
from storage.vectors.train_index import nearest_indexed

TRAIN_ROWS = 131_072
"""Train vectors that are compared with the sample at once."""


@dataclass(frozen=True, slots=True)
class SampleSearch:
    """One layer of one set of ``rows`` images to sample; ``key`` is where the sample goes."""

    store: str
    table: str
    version: int
    rows: int
    layer: int
    partition_key: str
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class SearchSample:
    """Images of a set whose nearest train images are known exactly.

    Attributes:
        row: (s,) int64, their rows; none for a constant layer.
        nearest: Exact distances, (s,) each.
        probes: Partitions of the index that must be searched to find the same.
    """

    row: NDArray[np.int64]
    nearest: TwoNearest
    probes: int

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> SearchSample:
        with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as arrays:
            return cls(arrays["row"], TwoNearest(arrays["first"], arrays["second"]), int(arrays["probes"]))

    def save(self, store: ObjectStore, key: str) -> bool:
        """Publish the sample; False when another worker was first."""
        buffer = io.BytesIO()
        np.savez(buffer, row=self.row, first=self.nearest.first, second=self.nearest.second, probes=self.probes)
        return store.put_if_absent(key, buffer.getvalue())

    def of_rows(self, rows: NDArray[np.int64]) -> TwoNearest:
        """Exact distances of images by their rows, NaN for those that are not of the sample."""
        found = TwoNearest(np.full(len(rows), np.nan), np.full(len(rows), np.nan))
        _, here, sampled = np.intersect1d(rows, self.row, assume_unique=True, return_indices=True)
        found.first[here], found.second[here] = self.nearest.first[sampled], self.nearest.second[sampled]
        return found


@dataclass(unsafe_hash=True)
class Sampler:
    """A worker that samples one layer of one set at a time; a sample that is there is left alone."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: SampleSearch) -> bool:
        """Sample one layer; False when its sample was there."""
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

    def close(self) -> None:
        """Nothing to give back."""


def choose_sample(images: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the images that choose the probes, and of those that measure the recall.

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

    One in a thousand may be missed; less of more than 100,000 images, since SE/4 of their Â, about .1/√n, is then below
    what twice as many misses (the end of the interval) with a flip of .15 would amount to.

    >>> [round(wanted_recall(n), 5) for n in (500, 100_000, 1_000_000)]
    [0.999, 0.999, 0.99968]
    """
    return 1 - min(0.001, 0.32 / math.sqrt(images))


def choose_probes(
    index: Any, queries: NDArray[np.float32], exact: NDArray[np.float64], wanted: float, most: int
) -> int:
    """The smallest number of probes with the wanted recall, in steps of half an octave.

    Args:
        index: LanceDB table written by `write_indexed`.
        queries: (s, k) float32.
        exact: (s,) float64, distances to their nearest train vectors.
        wanted: Recall.
        most: Partitions that there are, at most.
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
