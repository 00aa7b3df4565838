"""Image sets in a column of Parquet files: binary, or the struct with a field ``bytes`` that Hugging Face writes.

An image's key is that of its file, a slash and its row: ``train/0001.parquet/00000012``. Only that column is read, a
row group at a time. A row without bytes is an image of 0 bytes, which the embedder rejects with that reason.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import InputError
from storage.image_sets.file_names import is_parquet
from storage.image_sets.image_ref import ImageReader, ImageRef, item_key, split_item_key
from storage.image_sets.manifest import manifest_table
from storage.image_sets.parquet_pages import page_sizes
from storage.image_sets.set_uri import SetUri
from storage.image_sets.shared_cache import SharedCache
from storage.objects.base import ObjectChangedError, ObjectInfo, ObjectMissingError, ObjectStore
from storage.objects.open import S3Store, open_parent, open_store
from storage.objects.range_file import RangeFile

MAX_GROUP_BYTES = 512 * 2**20
"""The largest row group that is read, unpacked, and the memory for cached row groups."""

MAX_FOOTER_BYTES = 16 * 2**20
"""The largest footer that is read; it takes up to forty times as much memory."""

_ROWS_BEYOND_DOUBT = 200_000
_LEAST_ROW_BYTES = 16
_BOMB_BYTES, _BOMB_RATIO = 128 * 2**20, 50
_BATCH_ROWS = 64
_BATCH_BYTES = 64 * 2**20
_KEPT_GROUPS = 8
_THREADS = 8
_BROKEN = (pa.ArrowException, OSError, ValueError)


def list_parquet(uri: SetUri) -> pa.Table:
    """The rows of ``file.parquet#column`` or ``folder#column``, file by file, as the table of a manifest.

    On S3 only the footers are read: a row's etag is that of its file with the column, its size the mean of its row
    group. Local rows are read for their SHA-256, like any local image.

    Raises:
        InputError: There is no such file or column, or it does not contain images.
        StoreError: The store cannot be read.
    """
    store, files = _open(uri.place)
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda info: manifest_table("parquet", _rows(store, info, uri.part)), files))
    if not tables:
        raise InputError(f"{uri.uri}: no .parquet file here", "give file.parquet#column or folder#column")
    return pa.concat_tables(tables)


def _open(place: str) -> tuple[ObjectStore, Iterable[ObjectInfo]]:
    """A file with the store that holds it, or a folder with its files."""
    if is_parquet(place):
        parent, name = open_parent(place)
        if parent.exists(name):
            return parent, [parent.info(name)]
    store = open_store(place)
    return store, (info for info in store.list() if is_parquet(info.key))


class _Footer(NamedTuple):
    """The footer of a Parquet file, as far as its image column is concerned.

    Args:
        info: The file as listed.
        metadata: Its ``pyarrow.parquet.FileMetaData``.
        leaf: Path of the column with the bytes.
        position: Its place among the columns.
        sizes: Unpacked bytes of that column, per row group.
        stops: Rows up to the end of each row group.
    """

    info: ObjectInfo
    metadata: Any
    leaf: str
    position: int
    sizes: Sequence[int]
    stops: Sequence[int]


def _read_footer(store: ObjectStore, info: ObjectInfo, column: str) -> _Footer:
    uri = store.child_uri(info.key)
    try:
        _check_footer(store, info)
        file = pq.ParquetFile(RangeFile(store, info), thrift_string_size_limit=MAX_FOOTER_BYTES)
        metadata, schema = file.metadata, file.schema_arrow
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        leaf = _leaf(uri, schema, column)
        position = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(leaf)
    except _BROKEN as error:
        raise _unreadable(uri, error) from error
    sizes = [group.column(position).total_uncompressed_size for group in groups]
    stops = list(accumulate(group.num_rows for group in groups))
    if min([*sizes, *(group.num_rows for group in groups)], default=0) < 0:
        raise _unreadable(uri, ValueError("its footer has negative sizes"))
    if max(sizes, default=0) > MAX_GROUP_BYTES:
        raise _too_large(uri, max(sizes))
    if stops and stops[-1] > max(_ROWS_BEYOND_DOUBT, info.size // _LEAST_ROW_BYTES):
        raise InputError(f"{uri}: {stops[-1]:,} rows in {info.size:,} bytes", "these are not images: give another file")
    return _Footer(info, metadata, leaf, position, sizes, stops)


def _check_footer(store: ObjectStore, info: ObjectInfo) -> None:
    """Raise a ValueError if the footer cannot be in the file, or is too large."""
    end = store.get_range(info.key, max(0, info.size - 8), 8, info.etag)
    length = int.from_bytes(end[:4], "little")
    if end[4:] == b"PAR1" and not length <= min(MAX_FOOTER_BYTES, info.size):
        raise ValueError(f"a footer of {length:,} bytes: write larger row groups, or several files")


def _leaf(uri: str, schema: pa.Schema, column: str) -> str:
    """The path of the column with the bytes: the column itself, or its field ``bytes``."""
    leaves = {field.name: leaf for field in schema if (leaf := _bytes_path(field))}
    if column in leaves:
        return leaves[column]
    asked = f"no column {column!r} with image bytes" if column else "no column is named"
    raise InputError(
        f"{uri}: {asked}; there is {', '.join(map(repr, leaves)) or 'none'}",
        "write file.parquet#column with a binary column, or a struct with a field bytes",
    )


def _bytes_path(field: pa.Field) -> str | None:
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
        inner = _bytes_path(field.type.field("bytes"))
        return f"{field.name}.{inner}" if inner == "bytes" else None
    return None


def _rows(store: ObjectStore, info: ObjectInfo, column: str) -> Iterator[ImageRef]:
    footer = _read_footer(store, info, column)
    start = 0
    for group, stop in enumerate(footer.stops):
        if isinstance(store, S3Store):
            size, tag = footer.sizes[group] // max(1, stop - start), f"{info.etag}#{column}"
            yield from (ImageRef(item_key(info.key, row), size, tag) for row in range(start, stop))
        else:
            images = (_content(value) for batch in _batches(store, footer, group) for value in batch)
            for row, image in enumerate(images, start):
                yield ImageRef(item_key(info.key, row), len(image), hashlib.sha256(image).hexdigest())
        start = stop


def _read_group(store: ObjectStore, footer: _Footer, group: int) -> pa.ChunkedArray:
    """The images of a row group, binary."""
    chunks = list(_batches(store, footer, group))
    return pa.chunked_array(chunks, pa.binary() if not chunks else chunks[0].type)


def _batches(store: ObjectStore, footer: _Footer, group: int) -> Iterator[pa.Array]:
    """The images of a row group, binary; in small batches, since a few values can refer to many bytes."""
    uri = store.child_uri(footer.info.key)
    rows = size = 0
    file = RangeFile(store, footer.info)
    try:
        at_once = _rows_at_once(uri, file, footer, group)
        parquet = pq.ParquetFile(file, metadata=footer.metadata)
        for batch in parquet.iter_batches(at_once, row_groups=[group], columns=[footer.leaf], use_threads=False):
            column = batch.column(0)
            images = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
            rows, size = rows + len(images), size + images.nbytes
            if size > MAX_GROUP_BYTES:
                raise _too_large(uri, size)
            yield images
        if rows != footer.metadata.row_group(group).num_rows:
            raise ValueError(f"row group {group} has {rows:,} rows, and another number in the footer")
    except _BROKEN as error:
        raise _unreadable(uri, error) from error


def _rows_at_once(uri: str, file: RangeFile, footer: _Footer, group: int) -> int:
    """The rows that may be read at once, by the sizes that the pages state.

    The file keeps the bytes of the column, so that they are fetched once.

    Raises:
        InputError: The pages unpack to more than is read.
        ValueError: The column cannot be where the footer says, or its pages are damaged.
    """
    column = footer.metadata.row_group(group).column(footer.position)
    length = column.total_compressed_size
    start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)), default=0)
    if not 0 < start <= start + length <= footer.info.size or length > MAX_GROUP_BYTES:
        raise ValueError(f"a column of {length:,} bytes at byte {start:,} of {footer.info.size:,}")
    file.seek(start)
    pages = page_sizes(memoryview(file.read(length)))
    if pages.total > MAX_GROUP_BYTES:
        raise _too_large(uri, pages.total)
    if pages.total > max(_BOMB_BYTES, _BOMB_RATIO * length):
        raise ValueError(f"{length:,} bytes that unpack to {pages.total / 2**20:,.0f} MiB")
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, pages.largest)))


def _content(value: pa.Scalar) -> bytes:
    return value.as_py() or b""


def _unreadable(uri: str, error: Exception) -> InputError:
    return InputError(
        f"{uri}: not a Parquet file that can be read ({' '.join(str(error).split())[:200]})",
        "rewrite it, for example with pyarrow, and check its upload",
    )


def _too_large(uri: str, size: int) -> InputError:
    return InputError(
        f"{uri}: a row group of {size / 2**20:,.0f} MiB of images, at most {MAX_GROUP_BYTES // 2**20} MiB can be read",
        "rewrite the file with row_group_size=100",
    )


class ParquetReader(ImageReader):
    """Images of a column of Parquet files; the row groups read last are kept.

    Args:
        place: The file or folder.
        column: The column.
    """

    def __init__(self, place: str, column: str) -> None:
        self._column = column
        self._store, _ = _open(place)
        self._footer = lru_cache(maxsize=32)(self._read_footer)
        self._groups: SharedCache[pa.ChunkedArray] = SharedCache(_KEPT_GROUPS, MAX_GROUP_BYTES)

    def read(self, image: ImageRef) -> bytes:
        name, row = split_item_key(image.key) or ("", 0)
        if not name:
            raise ObjectMissingError(f"{image.key!r} is not a row of a Parquet file", "list the image set again")
        footer = self._footer(name)
        etag, listed, _ = image.etag.partition("#")
        if row >= footer.stops[-1] or (listed and etag != footer.info.etag):
            raise ObjectChangedError(
                f"{self._store.child_uri(name)}: written again since it was listed", "list the image set again"
            )
        group = bisect_right(footer.stops, row)
        images = self._groups.get(
            (name, group),
            footer.sizes[group],
            lambda: _read_group(self._store, footer, group),
            lambda loaded: int(loaded.nbytes),
        )
        return _content(images[row - (footer.stops[group - 1] if group else 0)])

    def _read_footer(self, key: str) -> _Footer:
        return _read_footer(self._store, self._store.info(key), self._column)
