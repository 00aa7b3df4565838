"""The rows of a store's result tables, to compare those of two stores."""

from __future__ import annotations

from typing import Any

from storage.results.sql import run_sql
from storage.results.tables import SCHEMAS

CHANGING = {"created_at", "seconds", "forward_images", "settings", "spec_digest", "index_table", "index_version"}
"""Columns that say when, where and how a row was made."""

Rows = dict[str, list[dict[str, Any]]]


def result_rows(store_uri: str) -> Rows:
    """All rows of all tables in one order, without what says when they were made."""
    found = {table: run_sql(store_uri, f"FROM {table}").to_pylist() for table in SCHEMAS}
    return {
        table: sorted(({k: v for k, v in row.items() if k not in CHANGING} for row in rows), key=repr)
        for table, rows in found.items()
    }
