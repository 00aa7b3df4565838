"""Seals: the digest of a derived file, within the file, so that a cut or changed one is noticed when it is read.

The seal is the text ``layerprint-seal:sha256:`` and 64 hexadecimal digits: the SHA-256 of the file with zeros for these
digits. Each format has a place for it, so a sealed file stays an ordinary file of its format, is written by one atomic
put, and costs no request of its own:

* JSON: ``{"content": …, "seal": …}``;
* arrays (npz): the comment of the zip archive;
* Parquet: the file's metadata.

Files of layerprint 0.1 have no seal; they are accepted if they can be parsed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from storage.errors import StoreError
from storage.objects.base import BrokenObjectError, ObjectStore

T = TypeVar("T")

_MARK = b"layerprint-seal:sha256:"
_BLANK = _MARK + b"0" * 64
_FIELD = "seal"
_DIGITS = re.compile(rb"[0-9a-f]{64}")
_UNREADABLE = (
    ValueError,  # JSON, Arrow and numpy
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    OSError,
    RuntimeError,
    SyntaxError,  # Pillow
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pa.ArrowException,
    StoreError,
)


_log = logging.getLogger(__name__)
_named: set[str] = set()


def check_seal(data: bytes) -> None:
    """Check the seal of a file, if it has one.

    Raises:
        ValueError: The file is not what was written.

    >>> check_seal(sealed_json([1, 2]))
    >>> check_seal(sealed_json([1, 2]).replace(b"1", b"3"))
    Traceback (most recent call last):
    ValueError: its digest is another one
    """
    if not data:
        raise ValueError("it is empty")
    at = data.rfind(_MARK)
    if at < 0:
        return
    start = at + len(_MARK)
    digits = data[start : start + 64]
    if not _DIGITS.fullmatch(digits) or digits != _digest(data, start):
        raise ValueError("its digest is another one")


def is_sealed(data: bytes) -> bool:
    """Whether a file has a seal, intact or not."""
    return _MARK in data


def _digest(data: bytes, start: int) -> bytes:
    """The digest of a file whose seal's digits begin at ``start``."""
    state = hashlib.sha256(memoryview(data)[:start])
    state.update(b"0" * 64)
    state.update(memoryview(data)[start + 64 :])
    return state.hexdigest().encode()


def _sealed(data: bytes) -> bytes:
    start = data.rindex(_BLANK) + len(_MARK)
    return data[:start] + _digest(data, start) + data[start + 64 :]


# -- JSON ----------------------------------------------------------------------------------------------------


def sealed_json(content: object) -> bytes:
    """A JSON value as a sealed document."""
    return _sealed(json.dumps({"content": content, _FIELD: _BLANK.decode()}).encode())


def parse_json(data: bytes) -> Any:
    """The value of a JSON document, sealed or not.

    >>> parse_json(sealed_json({"a": 1})), parse_json(b'{"a": 1}')
    ({'a': 1}, {'a': 1})
    """
    document = json.loads(data)
    if not isinstance(document, dict) or document.keys() != {"content", _FIELD}:
        return document
    if not is_sealed(data):
        raise ValueError("its seal is another one")
    return document["content"]


# -- arrays --------------------------------------------------------------------------------------------------


def sealed_arrays(arrays: Mapping[str, ArrayLike]) -> bytes:
    """Named arrays as a sealed npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = _BLANK
    return _sealed(buffer.getvalue())


def parse_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, sealed or not; read without pickle."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


# -- Parquet -------------------------------------------------------------------------------------------------


def sealed_parquet(table: pa.Table, **options: Any) -> bytes:
    """A table as a sealed Parquet file; ``options`` as in `pyarrow.parquet.ParquetWriter`."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_FIELD: _BLANK.decode()})
    return _sealed(sink.getvalue().to_pybytes())


def parse_parquet(data: bytes, **options: Any) -> pa.Table:
    """The table of a Parquet file, sealed or not; ``options`` as in `pyarrow.parquet.read_table`."""
    table = pq.read_table(pa.BufferReader(data), **options)
    described = {name: value for name, value in (table.schema.metadata or {}).items() if name != _FIELD.encode()}
    return table.replace_schema_metadata(described or None)


# -- reading -------------------------------------------------------------------------------------------------

PARSERS: dict[str, Callable[[bytes], Any]] = {"json": parse_json, "npz": parse_arrays, "parquet": parse_parquet}
"""How to parse a derived file, by the ending of its key."""


def read_sealed(store: ObjectStore, key: str, parse: Callable[[bytes], T]) -> T:
    """A derived file of a store, parsed.

    Args:
        store: The store.
        key: The file.
        parse: Makes a value of the file's bytes; whatever it raises means that the file is broken.

    Raises:
        ObjectMissingError: There is none.
        BrokenObjectError: It is not what was written.
        StoreError: The store cannot be read, or another version of layerprint wrote the file.
    """
    return parsed(store, key, store.get(key), parse)


def parsed(store: ObjectStore, key: str, data: bytes, parse: Callable[[bytes], T]) -> T:
    """As `read_sealed`, of bytes that were read."""
    try:
        check_seal(data)
        if not is_sealed(data):
            return parse(data)
    except (*_UNREADABLE, MemoryError) as error:  # MemoryError: a cut file may ask for any size
        raise _broken(store, key, data, error) from error
    try:
        return parse(data)
    except _UNREADABLE as error:  # intact, but not as this version writes it
        raise StoreError(
            f"{store.child_uri(key)}: written by another version of layerprint ({_reason(error)})",
            "use the version that wrote it, or a new store",
        ) from error


def _broken(store: ObjectStore, key: str, data: bytes, error: Exception) -> BrokenObjectError:
    return BrokenObjectError(
        f"{store.child_uri(key)}: the file is broken ({len(data):,} bytes; {_reason(error)})",
        "run layerprint audit SPEC with the spec of this store: it sets the file aside and makes it again",
        key=key,
        seen=content_digest(data),
    )


def _reason(error: Exception) -> str:
    reason = error.found if isinstance(error, StoreError) else str(error)
    return " ".join(reason.split())[:120] or type(error).__name__


def read_json(store: ObjectStore, key: str) -> Any:
    """The value of a JSON document of a store; errors are those of `read_sealed`."""
    return read_sealed(store, key, parse_json)


def content_digest(data: bytes) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def name_broken(error: StoreError, then: str) -> None:
    """Warn of a broken file, once per process.

    Args:
        error: What was found.
        then: What becomes of it, such as "its rows are left out".
    """
    if error.found not in _named:
        _named.add(error.found)
        _log.warning("%s: %s", error.found, then)


def unless_broken(read: Callable[[], T], then: str) -> T | None:
    """What ``read`` returns; None, with a warning that ends with ``then``, where it meets a broken file."""
    try:
        return read()
    except BrokenObjectError as error:
        name_broken(error, then)
        return None
