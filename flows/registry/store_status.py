"""The contents of a store."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from actors.stages.bisect_shard import killers
from flows.spec.spec import AuditSpec
from storage.layout import RECEIPTS, table_of_receipt
from storage.objects.open import open_store
from storage.results.sql import run_sql
from storage.seal import unless_broken
from storage.vectors.tables import VectorStore

_LATEST = """
SELECT release, version, coalesce(run, '1') AS run, verdict,
    copy_rate, copy_rate_low, copy_rate_high, copies_at_least, copies_low, copies_high, distinct_images, units,
    images, rejected, created_at, audit_id
FROM latest_audits
ORDER BY release, version, run
"""


class StoreStatus(NamedTuple):
    """The contents of a store.

    Attributes:
        releases: The latest audit of each release.
        not_audited: Releases of the spec without any audit.
        unfinished: Embedding tables with receipts that are not committed.
        left_out: Images that killed the process embedding them, and their tables.
    """

    releases: list[dict[str, Any]]
    not_audited: list[str]
    unfinished: list[str]
    left_out: list[str]


def store_status(store_uri: str, spec: AuditSpec | None) -> StoreStatus:
    """Read a store's results and markers.

    Raises:
        StoreError: the store cannot be read.
    """
    store = open_store(store_uri)
    releases = run_sql(store_uri, _LATEST).to_pylist()
    known = {(row["release"], row["version"], row["run"]) for row in releases}
    wanted = spec.releases if spec else []
    begun: dict[str, int] = {}
    for info in store.list(RECEIPTS):
        table = table_of_receipt(info.key)
        begun[table] = begun.get(table, 0) + 1
    vectors = VectorStore(store)
    finished = vectors.finished()
    read = [
        unless_broken(partial(vectors.committed, name), "the next audit makes it again") for name in sorted(finished)
    ]
    tables = [table for table in read if table is not None]
    return StoreStatus(
        releases=releases,
        not_audited=[release.label for release in wanted if (release.name, release.version, release.run) not in known],
        unfinished=[f"{table} ({count} shards done)" for table, count in begun.items() if table not in finished],
        left_out=[f"{key} of {table.name}" for table in tables for key in killers(table)],
    )
