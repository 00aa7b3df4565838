"""Finds the nearest training images of every image of a set in one layer, in its cell or among all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.metrics import SEARCH_QUERIES, add
from actors.workers.nearest_table import NEAREST_SCHEMA, write_nearest
from actors.workers.partition import StoredPartition
from actors.workers.search_sample import TRAIN_ROWS, SearchSample
from scoring.nearest.abs_cosine import abs_cosine_nearest
from scoring.nearest.distance_ratio import distance_ratio, mean_of_others
from scoring.nearest.in_cell import TrainBlock, in_cell_neighbours
from scoring.nearest.paired_distances import recompute_euclidean
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore, layer_column
from storage.vectors.train_index import nearest_indexed

Metric = Literal["euclidean", "abs_cosine"]

NEIGHBOURS = 50
"""Neighbours that a distance is compared with (Carlini et al. 2023)."""


@dataclass(frozen=True, slots=True)
class SearchLayer:
    """One layer of one image set to search; ``key`` is the place of the nearest distances in the store.

    ``part`` are positions in the table, None for all images. ``sample_key`` is the key of the sample that decides the
    number of probes; None for the search in the cell. ``left_out`` holds rows of the training table itself: then only
    these are searched, each left out of the training set.
    """

    store: str
    table: str
    version: int
    layer: int
    partition_key: str
    metric: Metric
    key: str
    part: slice | None = None
    sample_key: str | None = None
    left_out: tuple[int, ...] = ()


def search_layer(task: SearchLayer) -> bool:
    """Search one block of one layer; False when its result was already there."""
    store = open_store(task.store)
    if store.exists(task.key):
        return False
    stored = StoredPartition.load(store, task.partition_key)
    sample = None if task.sample_key is None else SearchSample.load(store, task.sample_key)
    table = NEAREST_SCHEMA.empty_table()
    if stored.partition.informative:
        table = _search(stored, VectorStore(store), task, sample)
    facts = {
        "search": stored.search,
        "index_table": stored.index_table,
        "index_version": str(stored.index_version),
        "probes": str(1 if sample is None else sample.probes),
    }
    return write_nearest(store, task.key, table, facts)


def _search(stored: StoredPartition, vectors: VectorStore, task: SearchLayer, sample: SearchSample | None) -> pa.Table:
    rows, projected = _left_out(vectors, stored, task) if task.left_out else _queries(vectors, stored, task)
    add(SEARCH_QUERIES, len(rows))
    own_rows = rows if task.left_out else None
    cells = stored.partition.assign(projected)
    if task.metric == "abs_cosine":
        nearest = _exact(stored, vectors, projected, cells)
    elif stored.search == "in_cell":
        nearest = _in_cell(vectors, stored, projected, cells, own_rows)
    else:
        index = vectors.open(stored.index_table, stored.index_version)
        with vectors.guarded(stored.index_table):
            nearest = _indexed(index, projected, 1 if sample is None else sample.probes, own_rows)
    nothing = np.full(len(rows), np.nan)
    known = (nothing, nothing) if sample is None or task.left_out else sample.of_rows(rows)
    return pa.table([rows, cells, *nearest, *known], schema=NEAREST_SCHEMA)


Queries = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows (q,) and projected vectors (q, k)."""


def _queries(vectors: VectorStore, stored: StoredPartition, task: SearchLayer) -> Queries:
    """The images of the set, or of a block of it."""
    scan = vectors.scan(task.table, task.version, layer_column(task.layer), part=task.part)
    return _joined((rows, stored.partition.project(x)) for rows, x in scan)


def _left_out(vectors: VectorStore, stored: StoredPartition, task: SearchLayer) -> Queries:
    """The training images that are left out, as they are in the index."""
    scan = vectors.scan(stored.index_table, stored.index_version, "vector", batch_rows=TRAIN_ROWS)
    chosen = ((rows, x, np.isin(rows, task.left_out)) for rows, x in scan)
    return _joined((rows[own], x[own]) for rows, x, own in chosen)


