"""Upkeep of a store: removes what nothing refers to. Results, and the tables that they name, always stay.

These are removed once they were not written for ``keep_days``, so that no running stage loses what it uses:

* receipts of committed tables, which the marker replaces;
* old versions of committed tables, and files of no version (of workers that lost a race or died), by Lance's own
  clean-up; the version that a marker names, and tagged ones, stay;
* embedding tables that no audit, profile or reference needs and whose image set was not used: sets that were
  attributed once, earlier states of a set that changed;
* embeddings that were started and never finished;
* old claims and failures, and leftovers of Ray jobs that died.

Fragments of a table without a marker stay as long as its receipts are young: they wait for their commit. Indexes are
built in full with their tables, so none needs a refresh; for compaction see docs/sweeps.md.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import lance

from flows.registry.live_tables import live_tables
from storage import layout
from storage.objects.open import ObjectStore, open_store
from storage.seal import read_json
from storage.vectors.tables import VectorStore

DAY_S = 24 * 3600.0


@dataclass
class Upkeep:
    """What was removed, or would be.

    Attributes:
        dry_run: Whether nothing was removed.
        tables: Names of removed embedding tables.
        unfinished: Names of removed tables that were never finished.
        versions: Old versions of tables that stay.
        files: Files of no version, of tables that stay.
        receipts: Receipts of tables that stay.
        notes: Claims and failures.
        bytes_freed: Bytes of all of these.
    """

    dry_run: bool
    tables: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    versions: int = 0
    files: int = 0
    receipts: int = 0
    notes: int = 0
    bytes_freed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The result in one line."""
        counts = {
            "tables": len(self.tables),
            "unfinished tables": len(self.unfinished),
            "old versions": self.versions,
            "orphan files": self.files,
            "receipts": self.receipts,
            "old notes": self.notes,
        }
        removed = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        if not removed:
            return "nothing to remove"
        return f"{'would remove' if self.dry_run else 'removed'} {removed}: {self.bytes_freed / 2**20:,.1f} MiB"


def maintain(store_uri: str, keep_days: float, dry_run: bool = False) -> Upkeep:
    """Remove from a store what nothing refers to.

    Args:
        store_uri: The store of the audits.
        keep_days: Anything written or used within so many days stays.
        dry_run: Only report what would be removed.

    Raises:
        StoreError: the store cannot be read or written.
    """
    store = open_store(store_uri)
    work = _Work(store, time.time() - keep_days * DAY_S, dt.timedelta(days=keep_days), Upkeep(dry_run))
    markers = VectorStore(store).finished()
    receipts = _by_table(store.list(layout.RECEIPTS))
    needed = live_tables(store, markers, work.since)
    for table in sorted(markers):
        work.committed(table, receipts.get(table, []), needed=table in needed)
    written = {layout.name_of(folder) for folder in store.folders(layout.VECTORS) if layout.is_embedding_table(folder)}
    for table in sorted({*receipts, *written} - markers):
        work.begun(table, receipts.get(table, []))
    for key in [info.key for prefix in (layout.CLAIMS, layout.FAILURES, layout.JOBS) for info in store.list(prefix)]:
        work.note(key)
    return work.done


@dataclass
class _Work:
    """One upkeep while it runs; what was last written before ``since``, which is ``older`` ago, is old."""

    store: ObjectStore
    since: float
    older: dt.timedelta
    done: Upkeep

    def committed(self, table: str, receipts: list[str], *, needed: bool) -> None:
        """Clean up a table with a marker, or remove it."""
        marker = layout.marker_key(table)
        if self.store.modified(marker) >= self.since:
            return
        if not needed:
            self.done.tables.append(table)
            self._remove([*receipts, marker])  # in this order: a marker without receipts is valid
            self._remove(self._files(table))
            return
        self.done.receipts += len(receipts)
        self._remove(receipts)
        self._clean(table, int(read_json(self.store, marker)["version"]))

    def begun(self, table: str, receipts: list[str]) -> None:
        """Remove an old table that was never committed."""
        files = self._files(table)
        if any(self.store.modified(key) >= self.since for key in [*receipts, *files]):
            return
        self.done.unfinished.append(table)
        self._remove([*receipts, *files])

    def note(self, key: str) -> None:
        """Remove an old claim, failure or file of a job."""
        if self.store.modified(key) < self.since:
            self.done.notes += 1
            self._remove([key])

    def _clean(self, table: str, version: int) -> None:
        """Remove old versions of a table and files of none; the marker's version and tagged ones stay."""
        vectors = VectorStore(self.store)
        dataset = lance.dataset(vectors.table_uri(table), storage_options=vectors.options)
        if version != dataset.version:  # two drivers committed the same rows, and the first wrote the marker
            dataset.tags.create("committed", version)
        rule = {"older_than": self.older, "error_if_tagged_old_versions": False}
        if self.done.dry_run:
            stats = dataset.explain_cleanup_old_versions(**rule).stats
        else:
            stats = dataset.cleanup_old_versions(**rule)
        self.done.versions += stats.old_versions
        self.done.files += stats.data_files_removed
        self.done.bytes_freed += stats.bytes_removed

    def _files(self, table: str) -> list[str]:
        return [info.key for info in self.store.list(f"{layout.table_folder(table)}/")]

    def _remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.done.bytes_freed += self.store.info(key).size
            if not self.done.dry_run:
                self.store.delete(key)


def _by_table(receipts: Iterator[Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for info in receipts:
        found.setdefault(layout.table_of_receipt(info.key), []).append(info.key)
    return found
