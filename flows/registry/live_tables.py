"""Which embedding tables of a store are needed: by results, by the reference, or by sets that are in use."""

from __future__ import annotations

import json
from collections.abc import Collection
from itertools import product
from typing import Any

from actors.stages.reference import PartitionSettings, partition_prefix
from flows.results.identity import reference_digest
from storage.layout import ENCODERS, OWNER_KEY, SETS, embedding_table
from storage.objects.open import ObjectStore
from storage.results.sql import run_sql
from storage.vectors.reuse import EarlierTable
from storage.vectors.tables import VectorStore

_AUDITED = "SELECT DISTINCT encoder_digest, images_digest FROM audits"
_PROFILED = 'SELECT DISTINCT "table" FROM profiles WHERE "table" IS NOT NULL'
_REFERENCES = (
    "SELECT DISTINCT reference_digest, components, cells, seed, coalesce(search, 'in_cell') AS search FROM audits"
)


def needed_tables(store: ObjectStore, tables: Collection[str], since: float) -> set[str]:
    """The tables among these that must stay.

    Args:
        store: The store.
        tables: Names of committed embedding tables.
        since: A set that was used at or after this time (seconds since 1970) is in use.
    """
    audited = {embedding_table(row["encoder_digest"], row["images_digest"]) for row in _rows(store, _AUDITED)}
    profiled = {str(row["table"]) for row in _rows(store, _PROFILED)}
    return audited | profiled | _of_references(store, tables) | _of_owner(store) | _in_use(store, since)


def _of_references(store: ObjectStore, tables: Collection[str]) -> set[str]:
    """Train and held-out tables of every reference that an audit was made with.

    An audit keeps the digest of its reference only: of all pairs of tables those are meant that give it.
    """
    needed: set[str] = set()
    vectors = VectorStore(store)
    known = [table for name in tables if (table := vectors.committed(name)) is not None]
    for row in _rows(store, _REFERENCES):
        settings = PartitionSettings(row["components"], row["cells"], row["seed"], row["search"])
        for train, held_out in product(known, known):
            if reference_digest(partition_prefix(train, settings), held_out.name) == row["reference_digest"]:
                needed |= {train.name, held_out.name}
    return needed


def _of_owner(store: ObjectStore) -> set[str]:
    """The tables of the store's own reference under every encoder that was ever loaded."""
    if not store.exists(OWNER_KEY):
        return set()
    contents = json.loads(store.get(OWNER_KEY))["contents"]
    encoders = [json.loads(store.get(info.key))["digest"] for info in store.list(ENCODERS)]
    return {embedding_table(encoder, images) for encoder in encoders for images in contents.values()}


def _in_use(store: ObjectStore, since: float) -> set[str]:
    """The last table of every set that was audited, enrolled or attributed of late."""
    notes = [info.key for info in store.list(SETS) if store.modified(info.key) >= since]
    return {EarlierTable(**json.loads(store.get(key))).table for key in notes}


def _rows(store: ObjectStore, statement: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run_sql(store.uri, statement).to_pylist()
    return found
