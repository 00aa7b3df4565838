"""Tables of nearest distances: written, read, merged from blocks, composed of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scoring.checks.search_error import measure_recall
from storage.objects.open import ObjectMissingError, ObjectStore, open_store

NEAREST_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("cell", pa.int32(), nullable=False),
        pa.field("distance", pa.float64(), nullable=False),
        pa.field("train_row", pa.int64(), nullable=False),
        pa.field("ratio", pa.float64()),
        pa.field("train_gap", pa.float64()),
        pa.field("exact", pa.float64()),
        pa.field("second", pa.float64()),
    ]
)
"""One row an image. ``ratio`` is d(NN1) / mean d(NN2…NN50), ``train_gap`` the distance of the nearest train image to
its own nearest other one; both are NaN under 1 − |cos|, which the index does not know. ``exact`` and ``second`` are the
exact distances to the two nearest, for the sample that measures the recall; NaN elsewhere.

The metadata of the file say how it was searched: ``search``, ``index_table``, ``index_version``, ``probes``, and on how
many ``exact_queries`` which ``recall`` was measured."""


def write_nearest(store: ObjectStore, key: str, table: pa.Table, facts: Mapping[str, str]) -> bool:
    """Publish a table of nearest distances with how it was searched; False when another worker was first."""
    exact = table["exact"].to_numpy()
    sample = ~np.isnan(exact)
    found = measure_recall(table["distance"].to_numpy()[sample], exact[sample])
    measured = {"exact_queries": str(found.queries), "recall": str(found.rate)} if found.queries else {}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**facts, **measured}), sink)
    return store.put_if_absent(key, sink.getvalue().to_pybytes())


def read_nearest(store: ObjectStore, key: str) -> pa.Table:
    """A table of nearest distances with the metadata of its schema; see `NEAREST_SCHEMA`."""
    return pq.read_table(pa.BufferReader(store.get(key)))


def search_facts(table: pa.Table) -> dict[str, str]:
    """The metadata of a table of nearest distances; empty for one that was put together from others."""
    return {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}


@dataclass(frozen=True, slots=True, eq=False)
class NearestTable:
    """The nearest distances of one set in one layer; see `NEAREST_SCHEMA`, each column (n,).

    ``probes`` says how many partitions of the index were searched; None for a table that was put together from others.
    """

    row: NDArray[np.int64]
    cell: NDArray[np.int32]
    distance: NDArray[np.float64]
    train_row: NDArray[np.int64]
    ratio: NDArray[np.float64]
    train_gap: NDArray[np.float64]
    exact: NDArray[np.float64]
    second: NDArray[np.float64]
    probes: int | None = None

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> NearestTable:
        table = read_nearest(store, key)
        probes = search_facts(table).get("probes")
        columns = {name: table[name].to_numpy() for name in NEAREST_SCHEMA.names}
        return cls(**columns, probes=None if probes is None else int(probes))

    def without(self, rows: NDArray[np.int64]) -> NearestTable:
        """The table less some images."""
        kept = ~np.isin(self.row, rows)
        return replace(self, **{name: getattr(self, name)[kept] for name in NEAREST_SCHEMA.names})


@dataclass(frozen=True, slots=True)
class MergeBlocks:
    """Blocks of one table, in order, at ``keys``; the table goes to ``key``."""

    store: str
    keys: tuple[str, ...]
    key: str


@dataclass(unsafe_hash=True)
class Merger:
    """A worker that joins one layer's blocks at a time, and removes them when the table is there."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: MergeBlocks) -> bool:
        """Join the blocks; False when another worker, of this audit or of one at the same time, did.

        Raises:
            ObjectMissingError: A block is not there, and the table neither.
        """
        store = open_store(task.store)
        try:
            blocks = [read_nearest(store, key) for key in task.keys]
        except ObjectMissingError:
            if store.exists(task.key):
                return False
            raise
        published = write_nearest(store, task.key, pa.concat_tables(blocks), search_facts(blocks[0]))
        for key in task.keys:
            store.delete(key)
        return published

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one table of nearest distances."""

    key: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Compose:
    """Parts that make one table, at ``key``."""

    store: str
    parts: tuple[Part, ...]
    key: str


@dataclass(unsafe_hash=True)
class Composer:
    """A worker that composes one table at a time."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: Compose) -> int:
        """Compose one table; returns its length. Its rows are numbered anew, in the order of the parts."""
        store = open_store(task.store)
        tables = []
        for part in task.parts:
            table = pq.read_table(pa.BufferReader(store.get(part.key)), schema=NEAREST_SCHEMA)
            tables.append(table.filter(pc.is_in(table["row"], pa.array(part.rows, pa.int64()))))
        whole = pa.concat_tables([NEAREST_SCHEMA.empty_table(), *tables])
        numbered = whole.set_column(0, NEAREST_SCHEMA.field("row"), pa.array(range(whole.num_rows), pa.int64()))
        sink = pa.BufferOutputStream()
        pq.write_table(numbered, sink)
        store.put_if_absent(task.key, sink.getvalue().to_pybytes())
        return int(whole.num_rows)

    def close(self) -> None:
        """Nothing to give back."""
