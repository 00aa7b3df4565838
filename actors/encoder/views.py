"""Views of an image in which its patches are compared with those of the training images.

A copy that was mirrored, turned or moved by part of a patch has other patches than its source; one of its views has
nearly the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from actors.encoder.config import ViewName

Pixels = NDArray[np.uint8]
"""Square images, (b, s, s, 3)."""

View = Callable[[Pixels, int], Pixels]


def shifted(images: Pixels, patch: int) -> Pixels:
    """Move by half a patch up and to the left; the last rows and columns are repeated."""
    half = patch // 2
    return np.pad(images[:, half:, half:], ((0, 0), (0, half), (0, half), (0, 0)), mode="edge")


VIEWS: dict[ViewName, View] = {
    "as it is": lambda images, _: images,
    "mirrored": lambda images, _: images[:, :, ::-1],
    "shifted": shifted,
    "turned left": lambda images, _: np.rot90(images, 1, axes=(1, 2)),
    "turned right": lambda images, _: np.rot90(images, -1, axes=(1, 2)),
    "upside down": lambda images, _: np.rot90(images, 2, axes=(1, 2)),
    "upside down, mirrored": lambda images, _: images[:, ::-1],
    "turned left, mirrored": lambda images, _: np.rot90(images, 1, axes=(1, 2))[:, :, ::-1],
    "turned right, mirrored": lambda images, _: np.rot90(images, -1, axes=(1, 2))[:, :, ::-1],
}
"""Name → function of images and the side of a patch in pixels."""


def view_of(images: Pixels, name: ViewName, patch: int) -> Pixels:
    """The images in one view.

    Args:
        images: (b, s, s, 3) uint8.
        name: A name in `VIEWS`.
        patch: Side of a patch in pixels.

    >>> image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    >>> view_of(image, "mirrored", 2)[0, 0, :, 0].tolist(), view_of(image, "shifted", 2)[0, 0, :, 0].tolist()
    ([3, 2, 1, 0], [5, 6, 7, 7])
    """
    return np.ascontiguousarray(VIEWS[name](images, patch))
