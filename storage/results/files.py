"""The result files of a store as tables that DuckDB reads through Arrow, opening only the files that a query needs.

Files are listed when their table is first read, and opened when their rows are. They are named after audits (or
attributions), so that a filter on that name opens no other file. Local files are read by a DuckDB of our own, separate
from the one that runs a user's statements; files on S3 by Arrow, since DuckDB would need an extension.

A file that is not what was written is named in a warning, and its rows are left out. Local files, and small ones on S3,
are compared with their digest before they are used; the pages of large ones on S3 with their checksums when they are
read.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from storage.errors import InputError, LayerprintError, StoreError
from storage.layout import results_folder
from storage.objects.open import LocalStore, ObjectInfo, arrow_filesystem, open_store
from storage.results.tables import LEFT_OUT, SCHEMAS
from storage.results.views import VIEWS, no_glob, read_parquet
from storage.seal import is_sealed, parse_parquet, parsed, unless_broken

READ_WHOLE = 64 * 1024
"""Largest file on S3 that is fetched whole: Arrow reads as much to find a footer."""
FETCHES = 32
"""Files on S3 that are fetched concurrently."""
MOST_BYTES = 4 * 1024**3
"""Largest read of a table, in Arrow's memory."""

_NAMED_AFTER = {
    table: schema.names[0] for table, schema in SCHEMAS.items() if schema.names[0] in ("audit_id", "attribution_id")
}
_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class ResultFiles:
    """The result files of a store.

    Args:
        store_uri: The store of the audits.

    Attributes:
        error: Why the last read failed; DuckDB passes on only its text.

    Raises:
        InputError: The place cannot be opened.
    """

    def __init__(self, store_uri: str) -> None:
        self._store = open_store(store_uri)
        self._lock = threading.RLock()
        self._listed: dict[str, _Listing] = {}
        self._fetched: dict[ObjectInfo, pa.Buffer] = {}
        self._sound: dict[ObjectInfo, bool] = {}
        self._latest: set[str] | None = None
        self._stopping = threading.Event()
        self.error: LayerprintError | None = None

    def list_again(self) -> None:
        """Forget the listings, so that new files are seen; fetched files are kept, since they never change."""
        with self._lock:
            self._listed.clear()
            self._latest = None
            self._stopping.clear()
            self.error = None

    def stop(self) -> None:
        """Stop a read that runs in another thread."""
        self._stopping.set()

    def read(
        self, table: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None, *, latest: bool
    ) -> pa.Table:
        """Rows of a table, without those of broken files.

        Args:
            table: A name in `SCHEMAS`.
            columns: Their names; None = all.
            where: A filter; None = all rows.
            latest: Only rows of the latest audits (see `storage.results.views.VIEWS`).

        Raises:
            InputError: They exceed `MOST_BYTES`.
            StoreError: The store or a file cannot be read.
        """
        columns = list(SCHEMAS[table].names if columns is None else columns)
        try:
            listing = self._list(table)
            fragments = listing.files.get_fragments(where)
            chosen = [file for file in fragments if not latest or _name(file.path) in self._latest_ids()]
            try:
                return self._rows(table, listing, chosen, columns, where)
            except (pa.ArrowException, OSError, duckdb.Error):
                if all(self._is_readable(listing.infos[file.path]) for file in chosen):
                    raise
                return self._rows(table, listing, chosen, columns, where)
        except LayerprintError as error:
            self.error = error
            raise
        except (pa.ArrowException, OSError, duckdb.Error) as error:
            self.error = StoreError(
                f"{self._store.child_uri(results_folder(table).removesuffix('/'))}: {error}",
                "check that the store can be read; move foreign files out of it",
            )
            raise self.error from error

    def _rows(
        self, table: str, listing: _Listing, files: list[Any], columns: list[str], where: pc.Expression | None
    ) -> pa.Table:
        local = isinstance(self._store, LocalStore)
        if local:
            files = [file for file in files if self._is_sound(listing.infos[file.path])]
        else:
            with ThreadPoolExecutor(FETCHES) as pool:
                near = pool.map(lambda file: self._whole(file, listing.infos[file.path]), files)
                files = [file for file in near if file is not None]
        if not files:
            return SCHEMAS[table].empty_table().select(columns)
        if local:
            return self._read_folder(table, files, columns, where)
        return self._read_s3(table, listing, files, columns, where)

    def _is_sound(self, info: ObjectInfo, data: bytes | None = None) -> bool:
        """Whether a file has its digest, or of an older one a footer; ``data`` are its bytes, if they are known."""
        if info not in self._sound:
            self._demand_going_on()
            self._sound[info] = self._passes(info, _check, data)
        return self._sound[info]

    def _is_readable(self, info: ObjectInfo) -> bool:
        """Whether all of a file can be read, if it was thought to be sound."""
        if self._sound.get(info, True):
            self._sound[info] = self._passes(info, parse_parquet)
        return self._sound[info]

    def _passes(self, info: ObjectInfo, check: Callable[[bytes], object], data: bytes | None = None) -> bool:
        content = self._store.get(info.key, info.etag) if data is None else data
        return unless_broken(lambda: parsed(self._store, info.key, content, check), LEFT_OUT) is not None

    def _list(self, table: str) -> _Listing:
        with self._lock:
            if table not in self._listed:
                filesystem, root = arrow_filesystem(self._store.uri)
                listed = sorted(self._store.list(results_folder(table)))
                infos = {f"{root}/{info.key}": info for info in listed if info.key.endswith(".parquet")}
                fragments = [
                    _PARQUET.make_fragment(path, filesystem, _guarantee(table, path), file_size=info.size)
                    for path, info in infos.items()
                ]
                self._listed[table] = _Listing(_dataset(table, fragments, filesystem), infos)
            return self._listed[table]

    def _latest_ids(self) -> set[str]:
        with self._lock:
            if self._latest is None:
                columns = ["audit_id", "release", "version", "run", "created_at"]
                audits = self.read("audits", columns, latest=False)
                with duckdb.connect(":memory:") as own:
                    own.register("audits", audits)
                    rows = own.execute(f"SELECT audit_id FROM ({VIEWS['latest_audits']})").fetchall()
                self._latest = {row[0] for row in rows}
            return self._latest

    def _read_folder(
        self, table: str, fragments: list[Any], columns: list[str], where: pc.Expression | None
    ) -> pa.Table:
        # Arrow does not expose the columns of an expression; its text does, and a column too many is harmless.
        read = [name for name in SCHEMAS[table].names if name in columns or re.search(rf"\b{name}\b", str(where))]
        names = ", ".join(f'"{name}"' for name in read)
        paths = [no_glob(fragment.path) for fragment in fragments]
        query = f"SELECT {names} FROM {read_parquet(table, '?')}"
        with duckdb.connect(":memory:") as own:
            own.execute("SET TimeZone = 'UTC'")
            rows = self._collected(own.sql(query, params=[paths]).to_arrow_reader())
        return (rows if where is None else rows.filter(where)).select(columns)

    def _read_s3(
        self, table: str, listing: _Listing, fragments: list[Any], columns: list[str], where: pc.Expression | None
    ) -> pa.Table:
        files = _dataset(table, fragments, listing.files.filesystem)
        scanner = files.scanner(columns=columns, filter=where, fragment_readahead=FETCHES)
        return self._collected(scanner.to_reader())

    def _collected(self, reader: pa.RecordBatchReader) -> pa.Table:
        batches, size = [], 0
        with reader:
            for batch in reader:
                self._demand_going_on()
                batches.append(batch)
                size += batch.nbytes
                if size > MOST_BYTES:
                    raise InputError(
                        f"SQL: this reads more than {MOST_BYTES / 1024**3:g} GiB of results",
                        "name only the columns you need, or select fewer audits",
                    )
        return pa.Table.from_batches(batches, reader.schema)

    def _demand_going_on(self) -> None:
        if self._stopping.is_set():
            raise InputError("SQL: stopped", "run it again")

    def _whole(self, fragment: Any, info: ObjectInfo) -> Any:
        """A fragment with the bytes of its file, if it is small; None if it is broken."""
        if not self._sound.get(info, True):
            return None
        if info.size > READ_WHOLE:
            return fragment
        if info not in self._fetched:
            self._demand_going_on()
            data = self._store.get(info.key, info.etag)
            if not self._is_sound(info, data):
                return None
            self._fetched[info] = pa.py_buffer(data)
        return _PARQUET.make_fragment(self._fetched[info], None, fragment.partition_expression)


