"""The embeddings of an image set as it was listed before: what has not changed since is not embedded again.

A changed set has another manifest and so another table. Its unchanged images, the same by key, size and etag, are
copied from the table of the set's last listing; their place in the set may have moved. They are copied, since a table
owns its files: that costs their transfer, a small part of a forward pass, and the tables stay free of each other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.image_sets.manifest import Manifest
from storage.layout import latest_table_key
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore


@dataclass(frozen=True, slots=True)
class EarlierTable:
    """A committed embedding table, and the key of the manifest that its rows number."""

    manifest_key: str
    table: str
    version: int


def remember(store: ObjectStore, encoder: str, uri: str, latest: EarlierTable) -> None:
    """Note which table is the last one of an image set under an encoder (its digest)."""
    store.put(latest_table_key(encoder, uri), json.dumps(asdict(latest)).encode())


def recall(store: ObjectStore, encoder: str, uri: str) -> EarlierTable | None:
    """The last table of an image set, if it is still there."""
    key = latest_table_key(encoder, uri)
    if not store.exists(key):
        return None
    latest = EarlierTable(**json.loads(store.get(key)))
    there = store.exists(latest.manifest_key) and VectorStore(store).committed(latest.table) is not None
    return latest if there else None


def unchanged_rows(
    vectors: VectorStore, earlier: EarlierTable, before: Manifest, now: Manifest, start: int, stop: int
) -> pa.Table:
    """What an earlier table holds of the rows ``start`` to ``stop`` (exclusive) of a manifest, numbered as now.

    Args:
        vectors: Where the table is.
        earlier: The table.
        before: Its manifest.
        now: The manifest of the set as it is now.
        start: First row of it.
        stop: End of the rows.

    Returns:
        Rows of an embedding table in order; none for an image that is new, changed, or was rejected.
    """
    low, high = before.place(now.image(start).key), before.place(now.image(stop - 1).key) + 1
    known = {image[:3]: row for row, image in enumerate(before.images(low, high), low)}
    same = [(row, known[image[:3]]) for row, image in enumerate(now.images(start, stop), start) if image[:3] in known]
    rows, wanted = np.array(same, dtype=np.int64).reshape(-1, 2).T
    numbers = _row_numbers(vectors.store.uri, earlier.table, earlier.version)
    places = np.searchsorted(numbers, wanted)
    there = np.append(numbers, -1)[places] == wanted
    with vectors.guarded(earlier.table):
        found = vectors.dataset(earlier.table, earlier.version).take(places[there])
    return found.set_column(found.schema.get_field_index("row"), found.schema.field("row"), pa.array(rows[there]))


@lru_cache(maxsize=2)
def _row_numbers(store_uri: str, table: str, version: int) -> NDArray[np.int64]:
    """The row numbers of a table, ascending, int64 (rows,)."""
    rows = VectorStore(open_store(store_uri)).read(table, version, ["row"])
    numbers: NDArray[np.int64] = rows["row"].to_numpy()
    return numbers
