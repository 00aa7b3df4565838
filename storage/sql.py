"""SQL over the Parquet results of a store: DuckDB reads, and can do nothing else.

The files are read through Arrow's file systems, so that S3 needs no extension. External access is off and
the configuration is locked before the first statement of a user is seen.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from storage.errors import InputError
from storage.objects import arrow_filesystem, open_store
from storage.results import SCHEMAS, result_keys

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
_LOCK = ("SET enable_external_access = false", "SET lock_configuration = true")
_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}

_RELEASES = """
CREATE TEMP VIEW releases AS
WITH latest AS (
    SELECT * FROM audits
    QUALIFY row_number() OVER (PARTITION BY release, version, run ORDER BY created_at DESC, audit_id DESC) = 1
), ends AS (
    SELECT audit_id, arg_min(a_hat, layer) AS a_hat_first, arg_max(a_hat, layer) AS a_hat_last
    FROM scores WHERE informative GROUP BY audit_id
)
SELECT release, version, run, family, reference, preset, verdict,
    copy_rate, copy_rate_low, copy_rate_high, a_hat_first, a_hat_last, images AS m, created_at, audit_id
FROM latest LEFT JOIN ends USING (audit_id)
"""


def connect(store_uri: str) -> duckdb.DuckDBPyConnection:
    """A locked in-memory database with a view for every results table, and `releases`.

    `releases` holds the latest audit of every release and version: verdict, copy rate with its interval, Â of
    the first and the last informative layer, m. The views show the files that existed at this call.

    Args:
        store_uri: The store of the audits.

    Raises:
        StoreError: The store cannot be read.
    """
    store = open_store(store_uri)
    keys = {table: result_keys(store, table) for table in SCHEMAS}
    connection = duckdb.connect(":memory:", config=_CONFIG)
    for table, schema in SCHEMAS.items():
        connection.register(table, _relation(store_uri, keys[table], schema))
    connection.execute(_RELEASES)
    for statement in _LOCK:
        connection.execute(statement)
    return connection


def _relation(store_uri: str, keys: list[str], schema: pa.Schema) -> pa.Table | ds.Dataset:
    if not keys:
        return schema.empty_table()
    filesystem, root = arrow_filesystem(store_uri)
    paths = [f"{root}/{key}" for key in keys]
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)


def run_sql(store_uri: str, statement: str) -> pa.Table:
    """Runs one reading statement (SELECT, FROM, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN).

    Args:
        store_uri: The store of the audits.
        statement: The SQL.

    Raises:
        InputError: It is not exactly one statement, does not only read, or DuckDB refuses it.
        StoreError: The store cannot be read.
    """
    with connect(store_uri) as connection:
        try:
            _demand_reading(statement)
            return connection.sql(statement).to_arrow_table()
        except duckdb.Error as error:
            raise InputError(f"SQL: {error}", _remedy(connection)) from error


def _demand_reading(statement: str) -> None:
    kinds = [parsed.type for parsed in duckdb.extract_statements(statement)]
    if len(kinds) != 1 or kinds[0] not in _READING:
        found = ", ".join(kind.name for kind in kinds) or "nothing"
        raise InputError(f"SQL: found {found}", "give exactly one SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN")


def _remedy(connection: duckdb.DuckDBPyConnection) -> str:
    columns = connection.execute(
        "SELECT view_name || '(' || string_agg(column_name, ', ' ORDER BY column_index) || ')' "
        "FROM duckdb_views() JOIN duckdb_columns() ON view_name = table_name "
        "WHERE NOT duckdb_views.internal GROUP BY view_name ORDER BY view_name"
    )
    return "the views are " + "; ".join(str(row[0]) for row in columns.fetchall())
