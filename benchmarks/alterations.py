"""What happens to copies: kinds of alteration with random parameters, and what happens to honest images.

Each takes a copied image, another image as canvas, and a random generator; all are RGB of one size.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Picture = Image.Image
Alteration = Callable[[Picture, Picture, np.random.Generator], Picture]


def jpeg(image: Picture, quality: int) -> Picture:
    """As JPEG of this quality, read again."""
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(io.BytesIO(sink.getvalue())).convert("RGB")


def _jpeg(low: int, high: int) -> Alteration:
    return lambda image, _, rng: jpeg(image, int(rng.integers(low, high + 1)))


def _noise(low: float, high: float) -> Alteration:
    def alter(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        pixels = np.asarray(image, np.float64)
        noisy = pixels + rng.normal(0, rng.uniform(low, high), pixels.shape)
        return Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8))

    return alter


def _crop(low: float, high: float) -> Alteration:
    """A random square of this share of the side, scaled up again."""

    def alter(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        side = image.width * rng.uniform(low, high)
        left, top = rng.uniform(0, image.width - side, 2)
        return image.resize(image.size, Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))

    return alter


def _shift(low: int, high: int) -> Alteration:
    """Moved by whole pixels of a 32-pixel image, along one or both axes; the border is repeated."""

    def alter(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        by = max(1, round(int(rng.integers(low, high + 1)) * image.width / 32))
        dx, dy = rng.choice([-by, by], 2) * np.array([(1, 0), (0, 1), (1, 1)])[rng.integers(3)]
        return _edged(image, lambda padded: padded, int(dx), int(dy))

    return alter


def _edged(image: Picture, change: Callable[[Picture], Picture], dx: int = 0, dy: int = 0) -> Picture:
    """Change an image whose border is repeated half its side far, then cut it out again, moved."""
    pad, side = image.width // 2, image.width
    wide = Image.fromarray(np.pad(np.asarray(image), ((pad, pad), (pad, pad), (0, 0)), "edge"))
    return change(wide).crop((pad + dx, pad + dy, pad + dx + side, pad + dy + side))


def _colour(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    """Brightness, contrast, saturation × 0.6–1.4 each; hue turned by up to 28°."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.6, 1.4))
    hsv = np.asarray(image.convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(rng.integers(-20, 21))) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")


def _rotate(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    angle = rng.uniform(3, 15) * rng.choice([-1, 1])
    return _edged(image, lambda wide: wide.rotate(angle, Image.Resampling.BICUBIC))


def _half(image: Picture, canvas: Picture, rng: np.random.Generator, *, moved: bool = False) -> Picture:
    """A left, right, upper, lower or middle half on another image."""
    side = image.width
    size = (side // 2, side) if rng.random() < 0.5 else (side, side // 2)
    return _pasted(image, canvas, rng, size, moved=moved)


def _quarter(image: Picture, canvas: Picture, rng: np.random.Generator, *, moved: bool = False) -> Picture:
    """A square of half the side on another image."""
    return _pasted(image, canvas, rng, (image.width // 2, image.width // 2), moved=moved)


def _pasted(
    image: Picture, canvas: Picture, rng: np.random.Generator, size: tuple[int, int], *, moved: bool
) -> Picture:
    room = [image.width - size[0], image.height - size[1]]
    left, top = (int(rng.integers(0, free + 1)) for free in room)
    to = tuple(int(rng.integers(0, free + 1)) for free in room) if moved else (left, top)
    altered = canvas.copy()
    altered.paste(image.crop((left, top, left + size[0], top + size[1])), (to[0], to[1]))
    return altered


def _shrunk(image: Picture, low: float, high: float, rng: np.random.Generator, on: Picture) -> Picture:
    side = max(1, int(image.width * rng.uniform(low, high)))
    left, top = rng.integers(0, image.width - side + 1, 2)
    altered = on.copy()
    altered.paste(image.resize((side, side), Image.Resampling.LANCZOS), (int(left), int(top)))
    return altered


def _framed(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    return _shrunk(image, 0.55, 0.85, rng, Image.new("RGB", image.size, colour))


def _text(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    altered, side = image.copy(), image.width
    place = (int(rng.integers(0, side // 4)), int(rng.integers(0, max(1, side - 10))))
    colour = tuple(int(value) for value in rng.choice([0, 255], 3))
    ImageDraw.Draw(altered).text(place, str(rng.choice(["SALE", "copy", "2026", "LP"])), fill=colour)
    return altered


def _box(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    """A filled square of 30–50 % of the side."""
    altered, side = image.copy(), int(image.width * rng.uniform(0.3, 0.5))
    left, top = (int(value) for value in rng.integers(0, image.width - side + 1, 2))
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    ImageDraw.Draw(altered).rectangle((left, top, left + side - 1, top + side - 1), fill=colour)
    return altered


def blurred(radius: float) -> Alteration:
    return lambda image, *_: image.filter(ImageFilter.GaussianBlur(radius))


def half_resolution(image: Picture, *_: object) -> Picture:
    """Half the resolution and back."""
    half = (image.width // 2, image.height // 2)
    return image.resize(half, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
_UPSETS = (Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM)

KINDS: dict[str, Alteration] = {
    "re-encoded": _jpeg(60, 90),
    "noise 5–15": _noise(5, 15),
    "mirrored": lambda image, *_: ImageOps.mirror(image),
    "JPEG 35–60": _jpeg(35, 60),
    "crop 80–95 %": _crop(0.8, 0.95),
    "crop 70–80 %": _crop(0.7, 0.8),
    "shift 1–2": _shift(1, 2),
    "shift 3–5": _shift(3, 5),
    "colours": _colour,
    "grey": lambda image, *_: ImageOps.grayscale(image).convert("RGB"),
    "noise 20–30": _noise(20, 30),
    "blur .6–1.2": lambda image, _, rng: image.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.2))),
    "half pasted": _half,
    "quarter pasted": _quarter,
    "text over it": _text,
    "box over it": _box,
    "rotated 3–15°": _rotate,
    "blend 60–80 %": lambda image, canvas, rng: Image.blend(image, canvas, rng.uniform(0.2, 0.4)),
}
"""The 18 kinds; lengths in pixels are those of a 32-pixel image."""

HARD_KINDS: dict[str, Alteration] = {
    "quarter turn": lambda image, _, rng: image.transpose(_TURNS[rng.integers(2)]),
    "upside down": lambda image, _, rng: image.transpose(_UPSETS[rng.integers(2)]),
    "framed 55–85 %": _framed,
    "half moved": partial(_half, moved=True),
    "quarter moved": partial(_quarter, moved=True),
    "half size, pasted": lambda image, canvas, rng: _shrunk(image, 0.5, 0.5, rng, canvas),
    "blend 50 %": lambda image, canvas, _: Image.blend(image, canvas, 0.5),
}
"""Orientation, scale, moved parts, even blends."""

HONEST: dict[str, Alteration] = {
    "as it is": lambda image, *_: image,
    "blur .6": blurred(0.6),
    "blur 1.2": blurred(1.2),
    "half resolution": half_resolution,
}
"""What honest releases may look like."""
