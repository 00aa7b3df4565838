"""Decodes an untrusted file into an RGB image, or gives the reason why it cannot."""

from __future__ import annotations

import hashlib
import io
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from storage.image_sets.image_ref import MAX_FILE_BYTES

# Pillow warns of oddities that the checks below handle. Not `catch_warnings`: it swaps the filters of the whole
# process, and decoding runs in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_PIXELS = 64_000_000
"""Pixels of the largest image that is decoded: a file of a few kilobytes can claim gigabytes."""

LARGE_PIXELS = 4_000_000
"""Larger images are decoded one at a time: a decode holds up to three copies of 4 bytes per pixel."""

STRIP_PIXELS = 1_000_000
"""Larger images are converted in strips of so many pixels."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_GIF = (b"GIF87a", b"GIF89a")

_one_at_a_time = Lock()
# Blocks of 16 MiB, Pillow's own size, stay with glibc's arena of their thread after they are freed; larger ones go back
# to the system.
Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]

_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_FEW_COMPONENTS = {1: "grey", 4: "CMYK"}

# ITU-T T.81 Annex K, luminance table row by row: what libjpeg scales by the quality.
_STANDARD_LUMINANCE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
     51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
     120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)  # fmt: skip


class UnreadableImageError(Exception):
    """The file cannot be used as an image; the message is the reason in `rejects`."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An RGB image and the facts of its file.

    ``codec`` is for example ``PNG``, ``JPEG q75 4:2:0`` or ``array``; ``width`` and ``height`` are the file's own.
    """

    rgb: Image.Image
    sha256: str
    codec: str
    width: int
    height: int


def decode(content: bytes | NDArray[np.uint8]) -> DecodedImage:
    """Decode one image.

    Args:
        content: The bytes of a png, jpg, webp or bmp file, or an array (h, w) or (h, w, 3) uint8.

    Raises:
        UnreadableImageError: It cannot be decoded; the message is the reason.
    """
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content).convert("RGB")
        sha = hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()
        return DecodedImage(image, sha, "array", image.width, image.height)
    if not content:
        raise UnreadableImageError("the file is empty (0 bytes)")
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableImageError(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
    sha = hashlib.sha256(content).hexdigest()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image)
            codec, (width, height) = codec_of(image), image.size
            with _one_at_a_time if width * height > LARGE_PIXELS else nullcontext():
                rgb = _to_rgb(image)
    except UnidentifiedImageError:
        if content.startswith(_GIF):
            raise UnreadableImageError("a GIF, of 256 colours or animated: convert it to PNG") from None
        raise UnreadableImageError("not a png, jpg, webp or bmp file") from None
    except (UnreadableImageError, MemoryError):  # a lack of memory is not the file's fault
        raise
    except Exception as error:  # untrusted bytes can make Pillow raise anything: a reject
        raise UnreadableImageError(f"{type(error).__name__}: {error}"[:300]) from error
    return DecodedImage(rgb, sha, codec, width, height)


def harmonised(image: DecodedImage, quality: int | None) -> DecodedImage:
    """Re-encode an image as JPEG (4:2:0), so that sets of different codecs become comparable.

    Args:
        image: A decoded image; its ``sha256`` stays that of its file.
        quality: libjpeg quality, or None for no re-encoding.
    """
    if quality is None:
        return image
    again = through_jpeg(image.rgb, quality)
    return replace(image, rgb=again, codec=f"JPEG q{quality} 4:2:0 (harmonised)")


def through_jpeg(rgb: Image.Image, quality: int) -> Image.Image:
    """Encode an RGB image as JPEG (4:2:0) and decode it again."""
    with Image.open(io.BytesIO(jpeg_bytes(rgb, quality, "4:2:0"))) as again:
        return again.convert("RGB")


def saved_settings(codec: str) -> tuple[int, str] | None:
    """Quality and subsampling that save an image as its JPEG file was; None for other files.

    >>> saved_settings("JPEG q75 4:2:0"), saved_settings("JPEG q90 grey"), saved_settings("PNG")
    ((75, '4:2:0'), (90, '4:4:4'), None)
    """
    if not codec.startswith("JPEG q"):
        return None
    quality, subsampling = codec.removeprefix("JPEG q").split()[:2]
    return int(quality), subsampling if subsampling in ("4:4:4", "4:2:2", "4:2:0") else "4:4:4"


def jpeg_bytes(rgb: Image.Image, quality: int, subsampling: str) -> bytes:
    """Encode an RGB image as a JPEG file."""
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def codec_of(image: Image.Image) -> str:
    """The file format and, for JPEG, the quality and chroma subsampling, as one text."""
    if isinstance(image, JpegImageFile):
        quality = jpeg_quality(image.quantization[min(image.quantization)])
        sampling = _FEW_COMPONENTS.get(image.layers) or _SUBSAMPLING.get(get_sampling(image), "other")
        return f"JPEG q{quality} {sampling}"
    return str(image.format)


def jpeg_quality(luminance: list[int]) -> int:
    """The libjpeg quality whose scaled standard table is nearest to a luminance quantization table.

    Args:
        luminance: 64 integers row by row (Pillow's order).

    Returns:
        1 to 100.

    >>> jpeg_quality([int(v) for v in (_STANDARD_LUMINANCE * 50 + 50) // 100])
    75
    """
    table = np.asarray(luminance)[:64]
    qualities = np.arange(1, 101)
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = np.clip((_STANDARD_LUMINANCE[None, :] * scale[:, None] + 50) // 100, 1, 255)
    return int(qualities[np.abs(tables - table).sum(axis=1).argmin()])


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(f"{image.width}×{image.height} is more than {MAX_PIXELS:,} pixels")
    # A camera's JPEG may carry a preview or a gain map as a second frame (MPO); the first is the photograph.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise UnreadableImageError("animated: more than one frame")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to upright RGB, in strips, so that no more than the image and its result are in memory."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    rows = max(1, STRIP_PIXELS // image.width)
    if image.height <= rows:
        return _strip_to_rgb(image)
    rgb = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_strip_to_rgb(strip), (0, top))
    return rgb


def _strip_to_rgb(upright: Image.Image) -> Image.Image:
    """Convert to RGB: 16-bit grey is scaled (Pillow would clip it), transparency is put on white."""
    if upright.mode.startswith("I"):
        deep = np.asarray(upright).astype(np.uint32)
        return Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return upright.convert("RGB")


def to_square(image: Image.Image, size: int, resample: Image.Resampling) -> NDArray[np.uint8]:
    """Crop the central square and resize it to `size`, the preprocessing before normalisation.

    Only the square is resized: resizing the whole of a one-pixel strip would take gigabytes.

    Returns:
        (size, size, 3) uint8.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.resize((size, size), resample, box=(left, top, left + side, top + side)))
