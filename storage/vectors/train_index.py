"""The projected training images of one layer with their index (docs/method.md: "Search").

With the cells of C_T as partitions, a search with one probe is the exact in-cell search; with many small partitions, a
few probes nearly always find the nearest image of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import StageError
from storage.layout import table_folder
from storage.vectors.tables import VectorStore, vector_array, vector_matrix


def write_indexed(
    vectors: VectorStore,
    name: str,
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    centroids: NDArray[np.float32],
) -> int:
    """Write one layer's projected training vectors, index them by given centroids, and tag the version.

    Results name the tagged version; a clean-up of old versions keeps it.

    Args:
        vectors: The store of the table.
        name: Table; overwritten if it exists.
        blocks: (row (b,) int64, projected (b, k) float32) in any order.
        centroids: (c, k) float32.

    Returns:
        The version to read.
    """
    schema = pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), centroids.shape[1]), nullable=False),
        ]
    )
    batches = (pa.record_batch([pa.array(row), vector_array(x)], schema=schema) for row, x in blocks)
    with vectors.guarded(name):
        dataset = lance.write_dataset(
            pa.RecordBatchReader.from_batches(schema, batches),
            vectors.table_uri(name),
            mode="overwrite",
            storage_options=vectors.options,
        )
        vectors.check_written(name, [fragment.metadata for fragment in dataset.get_fragments()])
        dataset = lance.dataset(vectors.table_uri(name), dataset.version, storage_options=vectors.options)
        dataset = dataset.create_index(
            "vector",
            "IVF_FLAT",
            metric="l2",
            num_partitions=len(centroids),
            ivf_centroids=centroids,
            replace=True,
            storage_options=vectors.options,
        )
        version = int(dataset.version)
        dataset.tags.create(f"index-{version}", version)
        vectors.store.make_durable(f"{table_folder(name)}/")
        return version


class Neighbours(NamedTuple):
    """The nearest indexed vectors of each query within the probed partitions.

    Attributes:
        row: (q,) int64, row of the nearest.
        vector: (q, k) float32, the nearest vector; the caller recomputes its distance, since rounding in the index
            (float32) would hide near-duplicates.
        distances: (q, neighbours) float64, ascending as the index gives them; infinite where there are fewer.
        rows: (q, neighbours) int64, -1 where there are fewer.
    """

    row: NDArray[np.int64]
    vector: NDArray[np.float32]
    distances: NDArray[np.float64]
    rows: NDArray[np.int64]


def nearest_indexed(
    table: Any, queries: NDArray[np.float32], neighbours: int = 1, probes: int = 1, block: int = 2048
) -> Neighbours:
    """Search the partitions nearest to each query; where partitions are cells, one probe is the query's own cell.

    Args:
        table: LanceDB table written by `write_indexed`.
        queries: (q, k) float32.
        neighbours: Neighbours per query.
        probes: Partitions to search.
        block: Queries per call.

    Raises:
        StageError: The index returns no neighbour for a query.
    """
    shape = (len(queries), neighbours)
    distances, rows = np.full(shape, np.inf), np.full(shape, -1, np.int64)
    vector = np.zeros_like(queries)
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        nearest = _search(table, part, 1, probes, ["row", "vector", "_distance"])
        vector[start + nearest["query_index"].to_numpy()] = vector_matrix(nearest["vector"])
        several = nearest if neighbours == 1 else _search(table, part, neighbours, probes, ["row", "_distance"])
        index, squared = several["query_index"].to_numpy(), several["_distance"].to_numpy()
        order = np.lexsort((squared, index))
        at = start + index[order]
        rank = np.arange(len(at)) - np.searchsorted(at, at)
        distances[at, rank] = np.sqrt(np.maximum(squared[order].astype(np.float64), 0))
        rows[at, rank] = several["row"].to_numpy()[order]
        rows[start + nearest["query_index"].to_numpy(), 0] = nearest["row"].to_numpy()
    missing = int((rows[:, 0] < 0).sum())
    if missing:
        raise StageError(
            f"the index of {table.name} gave no neighbour for {missing} of {len(queries)} images",
            "delete the folders partitions/ and nearest/ of the store and run again: the index does not fit its images",
        )
    return Neighbours(rows[:, 0], vector, distances, rows)


def _search(table: Any, queries: NDArray[np.float32], limit: int, probes: int, columns: list[str]) -> pa.Table:
    search = table.search(queries, vector_column_name="vector").distance_type("l2")
    rows = search.nprobes(probes).limit(limit).select(columns).to_arrow()
    if "query_index" not in rows.column_names:  # LanceDB omits it for a batch of one
        rows = rows.append_column("query_index", pa.array([0] * rows.num_rows, pa.int32()))
    return rows
