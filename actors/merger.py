"""Joins the blocks of a layer's nearest distances to one table."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from actors.searcher import read_nearest, search_facts, write_nearest
from storage.objects import ObjectMissingError, open_store


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
