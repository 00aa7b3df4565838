"""Transforms the images of a set into a new set: what happens to images in circulation, and what happens to copies."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actors.encoder.alterations import alteration, random_for
from actors.encoder.decode import DecodedImage, UnreadableImageError, decode, jpeg_bytes, saved_settings, to_square
from storage.image_sets.image_ref import ImageRef, Kind
from storage.image_sets.open import open_reader
from storage.objects.open import open_store

LOSSLESS_QUALITY = 95
"""JPEG quality of the light re-encoding of images that were stored without loss."""

RESIZE, CROP = 0.75, 0.9
"""Sides of the resized and of the cropped image, as shares of the original sides."""

NOISE = 4.0
"""Standard deviation of the noise, in grey levels of 255."""

CONSTANTS = (LOSSLESS_QUALITY, RESIZE, CROP, NOISE)

LARGEST_SIDE = 512
"""Pixels of the side to which larger images are shrunk before they are altered; no encoder looks at more."""

Change = Callable[[DecodedImage], bytes]


def reencoded(image: DecodedImage) -> bytes:
    """Encode as JPEG: with its own quality and subsampling, or `LOSSLESS_QUALITY` and 4:4:4 when it was no JPEG."""
    return jpeg_bytes(image.rgb, *(saved_settings(image.codec) or (LOSSLESS_QUALITY, "4:4:4")))


def jpeg(quality: int) -> Change:
    """Encode as JPEG of this quality, 4:2:0."""
    return lambda image: jpeg_bytes(image.rgb, quality, "4:2:0")


def resized(image: DecodedImage) -> bytes:
    """Scale down to `RESIZE` and up again (Lanczos)."""
    small = (max(1, round(image.rgb.width * RESIZE)), max(1, round(image.rgb.height * RESIZE)))
    shrunk = image.rgb.resize(small, Image.Resampling.LANCZOS)
    return _saved_alike(shrunk.resize(image.rgb.size, Image.Resampling.LANCZOS), image.codec)


def cropped(image: DecodedImage) -> bytes:
    """Cut out the central `CROP`, at least a pixel less on every side, and scale it to the original size (Lanczos)."""
    width, height = image.rgb.size
    left, top = (min(max(1, round(side * (1 - CROP) / 2)), (side - 1) // 2) for side in (width, height))
    box = (left, top, width - left, height - top)
    return _saved_alike(image.rgb.crop(box).resize((width, height), Image.Resampling.LANCZOS), image.codec)


def noisy(image: DecodedImage) -> bytes:
    """Add Gaussian noise of `NOISE` levels, seeded by the image's own content."""
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
"""Changes that images undergo in circulation; all but the first two keep the file format."""

CHANGES: dict[str, Change] = {"reencode": reencoded, **PERTURBATIONS}


def altered(image: DecodedImage, canvas: DecodedImage, name: str) -> bytes:
    """Alter the central square of an image, on that of another one, and save it in the image's format.

    Args:
        image: The image.
        canvas: What shows where the image does not.
        name: See `actors.encoder.alterations.alteration`.

    Raises:
        ValueError: There is no such alteration.
    """
    side = min(*image.rgb.size, LARGEST_SIDE)
    copied, on = (Image.fromarray(to_square(each.rgb, side, Image.Resampling.BICUBIC)) for each in (image, canvas))
    return _saved_alike(alteration(name)(copied, on, random_for(name, image.sha256)), image.codec)


@dataclass(frozen=True, slots=True)
class TransformBlock:
    """Images of one set to transform, by a name in `CHANGES` or by that of an alteration, into objects of the store.

    Attributes:
        store: The store.
        prefix: Where the objects go.
        change: The name.
        set_uri: The set.
        kind: How its images are stored.
        first: The number of the first image: the objects are called ``00000000`` and so on, in the order of the set.
        images: The images.
        canvas_uri: The set of the canvases; None where every image is its own.
        canvas_kind: How the canvases are stored.
        canvases: One for each image.
    """

    store: str
    prefix: str
    change: str
    set_uri: str
    kind: Kind
    first: int
    images: tuple[ImageRef, ...]
    canvas_uri: str | None = None
    canvas_kind: Kind = "objects"
    canvases: tuple[ImageRef, ...] = ()


def transform_block(task: TransformBlock) -> int:
    """Transform a block of images; returns the number of readable ones. The same images give the same bytes."""
    store, reader = open_store(task.store), open_reader(task.set_uri, task.kind)
    of_canvases = None if task.canvas_uri is None else open_reader(task.canvas_uri, task.canvas_kind)
    readable = 0
    for at, listed in enumerate(task.images):
        try:
            image = decode(reader.read(listed))
            if task.change in CHANGES:
                changed = CHANGES[task.change](image)
            else:
                canvas = image if of_canvases is None else decode(of_canvases.read(task.canvases[at]))
                changed = altered(image, canvas, task.change)
        except UnreadableImageError:
            continue  # the original set has it among its rejects
        suffix = "jpg" if changed[:2] == b"\xff\xd8" else "png"
        store.put(f"{task.prefix}/{task.first + at:08d}.{suffix}", changed)
        readable += 1
    return readable


def number_of(key: str) -> int:
    """The number of an image that `transform_block` wrote, from its key.

    >>> number_of("00000012.png")
    12
    """
    return int(key.partition(".")[0])


def _saved_alike(image: Image.Image, codec: str) -> bytes:
    """A JPEG stays a JPEG of its quality; anything else becomes PNG."""
    if settings := saved_settings(codec):
        return jpeg_bytes(image, *settings)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()
