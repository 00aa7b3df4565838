"""Whether anything was written to an image set since it was listed."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from storage.image_sets.set_uri import parse_set_uri
from storage.objects.base import ObjectInfo, ObjectMissingError
from storage.objects.open import open_parent, open_store


def fingerprint(uri: str) -> str:
    """A digest of the names, sizes and ETags of all objects at the place of an image set; no content is read.

    An equal one says that nothing was written there since the set was listed (`Manifest.fingerprint`).

    Raises:
        StoreError: The place cannot be read.
    """
    return place_fingerprint(parse_set_uri(uri).place)


def place_fingerprint(place: str) -> str:
    """The same, for the folder, prefix or file that holds the set."""
    objects = Fingerprint()
    for info in open_store(place).list():
        objects.add(info)
    if objects == Fingerprint():
        store, key = open_parent(place.rstrip("/"))
        with suppress(ObjectMissingError):
            objects.add(store.info(key))
    return objects.hex()


@dataclass
class Fingerprint:
    """A sum over objects, so that their order does not matter and none is kept."""

    _sum: int = 0

    def add(self, info: ObjectInfo) -> None:
        self._sum += int.from_bytes(hashlib.sha256(repr(info).encode()).digest())

    def hex(self) -> str:
        return f"{self._sum % 2**256:064x}"
