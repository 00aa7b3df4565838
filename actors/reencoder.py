"""Re-encodes images of a set into a new one: what a harmless change of files looks like to an audit."""

from __future__ import annotations

from dataclasses import dataclass

from actors.decode import decode, jpeg_bytes
from storage.image_ref import ImageRef, Kind
from storage.image_sets import open_reader
from storage.objects import open_store

LOSSLESS_QUALITY = 95
"""JPEG quality that stands for a light re-encoding of images that were stored without loss."""


@dataclass(frozen=True, slots=True)
class Reencode:
    """Images of one set to re-encode under a prefix of the store as ``00000000.jpg`` and so on.

    A JPEG keeps its own quality and subsampling, anything else is saved at `LOSSLESS_QUALITY`, 4:4:4.
    """

    store: str
    prefix: str
    set_uri: str
    kind: Kind
    images: tuple[ImageRef, ...]


@dataclass(unsafe_hash=True)
class Reencoder:
    """A worker that re-encodes one set."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: Reencode) -> int:
        """Re-encode all images; returns their number."""
        store, reader = open_store(task.store), open_reader(task.set_uri, task.kind)
        for i, listed in enumerate(task.images):
            image = decode(reader.read(listed))
            store.put(f"{task.prefix}/{i:08d}.jpg", jpeg_bytes(image.rgb, *_settings(image.codec)))
        return len(task.images)

    def close(self) -> None:
        """Nothing to give back."""


def _settings(codec: str) -> tuple[int, str]:
    """JPEG quality and subsampling for an image of this codec.

    >>> _settings("JPEG q75 4:2:0"), _settings("JPEG q90 grey"), _settings("PNG")
    ((75, '4:2:0'), (90, '4:4:4'), (95, '4:4:4'))
    """
    if not codec.startswith("JPEG q"):
        return LOSSLESS_QUALITY, "4:4:4"
    quality, subsampling = codec.removeprefix("JPEG q").split()[:2]
    return int(quality), subsampling if subsampling in ("4:4:4", "4:2:2", "4:2:0") else "4:4:4"
