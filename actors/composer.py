"""Puts nearest distances together anew, for audits of sets that were never stored as such."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.searcher import NEAREST_SCHEMA
from storage.objects import open_store


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
