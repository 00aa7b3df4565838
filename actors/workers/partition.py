"""Fits the partition of one layer on train, and writes the projected train images with their index."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.nearest.search_plan import SearchMode, index_centroids
from scoring.partition.fit import Fitted, Partition, fit_projected
from scoring.partition.moments import Moments
from storage.errors import InputError
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column
from storage.vectors.train_index import write_indexed

SAMPLE_ROWS = 100_000
"""Train vectors that k-means sees at most, drawn with the seed."""


@dataclass(frozen=True, slots=True)
class FitLayer:
    """One layer of one reference to partition.

    ``key`` is where the partition goes in the store; ``index_table`` begins the name of its indexed train table.
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
    """A partition and the indexed table of its projected train vectors (version 0, no table: a constant layer).

    ``search`` says what the index is for: its partitions are the cells, or many small ones.
    """

    partition: Partition
    index_table: str
    index_version: int
    search: SearchMode

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> StoredPartition:
        with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as arrays:
            found = dict(arrays)
        search: SearchMode = "global" if str(found["search"]) == "global" else "in_cell"
        return cls(Partition.from_arrays(found), str(found["index_table"]), int(found["index_version"]), search)

    def save(self, store: ObjectStore, key: str) -> bool:
        """Publish the partition; False when another worker was first."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(self.partition.to_arrays())
        arrays |= {"index_table": self.index_table, "index_version": self.index_version, "search": self.search}
        np.savez(buffer, **arrays)
        return store.put_if_absent(key, buffer.getvalue())


@dataclass(unsafe_hash=True)
class Partitioner:
    """A worker that partitions one layer at a time; a partition that is there is left alone."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: FitLayer) -> bool:
        """Partition one layer.

        Returns:
            True when this call published it, False when it was there.

        Raises:
            InputError: fewer distinct train images than cells.
        """
        store = open_store(task.store)
        if store.exists(task.key):
            return False
        vectors = VectorStore(store)
        moments, sample = _moments_and_sample(_scan(vectors, task), task)
        partition, projected = self._fit(moments, sample.vectors, task)
        name, version = "", 0
        if partition.informative:
            # A name of this attempt's own: two writers of one Lance table break each other's index.
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

    def close(self) -> None:
        """Nothing to give back."""

    @staticmethod
    def _fit(moments: Moments, sample: NDArray[np.float32], task: FitLayer) -> Fitted:
        try:
            return fit_projected(moments, sample, components=task.components, cells=task.cells, seed=task.seed)
        except ValueError as error:
            raise InputError(
                f"reference.train, layer {task.layer}: {error}",
                f"set scoring.cells below {task.cells}, or give more (different) train images",
            ) from error


def _scan(vectors: VectorStore, task: FitLayer) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    return vectors.scan(task.table, task.version, layer_column(task.layer))


class _Sample(NamedTuple):
    """Some train vectors: their rows (n,) int64, and themselves (n, d) float32."""

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]


def _moments_and_sample(
    blocks: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]], task: FitLayer
) -> tuple[Moments, _Sample]:
    """One pass: moments of all vectors, and a uniform sample of at most `SAMPLE_ROWS` of them, in their order.

    Every vector gets a random rank and the lowest ranks stay, so the sample does not depend on the blocks.
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
    sample = _Sample(np.concatenate([one.rows for one in kept]), np.concatenate([one.vectors for one in kept]))
    if len(rank) <= SAMPLE_ROWS:
        return rank, sample
    lowest = np.sort(np.argpartition(rank, SAMPLE_ROWS)[:SAMPLE_ROWS])
    return rank[lowest], _Sample(sample.rows[lowest], sample.vectors[lowest])
