"""Changes the images of a set into a new one: what happens to images on their way, and a harmless re-encoding."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actors.encoder.decode import DecodedImage, UnreadableImageError, decode, jpeg_bytes
from storage.image_sets.image_ref import ImageRef, Kind
from storage.image_sets.open import open_reader
from storage.objects.open import open_store

LOSSLESS_QUALITY = 95
"""JPEG quality that stands for a light re-encoding of images that were stored without loss."""

RESIZE, CROP = 0.75, 0.9
"""Sides of the resized and of the cropped image, as shares of the original's."""

NOISE = 4.0
"""Standard deviation of the noise, in grey levels of 255."""

CONSTANTS = (LOSSLESS_QUALITY, RESIZE, CROP, NOISE)

Change = Callable[[DecodedImage], bytes]


def reencoded(image: DecodedImage) -> bytes:
    """As JPEG: of its own quality and subsampling, or of `LOSSLESS_QUALITY`, 4:4:4, when it was none."""
    return jpeg_bytes(image.rgb, *_jpeg_settings(image.codec))


def jpeg(quality: int) -> Change:
    """As JPEG of a quality, 4:2:0."""
    return lambda image: jpeg_bytes(image.rgb, quality, "4:2:0")


def resized(image: DecodedImage) -> bytes:
    """Scaled down to `RESIZE` and up again (Lanczos)."""
    small = (max(1, round(image.rgb.width * RESIZE)), max(1, round(image.rgb.height * RESIZE)))
    shrunk = image.rgb.resize(small, Image.Resampling.LANCZOS)
    return _saved_alike(shrunk.resize(image.rgb.size, Image.Resampling.LANCZOS), image.codec)


def cropped(image: DecodedImage) -> bytes:
    """Its central `CROP`, less at least a pixel on every side, scaled up to the original's size (Lanczos)."""
    width, height = image.rgb.size
    left, top = (min(max(1, round(side * (1 - CROP) / 2)), (side - 1) // 2) for side in (width, height))
    box = (left, top, width - left, height - top)
    return _saved_alike(image.rgb.crop(box).resize((width, height), Image.Resampling.LANCZOS), image.codec)


def noisy(image: DecodedImage) -> bytes:
    """With Gaussian noise of `NOISE` levels, drawn from a seed that is the image's own content."""
    rng = np.random.default_rng(int(image.sha256[:16], 16))
    pixels = np.asarray(image.rgb, np.float64)
    changed = np.clip(np.rint(pixels + rng.normal(0, NOISE, pixels.shape)), 0, 255).astype(np.uint8)
    return _saved_alike(Image.fromarray(changed), image.codec)


PERTURBATIONS: dict[str, Change] = {
    "jpeg 90": jpeg(90),
    "jpeg 75": jpeg(75),
    "resize": resized,
    "crop": cropped,
    "noise": noisy,
}
"""What images meet on their way; all but the first two keep the kind of file."""

CHANGES: dict[str, Change] = {"reencode": reencoded, **PERTURBATIONS}


@dataclass(frozen=True, slots=True)
class Perturb:
    """Images of one set to change, by a name in `CHANGES`, and to put under a prefix of the store.

    ``first`` is the number of the first image: they are called ``00000000`` and so on in the order of the set.
    """

    store: str
    prefix: str
    change: str
    set_uri: str
    kind: Kind
    first: int
    images: tuple[ImageRef, ...]


@dataclass(unsafe_hash=True)
class Perturber:
    """A worker that changes a block of images; the same images give the same bytes. Unreadable ones are left out."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: Perturb) -> int:
        """Change the images; returns how many could be read."""
        store, reader = open_store(task.store), open_reader(task.set_uri, task.kind)
        readable = 0
        for number, listed in enumerate(task.images, start=task.first):
            try:
                changed = CHANGES[task.change](decode(reader.read(listed)))
            except UnreadableImageError:
                continue  # it is a reject of the original set
            suffix = "jpg" if changed[:2] == b"\xff\xd8" else "png"
            store.put(f"{task.prefix}/{number:08d}.{suffix}", changed)
            readable += 1
        return readable

    def close(self) -> None:
        """Nothing to give back."""


def _saved_alike(image: Image.Image, codec: str) -> bytes:
    """JPEG stays JPEG of its quality, anything else becomes PNG."""
    if codec.startswith("JPEG q"):
        return jpeg_bytes(image, *_jpeg_settings(codec))
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def _jpeg_settings(codec: str) -> tuple[int, str]:
    """JPEG quality and subsampling for an image of this codec.

    >>> _jpeg_settings("JPEG q75 4:2:0"), _jpeg_settings("JPEG q90 grey"), _jpeg_settings("PNG")
    ((75, '4:2:0'), (90, '4:4:4'), (95, '4:4:4'))
    """
    if not codec.startswith("JPEG q"):
        return LOSSLESS_QUALITY, "4:4:4"
    quality, subsampling = codec.removeprefix("JPEG q").split()[:2]
    return int(quality), subsampling if subsampling in ("4:4:4", "4:2:2", "4:2:0") else "4:4:4"
