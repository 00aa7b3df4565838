"""Finds, for every image of a set, its nearest train image within its cell, in one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.partitioner import StoredPartition
from scoring.distances import in_cell_nearest, recompute_euclidean
from scoring.partition import Partition
from storage.objects import ObjectStore, open_store
from storage.train_index import nearest_in_cell
from storage.vectors import VectorStore, layer_column, vector_matrix

Metric = Literal["euclidean", "abs_cosine"]

NEAREST_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("cell", pa.int32(), nullable=False),
        pa.field("distance", pa.float64(), nullable=False),
        pa.field("train_row", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class SearchLayer:
    """One layer of one image set to search; ``key`` is where the nearest distances go in the store."""

    store: str
    table: str
    version: int
    layer: int
    partition_key: str
    metric: Metric
    key: str


@dataclass(unsafe_hash=True)
class Searcher:
    """A worker that searches one layer of one set at a time; a result that is there is left alone."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: SearchLayer) -> bool:
        """Search one layer; False when its result was there."""
        store = open_store(task.store)
        if store.exists(task.key):
            return False
        stored = StoredPartition.load(store, task.partition_key)
        vectors = VectorStore(store)
        blocks = vectors.scan(task.table, task.version, layer_column(task.layer))
        tables = [self._block(stored, vectors, rows, x, task) for rows, x in blocks]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables([NEAREST_SCHEMA.empty_table(), *tables]), sink)
        store.put_if_absent(task.key, sink.getvalue().to_pybytes())
        return True

    def close(self) -> None:
        """Nothing to give back."""

    @staticmethod
    def _block(
        stored: StoredPartition,
        vectors: VectorStore,
        rows: NDArray[np.int64],
        x: NDArray[np.float32],
        task: SearchLayer,
    ) -> pa.Table:
        partition = stored.partition
        if not partition.informative:
            return NEAREST_SCHEMA.empty_table()
        projected = partition.project(x)
        cells = partition.assign(projected)
        if task.metric == "euclidean":
            index = vectors.open(stored.index_table, stored.index_version)
            train_rows, winners = nearest_in_cell(index, projected)
            distance = recompute_euclidean(projected, winners)
        else:
            distance, train_rows = _exact(stored, vectors, partition, projected, cells)
        return pa.table([rows, cells, distance, train_rows], schema=NEAREST_SCHEMA)


def _exact(
    stored: StoredPartition,
    vectors: VectorStore,
    partition: Partition,
    projected: NDArray[np.float32],
    cells: NDArray[np.int32],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The exact search of the paper preset: no index knows 1 − |cos|."""
    table = vectors.dataset(stored.index_table, stored.index_version).to_table(columns=["row", "vector"])
    train = vector_matrix(table["vector"])
    found = in_cell_nearest(projected, cells, train, partition.assign(train), "abs_cosine")
    return found.distance, table["row"].to_numpy()[found.row]


@dataclass(frozen=True, slots=True, eq=False)
class NearestTable:
    """The nearest distances of one set in one layer: row, cell, distance, train_row, each (n,)."""

    row: NDArray[np.int64]
    cell: NDArray[np.int32]
    distance: NDArray[np.float64]
    train_row: NDArray[np.int64]

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> NearestTable:
        table = pq.read_table(pa.BufferReader(store.get(key)), schema=NEAREST_SCHEMA)
        return cls(*(table[name].to_numpy() for name in NEAREST_SCHEMA.names))