class _Listing(NamedTuple):
    files: ds.FileSystemDataset
    infos: dict[str, ObjectInfo]


class ResultTable(ds.Dataset):  # type: ignore[misc]  # Arrow has no types
    """A results table as an Arrow dataset, from which DuckDB requests a scanner of columns and rows.

    Args:
        files: The store's files.
        table: A name in `SCHEMAS`.
        latest: Only the rows of the latest audits (see `storage.results.views.VIEWS`).
    """

    def __init__(self, files: ResultFiles, table: str, *, latest: bool = False) -> None:
        self._files = files
        self._table = table
        self._latest = latest

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return SCHEMAS[self._table]

    def scanner(self, columns: list[str] | None = None, filter: pc.Expression | None = None, **_: Any) -> pa.Table:  # noqa: A002
        """The rows, which like a scanner have ``to_reader``; the argument names are Arrow's."""
        return self._files.read(self._table, columns, filter, latest=self._latest)


def _check(data: bytes) -> bool:
    """Read the footer of a file without a seal; the others have been compared with theirs."""
    if not is_sealed(data):
        pq.read_metadata(pa.BufferReader(data))
    return True


def _dataset(table: str, fragments: list[Any], filesystem: Any) -> ds.FileSystemDataset:
    return ds.FileSystemDataset(fragments, SCHEMAS[table], _PARQUET, filesystem)


def _name(path: str) -> str:
    return PurePosixPath(path).stem


def _guarantee(table: str, path: str) -> pc.Expression | None:
    """An expression that holds for every row of a file, by its name."""
    return ds.field(_NAMED_AFTER[table]) == _name(path) if table in _NAMED_AFTER else None
