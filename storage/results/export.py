"""The views of a store as a ``.duckdb`` file for DBeaver, Tableau, Metabase and notebooks."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

from storage.errors import InputError
from storage.layout import results_folder
from storage.objects.open import LocalStore, ObjectStore, open_store
from storage.results.files import ResultFiles, ResultTable
from storage.results.tables import SCHEMAS, result_keys
from storage.results.views import VIEWS, empty_table, literal, no_glob, read_parquet

_STORAGE_VERSION = "v1.0.0"
"""Format of the file, which every DuckDB reads; its views need DuckDB 1.4."""


class ExportedViews(NamedTuple):
    """A file of views.

    Attributes:
        path: The file.
        live: Whether its views read the store's files (a folder); else it contains a copy of their rows (S3).
        empty: Tables without a file; they stay empty until the next export.
    """

    path: Path
    live: bool
    empty: list[str]


def export_views(store_uri: str, path: Path) -> ExportedViews:
    """Write every table and view of a store to a DuckDB file.

    For a folder the views read its Parquet files by absolute paths, so that later audits appear. For S3 the rows are
    copied, since DuckDB would have to download an extension.

    Args:
        store_uri: The store of the audits.
        path: A new file.

    Raises:
        InputError: The file exists, or cannot be written.
        StoreError: The store cannot be read.
    """
    store = open_store(store_uri)
    if path.exists():
        raise InputError(f"{path} exists", "give the path of a new file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    files = ResultFiles(store_uri)
    try:
        with duckdb.connect(part, config={"storage_compatibility_version": _STORAGE_VERSION}) as connection:
            empty = [table for table in SCHEMAS if not _write(connection, store, files, table)]
            for view, query in VIEWS.items():
                connection.execute(f"CREATE VIEW {view} AS {query}")
        os.replace(part, path)
    except (duckdb.Error, OSError) as error:
        if files.error is not None:
            raise files.error from error
        raise InputError(f"{path} cannot be written: {error}", "give a path in a folder that can be written") from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return ExportedViews(path, isinstance(store, LocalStore), empty)


def _write(connection: duckdb.DuckDBPyConnection, store: ObjectStore, files: ResultFiles, table: str) -> bool:
    """Write one table; returns whether it has a file."""
    if not result_keys(store, table):
        connection.execute(f"CREATE VIEW {table} AS {empty_table(table)}")
        return False
    if isinstance(store, LocalStore):
        paths = literal(f"{no_glob(str(store.root))}/{results_folder(table)}*.parquet")
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {read_parquet(table, paths)}")
        return True
    connection.register("rows_of_s3", ResultTable(files, table))
    connection.execute(f"CREATE TABLE {table} AS SELECT * FROM rows_of_s3")
    connection.unregister("rows_of_s3")
    return True
