"""Whether a release is still being uploaded.

The convention: ``release.yaml`` is written last, and the images of a version are not changed afterwards. Whoever keeps
to it is audited at once and whole. For those who do not, a release is audited only when nothing at its place has
changed for a while, and is left to the next sweep when something has.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from storage.digest import digest
from storage.image_sets.npz import split_array_uri
from storage.image_sets.parquet import split_parquet_uri
from storage.objects.open import ObjectMissingError, open_parent, open_store


def look(uri: str) -> str:
    """A digest of the names, sizes and ETags of all objects at the place of an image set; nothing is read.

    Args:
        uri: An image set.
    """
    place, _ = split_array_uri(uri) or split_parquet_uri(uri) or (uri, "")
    objects = sorted(open_store(place).list())
    if not objects:
        store, key = open_parent(place.rstrip("/"))
        try:
            objects = [store.info(key)]
        except ObjectMissingError:
            objects = []
    return digest(objects=objects)


def settled(places: Iterable[str], seconds: float) -> dict[str, str]:
    """The image sets that did not change for so many seconds, each with its `look`; waits that long, once for all."""
    before = {uri: look(uri) for uri in places}
    if not before:
        return {}
    time.sleep(seconds)
    return {uri: seen for uri, seen in before.items() if look(uri) == seen}
