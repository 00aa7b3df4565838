"""Fits the partition of one layer on the training images, and writes their projections with an index."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.workers.arrays import load_arrays, save_arrays
from scoring.nearest.search_plan import SearchMode, index_centroids
from scoring.partition.fit import Fitted, Partition, fit_projected
from scoring.partition.moments import Moments
from storage.errors import InputError
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column
from storage.vectors.train_index import write_indexed

SAMPLE_ROWS = 100_000
"""Largest number of training vectors that k-means sees, drawn with the seed."""


@dataclass(frozen=True, slots=True)
class FitLayer:
    """One layer of one reference to partition.

    ``key`` is the partition's place in the store; ``index_table`` begins the name of its indexed training table.
    """

    store: str
    table: str
    version: int
    layer: int
    components: int
    cells: int
    seed: int
    key: str
    index_table: str
    search: SearchMode = "in_cell"


@dataclass(frozen=True, slots=True)
class StoredPartition:
    """A partition and the indexed table of its projected training vectors (no table, version 0 for a constant layer).

    ``search`` is the purpose of the index: its partitions are the cells (``in_cell``), or many small ones (``global``).
    """

    partition: Partition
    index_table: str
    index_version: int
    search: SearchMode

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> StoredPartition:
        arrays = load_arrays(store, key)
        search: SearchMode = "global" if str(arrays["search"]) == "global" else "in_cell"
        return cls(Partition.from_arrays(arrays), str(arrays["index_table"]), int(arrays["index_version"]), search)

    def save(self, store: ObjectStore, key: str) -> bool:
        """Publish the partition; False when another worker was first."""
        return save_arrays(
            store,
            key,
            **self.partition.to_arrays(),
            index_table=self.index_table,
            index_version=self.index_version,
            search=self.search,
        )


def fit_layer(task: FitLayer) -> bool:
    """Fit and publish the partition of one layer; False when it was already there.

    Raises:
        InputError: There are fewer distinct training images than cells.
    """
    store = open_store(task.store)
    if store.exists(task.key):
        return False
    vectors = VectorStore(store)
    moments, sample = _moments_and_sample(_scan(vectors, task), task)
    partition, projected = _fit(moments, sample.vectors, task)
    name, version = "", 0
    if partition.informative:
        # A name for this attempt alone: two writers of one Lance table break each other's index.
        name = f"{task.index_table}-{uuid.uuid4().hex[:8]}"
        blocks = iter([(sample.rows, projected)])
        if moments.n > len(projected):
            blocks = ((rows, partition.project(x)) for rows, x in _scan(vectors, task))
        centroids = partition.centroids
        if task.search == "global":
            centroids = index_centroids(projected, moments.n, task.seed)
        version = write_indexed(vectors, name, blocks, centroids)
    published = StoredPartition(partition, name, version, task.search).save(store, task.key)
    if name and not published:
        vectors.database().drop_table(name)
    return published


def _fit(moments: Moments, sample: NDArray[np.float32], task: FitLayer) -> Fitted:
    try:
        return fit_projected(moments, sample, components=task.components, cells=task.cells, seed=task.seed)
    except ValueError as error:
        raise InputError(
            f"reference.train, layer {task.layer}: {error}",
            f"set scoring.cells below {task.cells}, or give more (different) training images",
        ) from error


def _scan(vectors: VectorStore, task: FitLayer) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    return vectors.scan(task.table, task.version, layer_column(task.layer))


class _Sample(NamedTuple):
    """Some training vectors (n, d) float32, and their rows (n,) int64."""

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]


def _moments_and_sample(
    blocks: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]], task: FitLayer
) -> tuple[Moments, _Sample]:
    """In one pass: moments of all vectors, and a uniform sample of at most `SAMPLE_ROWS` of them, in their order.

    Every vector gets a random rank and the lowest ranks are kept, so the sample does not depend on the blocks.
    """
    rng = np.random.default_rng(task.seed)
    moments: Moments | None = None
    ranks: list[NDArray[np.float64]] = []
    kept: list[_Sample] = []
    highest = np.inf
    for rows, x in blocks:
        moments = Moments.of(x) if moments is None else moments.merge(Moments.of(x))
        drawn = rng.random(len(x))
        low = drawn < highest
        ranks.append(drawn[low])
        kept.append(_Sample(rows[low], x[low]))
        if sum(map(len, ranks)) > SAMPLE_ROWS * 5 // 4:
            lowest, sample = _lowest(ranks, kept)
            ranks, kept, highest = [lowest], [sample], lowest.max()
    if moments is None:
        raise InputError("reference.train: no readable image", "look at the rejects, and give readable images")
    return moments, _lowest(ranks, kept)[1]


def _lowest(ranks: list[NDArray[np.float64]], kept: list[_Sample]) -> tuple[NDArray[np.float64], _Sample]:
    """The vectors of the lowest ranks, at most `SAMPLE_ROWS`, in their order."""
    rank = np.concatenate(ranks)
    sample = _Sample(np.concatenate([part.rows for part in kept]), np.concatenate([part.vectors for part in kept]))
    if len(rank) <= SAMPLE_ROWS:
        return rank, sample
    lowest = np.sort(np.argpartition(rank, SAMPLE_ROWS)[:SAMPLE_ROWS])
    return rank[lowest], _Sample(sample.rows[lowest], sample.vectors[lowest])
