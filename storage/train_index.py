"""The projected train images of one layer with their index: the cells of C_T are its partitions (METHOD §4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import StageError
from storage.vectors import VectorStore, vector_array, vector_matrix


def write_indexed(
    vectors: VectorStore,
    name: str,
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    centroids: NDArray[np.float32],
) -> int:
    """Write one layer's projected train vectors and index them by cell.

    The IVF_FLAT index is given the k-means centroids, so that its partitions are the cells and a search with one
    probe is the in-cell search.

    Args:
        vectors: Where the table goes.
        name: Table; overwritten if it is there.
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
    dataset = lance.write_dataset(
        pa.RecordBatchReader.from_batches(schema, batches),
        vectors.table_uri(name),
        mode="overwrite",
        storage_options=vectors.options,
    )
    dataset = dataset.create_index(
        "vector",
        "IVF_FLAT",
        metric="l2",
        num_partitions=len(centroids),
        ivf_centroids=centroids,
        replace=True,
        storage_options=vectors.options,
    )
    return int(dataset.version)


def nearest_in_cell(
    table: Any, queries: NDArray[np.float32], block: int = 4096
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest indexed vector of each query within the query's cell.

    Args:
        table: LanceDB table written by `write_indexed`.
        queries: (q, k) float32.
        block: Queries per call.

    Returns:
        row (q,) int64 of the nearest vector, and that vector (q, k) float32; the caller computes the distance
        itself, since the index works in float32.

    Raises:
        StageError: if the index gives no neighbour for a query.
    """
    row = np.full(len(queries), -1, np.int64)
    vector = np.zeros_like(queries)
    for start in range(0, len(queries), block):
        search = table.search(queries[start : start + block], vector_column_name="vector")
        found = search.distance_type("l2").nprobes(1).limit(1).select(["row", "vector", "_distance"]).to_arrow()
        at = start + found["query_index"].to_numpy()
        row[at] = found["row"].to_numpy()
        vector[at] = vector_matrix(found["vector"])
    missing = int((row < 0).sum())
    if missing:
        raise StageError(
            f"the index of {table.name} gave no neighbour for {missing} of {len(queries)} images",
            "delete the store's partitions/ folder and run again: the index does not fit its cells",
        )
    return row, vector
