"""Pictures as arrays of pixels, and texts that no picture may trust."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

HOSTILE = [
    "日本語/\u202egnp.exe",
    "$\\frac{1}{0",
    "a_b^c",
    "two\nlines",
    "<script>alert(1)</script>&amp;",
    "k" * 4096,
    "\ud800lone",
    "nul\0",
    "e" + "\u0301" * 50,
    "var(--bad)",
]

BAD, GOOD_BLUE = "#b3261e", "#0072b2"
"""Light colours of the style sheet: copying, and the first of the others."""


def pixels(png: bytes) -> NDArray[np.int16]:
    """(height, width, 3) values from 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int16)


def near(picture: NDArray[np.int16], colour: str) -> NDArray[np.bool_]:
    """(height, width), where a picture has nearly this colour."""
    return np.asarray(np.abs(picture - np.array(ImageColor.getrgb(colour))).max(axis=2) < 12)


def inside(picture: NDArray[np.int16]) -> bool:
    """Whether the margins of a picture are empty: nothing is cut off."""
    return bool(all((edge > 250).all() for edge in (picture[:8], picture[-8:], picture[:, :8], picture[:, -8:])))