def _joined(blocks: Iterable[Queries]) -> Queries:
    rows, vectors = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(vectors)


Nearest = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""distance, train_row, ratio, train_gap, each (q,)."""


def _in_cell(
    vectors: VectorStore,
    stored: StoredPartition,
    projected: NDArray[np.float32],
    cells: NDArray[np.int32],
    own_rows: NDArray[np.int64] | None,
) -> Nearest:
    """Search the cells exactly; with `own_rows` the queries are training images, each left out of the training set."""
    train = _train_blocks(vectors, stored)
    if own_rows is not None:
        near = in_cell_neighbours(projected, cells, train, 1, own_rows)
        nothing = np.full(len(projected), np.nan)
        return near.distances[:, 0], own_rows, nothing, nothing
    near = in_cell_neighbours(projected, cells, train, NEIGHBOURS)
    distance, row = near.distances[:, 0], near.rows[:, 0]
    winners, first, back = np.unique(row, return_index=True, return_inverse=True)
    gaps = in_cell_neighbours(near.vector[first], cells[first], train, 1, winners)
    return distance, row, distance_ratio(distance, mean_of_others(near.distances)), gaps.distances[back, 0]


@dataclass(frozen=True, slots=True)
class _TrainBlocks:
    """All training vectors, read again each time."""

    vectors: VectorStore
    stored: StoredPartition

    def __iter__(self) -> Iterator[TrainBlock]:
        table, version = self.stored.index_table, self.stored.index_version
        for rows, x in self.vectors.scan(table, version, "vector", batch_rows=TRAIN_ROWS):
            yield TrainBlock(rows, x, self.stored.partition.assign(x))


def _train_blocks(vectors: VectorStore, stored: StoredPartition) -> Iterable[TrainBlock]:
    """All training vectors; read once where they fit one block."""
    blocks = _TrainBlocks(vectors, stored)
    few = vectors.dataset(stored.index_table, stored.index_version).count_rows() <= TRAIN_ROWS
    return list(blocks) if few else blocks


def _indexed(index: Any, projected: NDArray[np.float32], probes: int, own_rows: NDArray[np.int64] | None) -> Nearest:
    """Search the index; with `own_rows` the queries are training images, each left out of the training set."""
    if own_rows is not None:
        return _leave_one_out(index, projected, probes, own_rows)
    near = nearest_indexed(index, projected, NEIGHBOURS, probes)
    distance = recompute_euclidean(projected, near.vector)
    winners, first, back = np.unique(near.row, return_index=True, return_inverse=True)
    gaps = _gaps(index, near.vector[first], probes, winners)[back]
    others = np.maximum(near.distances, distance[:, None])  # float32 may place a neighbour a step too near
    return distance, near.row, distance_ratio(distance, mean_of_others(others)), gaps


def _leave_one_out(index: Any, projected: NDArray[np.float32], probes: int, own_rows: NDArray[np.int64]) -> Nearest:
    nothing = np.full(len(projected), np.nan)
    return _gaps(index, projected, probes, own_rows), own_rows, nothing, nothing


def _gaps(index: Any, train: NDArray[np.float32], probes: int, own_rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance of training vectors to their nearest other one; infinite where there is none."""
    near = nearest_indexed(index, train, neighbours=3, probes=probes)
    other = np.where(near.rows == own_rows[:, None], np.inf, near.distances)
    gaps: NDArray[np.float64] = other.min(axis=1)
    return gaps


def _exact(
    stored: StoredPartition, vectors: VectorStore, projected: NDArray[np.float32], cells: NDArray[np.int32]
) -> Nearest:
    """The exact search of the `paper` preset: no index supports 1 − |cos|."""
    near = abs_cosine_nearest(projected, cells, _train_blocks(vectors, stored))
    nothing = np.full(len(projected), np.nan)
    return near.distances[:, 0], near.rows[:, 0], nothing, nothing
