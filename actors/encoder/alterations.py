"""What happens to copies: kinds of alteration with random parameters, and what happens to honest images.

Each takes a copied image, another image as canvas, and a random generator; all are square RGB images of one size.
Lengths in pixels are those of an image of 32 pixels: on a larger one they grow with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from actors.encoder.decode import through_jpeg

Picture = Image.Image
Alteration = Callable[[Picture, Picture, np.random.Generator], Picture]

VERSION = 1
"""Increased when a kind changes: sets that were altered by another version are made again."""

SIDE = 32
"""Pixels of the image to which lengths refer."""

MOST_STEPS = 5
"""Alterations that may follow one another in one text."""


def _jpeg(low: int, high: int) -> Alteration:
    return lambda image, _, rng: through_jpeg(image, int(rng.integers(low, high + 1)))


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
    """Moved by whole pixels, along one or both axes; the border is repeated."""

    def alter(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        by = max(1, round(int(rng.integers(low, high + 1)) * image.width / SIDE))
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


def _rotate(low: float, high: float) -> Alteration:
    """Turned by so many degrees, either way."""

    def alter(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        angle = rng.uniform(low, high) * rng.choice([-1, 1])
        return _edged(image, lambda wide: wide.rotate(angle, Image.Resampling.BICUBIC))

    return alter


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
    place = (int(rng.integers(0, max(1, side // 4))), int(rng.integers(0, max(1, side - 10 * side // SIDE))))
    colour = tuple(int(value) for value in rng.choice([0, 255], 3))
    word, size = str(rng.choice(["SALE", "copy", "2026", "LP"])), max(1, 10 * side / SIDE)
    ImageDraw.Draw(altered).text(place, word, fill=colour, font_size=size)
    return altered


def _box(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    """A filled square of 30–50 % of the side."""
    altered, side = image.copy(), max(1, int(image.width * rng.uniform(0.3, 0.5)))
    left, top = (int(value) for value in rng.integers(0, image.width - side + 1, 2))
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    ImageDraw.Draw(altered).rectangle((left, top, left + side - 1, top + side - 1), fill=colour)
    return altered


def _blur(low: float, high: float) -> Alteration:
    """Gaussian blur; the standard deviation in pixels."""

    def alter(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(low, high) * image.width / SIDE))

    return alter


def _blend(low: float, high: float) -> Alteration:
    """The copy has this share, the canvas the rest."""
    return lambda image, canvas, rng: Image.blend(image, canvas, rng.uniform(1 - high, 1 - low))


def half_resolution(image: Picture, *_: object) -> Picture:
    """Half the resolution and back."""
    half = (max(1, image.width // 2), max(1, image.height // 2))
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
    "blur .6–1.2": _blur(0.6, 1.2),
    "half pasted": _half,
    "quarter pasted": _quarter,
    "text over it": _text,
    "box over it": _box,
    "rotated 3–15°": _rotate(3, 15),
    "blend 60–80 %": _blend(0.6, 0.8),
}
"""The 18 kinds."""

HARD_KINDS: dict[str, Alteration] = {
    "quarter turn": lambda image, _, rng: image.transpose(_TURNS[rng.integers(2)]),
    "upside down": lambda image, _, rng: image.transpose(_UPSETS[rng.integers(2)]),
    "framed 55–85 %": _framed,
    "half moved": partial(_half, moved=True),
    "quarter moved": partial(_quarter, moved=True),
    "half size, pasted": lambda image, canvas, rng: _shrunk(image, 0.5, 0.5, rng, canvas),
    "blend 50 %": _blend(0.5, 0.5),
}
"""Orientation, scale, moved parts, even blends."""

ALL_KINDS: dict[str, Alteration] = {**KINDS, **HARD_KINDS}

USUAL_KINDS: tuple[str, ...] = (
    "re-encoded",
    "mirrored",
    "shift 3–5",
    "crop 70–80 %",
    "rotated 3–15°",
    "colours",
    "blur .6–1.2",
    "noise 20–30",
    "half pasted",
    "quarter pasted",
    "blend 50 %",
)
"""A selection: one of each sort, the harder one where there are two."""

HONEST: dict[str, Alteration] = {
    "as it is": lambda image, *_: image,
    "blur .6": _blur(0.6, 0.6),
    "blur 1.2": _blur(1.2, 1.2),
    "half resolution": half_resolution,
}
"""What honest releases may look like."""

# -- by name -------------------------------------------------------------------------------------------------

_MEASURED: dict[str, tuple[Callable[[float, float], Alteration], float, float]] = {
    "jpeg": (lambda low, high: _jpeg(int(low), int(high)), 1, 100),
    "noise": (_noise, 0, 255),
    "crop": (lambda low, high: _crop(low / 100, high / 100), 10, 100),
    "shift": (lambda low, high: _shift(int(low), int(high)), 0, 16),
    "blur": (_blur, 0, 16),
    "rotated": (_rotate, 0, 180),
    "blend": (lambda low, high: _blend(low / 100, high / 100), 1, 100),
}
"""Alterations of a chosen strength: what makes them of its two ends, and the range that these lie in."""

_STEP = re.compile(r"([a-z]+) ?(\d*\.?\d+)(?:-(\d*\.?\d+))?")


def alteration(text: str) -> Alteration:
    """The alteration of a name, of a strength, or of several one after the other.

    Args:
        text: Steps with ``+`` between them. A step is a name in `ALL_KINDS` or `HONEST`, or one of these with a number
            or a range ``LOW-HIGH``: ``jpeg`` (quality), ``noise`` (grey levels of 255), ``crop`` (per cent of the
            side), ``shift`` and ``blur`` (pixels of 32), ``rotated`` (degrees), ``blend`` (per cent of the copy).

    Raises:
        ValueError: A step is none of these.

    >>> alteration("mirrored") is KINDS["mirrored"], callable(alteration("crop 50-60 + mirrored + jpeg 40"))
    (True, True)
    >>> alteration("glued")
    Traceback (most recent call last):
    ValueError: no alteration 'glued'
    """
    steps = [_step(part) for part in text.split("+")[: MOST_STEPS + 1]]
    if len(steps) > MOST_STEPS:
        raise ValueError(f"more than {MOST_STEPS} alterations one after the other")
    if len(steps) == 1:
        return steps[0]

    def alter(image: Picture, canvas: Picture, rng: np.random.Generator) -> Picture:
        for step in steps:
            image = step(image, canvas, rng)
        return image

    return alter


def _step(text: str) -> Alteration:
    wanted = _plain(text)
    for name, known in {**ALL_KINDS, **HONEST}.items():
        if wanted == _plain(name):
            return known
    found = _STEP.fullmatch(wanted)
    if not found or found[1] not in _MEASURED:
        raise ValueError(f"no alteration {text.strip()!r}")
    make, least, most = _MEASURED[found[1]]
    low, high = float(found[2]), float(found[3] or found[2])
    if not least <= low <= high <= most:
        raise ValueError(f"{text.strip()!r}: {found[1]} lies between {least:g} and {most:g}, the lower end first")
    return make(low, high)


def _plain(name: str) -> str:
    """A name as it can be typed.

    >>> _plain(" Crop 80–95 %"), _plain("rotated 3–15°")
    ('crop 80-95', 'rotated 3-15')
    """
    return name.strip().lower().replace("–", "-").rstrip(" %°")


def random_for(text: str, sha256: str) -> np.random.Generator:
    """The random numbers for one image: the same image and alteration always give the same result.

    Args:
        text: The alteration.
        sha256: Digest of the image's content, hexadecimal.
    """
    return np.random.default_rng(list(hashlib.sha256(f"{text}\n{sha256}".encode()).digest()))
