"""What commonly happens to images between their maker and whoever asks who made them.

Attribution tries each of these on a sample of the images of every enrolled release, so that a set that went through
one of them, or through something close, is still known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from PIL import Image, ImageOps

from actors.encoder.decode import DecodedImage, decode, jpeg_bytes, saved_settings, through_jpeg

Processing = Callable[[Image.Image], Image.Image]

VERSION = 1
"""Increased when a processing gives other pixels: what was learnt from the old ones is made again."""


def _resized(image: Image.Image, factor: float) -> Image.Image:
    """Scaled by a factor and back (Lanczos)."""
    other = [max(1, round(side * factor)) for side in image.size]
    return image.resize((other[0], other[1]), Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    """The central share of both sides, scaled up again (Lanczos)."""
    width, height = image.size
    left, top = width * (1 - share) / 2, height * (1 - share) / 2
    return image.resize(image.size, Image.Resampling.LANCZOS, box=(left, top, width - left, height - top))


PROCESSINGS: dict[str, Processing] = {
    **{f"JPEG {quality}": partial(through_jpeg, quality=quality) for quality in (85, 70, 50, 35, 25)},
    "resizing to 80 % and back": partial(_resized, factor=0.8),
    "resizing to 70 % and back": partial(_resized, factor=0.7),
    "resizing to 150 % and back": partial(_resized, factor=1.5),
    "cropping to 94 %": partial(_cropped, share=30 / 32),
    "cropping to 84 %": partial(_cropped, share=27 / 32),
    "mirroring": ImageOps.mirror,
}
"""By name. A set that went through something between two of them is explained by the nearer one."""


def processed(image: DecodedImage, processing: Processing) -> DecodedImage:
    """The image after a processing, saved as its own file was: a JPEG of its quality, or without loss."""
    changed = processing(image.rgb)
    settings = saved_settings(image.codec)
    return replace(image, rgb=changed) if settings is None else decode(jpeg_bytes(changed, *settings))
