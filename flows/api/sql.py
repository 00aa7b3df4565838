"""SQL over the results of a store."""

from __future__ import annotations

import duckdb

from flows.api.spec import Place, absolute
from storage.results import sql


def connect(store: Place) -> duckdb.DuckDBPyConnection:
    """Open the results of a store as DuckDB views: `releases`, `audits`, `scores`, `checks`, `evidence` and more.

    The connection can only read, and only these views; docs/sql.md lists them and their columns.

    Args:
        store: A folder or an ``s3://`` prefix, such as ``Audit.store``.

    Raises:
        InputError: the store cannot be opened.
    """
    return sql.connect(absolute(store))
