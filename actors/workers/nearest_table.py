"""Tables of nearest distances: writing, reading, merging from blocks, composing from other tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scoring.checks.search_error import measure_recall
from storage.objects.open import ObjectMissingError, ObjectStore, open_store
from storage.seal import parse_parquet, read_sealed, sealed_parquet

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
"""One row per image. ``ratio`` is d(NN1) / mean d(NN2…NN50), ``train_gap`` the distance of the nearest training image
to its own nearest other one; both are NaN under 1 − |cos|, which no index supports. ``exact`` and ``second`` are the
exact distances to the two nearest, for the sample that measures the recall; NaN elsewhere.

The file's metadata say how it was searched: ``search``, ``index_table``, ``index_version``, ``probes``, and the
``recall`` measured on ``exact_queries``."""


def write_nearest(store: ObjectStore, key: str, table: pa.Table, facts: Mapping[str, str]) -> bool:
    """Publish a table of nearest distances with the facts of its search; False when another worker was first."""
    exact = table["exact"].to_numpy()
    sample = ~np.isnan(exact)
    hits = measure_recall(table["distance"].to_numpy()[sample], exact[sample])
    measured = {"exact_queries": str(hits.queries), "recall": str(hits.rate)} if hits.queries else {}
    return _publish(store, key, table.replace_schema_metadata({**facts, **measured}))


def _publish(store: ObjectStore, key: str, table: pa.Table) -> bool:
    return store.put_if_absent(key, sealed_parquet(table))


def read_nearest(store: ObjectStore, key: str) -> pa.Table:
    """A table of nearest distances with its metadata; see `NEAREST_SCHEMA`.

    Raises:
        ObjectMissingError: There is none.
        BrokenObjectError: It is not what was written.
    """
    return read_sealed(store, key, parse_parquet)


def search_facts(table: pa.Table) -> dict[str, str]:
    """The metadata of a table of nearest distances; empty for a composed one."""
    return {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}


@dataclass(frozen=True, slots=True, eq=False)
class NearestTable:
    """The nearest distances of one set in one layer; see `NEAREST_SCHEMA`, each column (n,).

    ``probes`` is the number of partitions of the index that were searched; None for a composed table.
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
        """The table without some images."""
        kept = ~np.isin(self.row, rows)
        return replace(self, **{name: getattr(self, name)[kept] for name in NEAREST_SCHEMA.names})


@dataclass(frozen=True, slots=True)
class MergeBlocks:
    """The blocks of one table, in order, and the key of the table."""

    store: str
    keys: tuple[str, ...]
    key: str


def merge_blocks(task: MergeBlocks) -> bool:
    """Join the blocks to their table and remove them; False when another worker, of this or another audit, did so.

    Raises:
        ObjectMissingError: Neither a block nor the table is there.
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


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one table of nearest distances."""

    key: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Compose:
    """The parts of one table, and its key."""

    store: str
    parts: tuple[Part, ...]
    key: str


def compose_table(task: Compose) -> int:
    """Compose one table, its rows renumbered in the order of the parts; returns their number."""
    store = open_store(task.store)
    tables = []
    for part in task.parts:
        table = read_nearest(store, part.key).select(NEAREST_SCHEMA.names).cast(NEAREST_SCHEMA)
        tables.append(table.filter(pc.is_in(table["row"], pa.array(part.rows, pa.int64()))))
    whole = pa.concat_tables([NEAREST_SCHEMA.empty_table(), *tables])
    numbered = whole.set_column(0, NEAREST_SCHEMA.field("row"), pa.array(range(whole.num_rows), pa.int64()))
    _publish(store, task.key, numbered)
    return int(whole.num_rows)
