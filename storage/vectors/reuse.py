"""Reuse of embeddings from the last listing of an image set: unchanged images are not embedded again.

A changed set has a new manifest and a new table. Images with equal key, size and etag are copied from the table of the
set's last listing, even if their row has changed. They are copied because a table owns its files: the transfer costs a
small part of a forward pass, and tables stay independent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.image_sets.manifest import Manifest
from storage.layout import latest_table_key
from storage.objects.open import ObjectMissingError, ObjectStore, open_store
from storage.seal import parse_json, read_sealed, sealed_json
from storage.vectors.tables import VectorStore


@dataclass(frozen=True, slots=True)
class EarlierTable:
    """A committed embedding table, and the key of the manifest whose rows it numbers."""

    manifest_key: str
    table: str
    version: int


def remember(store: ObjectStore, encoder: str, uri: str, latest: EarlierTable) -> None:
    """Record the latest table of an image set under an encoder (its digest)."""
    store.put(latest_table_key(encoder, uri), sealed_json(asdict(latest)))


def recall(store: ObjectStore, encoder: str, uri: str) -> EarlierTable | None:
    """The latest table of an image set, if it still exists.

    Raises:
        BrokenObjectError: The note of it is not what was written.
    """
    try:
        latest = read_earlier(store, latest_table_key(encoder, uri))
    except ObjectMissingError:
        return None
    exists = store.exists(latest.manifest_key) and VectorStore(store).committed(latest.table) is not None
    return latest if exists else None


def read_earlier(store: ObjectStore, key: str) -> EarlierTable:
    """The note at a key of `storage.layout.latest_table_key`; errors are those of `read_sealed`."""
    return read_sealed(store, key, lambda data: EarlierTable(**parse_json(data)))


def unchanged_rows(
    vectors: VectorStore, earlier: EarlierTable, before: Manifest, now: Manifest, start: int, stop: int
) -> pa.Table:
    """The rows ``start`` to ``stop`` (exclusive) of a manifest that an earlier table has, renumbered.

    Args:
        vectors: The store of the table.
        earlier: The table.
        before: Its manifest.
        now: The current manifest of the set.
        start: First row.
        stop: End of the rows.

    Returns:
        Rows of an embedding table in order, without images that are new, changed, or were rejected.
    """
    low, high = before.place(now.image(start).key), before.place(now.image(stop - 1).key) + 1
    known = {image[:3]: row for row, image in enumerate(before.images(low, high), low)}
    same = [(row, known[image[:3]]) for row, image in enumerate(now.images(start, stop), start) if image[:3] in known]
    rows, earlier_rows = np.array(same, dtype=np.int64).reshape(-1, 2).T
    numbers = _row_numbers(vectors.store.uri, earlier.table, earlier.version)
    places = np.searchsorted(numbers, earlier_rows)
    embedded = np.append(numbers, -1)[places] == earlier_rows
    with vectors.guarded(earlier.table):
        copied = vectors.dataset(earlier.table, earlier.version).take(places[embedded])
    schema = copied.schema
    return copied.set_column(schema.get_field_index("row"), schema.field("row"), pa.array(rows[embedded]))


@lru_cache(maxsize=2)
def _row_numbers(store_uri: str, table: str, version: int) -> NDArray[np.int64]:
    """The row numbers of a table, ascending, int64 (rows,)."""
    rows = VectorStore(open_store(store_uri)).read(table, version, ["row"])
    numbers: NDArray[np.int64] = rows["row"].to_numpy()
    return numbers
