"""Which embedding tables of a store are needed: by results, by the reference, or by sets that are in use."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flows.results.made_from import owner_contents, tables_of_old_audit
from storage.layout import COPY_REFERENCES, ENCODERS, SETS, embedding_table, name_of
from storage.objects.open import ObjectStore
from storage.results.sql import run_sql
from storage.seal import read_json
from storage.vectors.reuse import read_earlier

_AUDITED = "SELECT DISTINCT encoder_digest, images_digest FROM audits"
_PROFILED = 'SELECT DISTINCT "table" FROM profiles WHERE "table" IS NOT NULL'
_TOKENS = "SELECT DISTINCT tokens FROM audits WHERE tokens IS NOT NULL"
_REFERENCES = "SELECT DISTINCT train_table, held_out_table FROM audits WHERE train_table IS NOT NULL"
_OLD_REFERENCES = """
SELECT DISTINCT encoder_digest, reference_digest, components, cells, seed, search FROM audits WHERE train_table IS NULL
"""


def live_tables(store: ObjectStore, tables: Collection[str], since: float) -> set[str]:
    """The tables among these that must stay.

    Args:
        store: The store.
        tables: Names of committed embedding tables.
        since: A set that was used at or after this time (seconds since 1970) is in use.
    """
    audited = {embedding_table(row["encoder_digest"], row["images_digest"]) for row in _rows(store, _AUDITED)}
    profiled = {str(row["table"]) for row in _rows(store, _PROFILED)}
    tokens = {str(row["tokens"]) for row in _rows(store, _TOKENS)}
    references = _of_references(store, tables) | _of_copy_references(store)
    return audited | profiled | tokens | references | _of_owner(store) | _in_use(store, since)


def _of_references(store: ObjectStore, tables: Collection[str]) -> set[str]:
    """Train and held-out tables of every reference that an audit was made with."""
    needed = {table for row in _rows(store, _REFERENCES) for table in row.values()}
    owner = owner_contents(store)
    for row in _rows(store, _OLD_REFERENCES):
        own = [[embedding_table(row["encoder_digest"], images)] for images in owner.values()]
        pair = (tables_of_old_audit(row, *own) if own else None) or tables_of_old_audit(row, tables, tables)
        needed |= set(pair[:2]) if pair else set()
    return needed


def _of_copy_references(store: ObjectStore) -> set[str]:
    """The token tables of every reference."""
    return {name_of(info.key) for info in store.list(COPY_REFERENCES)}


def _of_owner(store: ObjectStore) -> set[str]:
    """The tables of the store's own reference under every encoder that was ever loaded."""
    encoders = [read_json(store, info.key)["digest"] for info in store.list(ENCODERS)]
    return {embedding_table(encoder, images) for encoder in encoders for images in owner_contents(store).values()}


def _in_use(store: ObjectStore, since: float) -> set[str]:
    """The last table of every set that was audited, enrolled or attributed of late."""
    notes = [info.key for info in store.list(SETS) if store.modified(info.key) >= since]
    return {read_earlier(store, key).table for key in notes}


def _rows(store: ObjectStore, statement: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run_sql(store.uri, statement).to_pylist()
    return found
