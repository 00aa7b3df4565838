"""The material of the demo: real handwritten digits, split into disjoint parts, and releases of generators.

The digits are the 1,797 UCI digits that scikit-learn bundles: 8×8 pixels of 17 grey levels. They are ordered by writer,
so every part is drawn at random. Generators are fitted on first use, and equal seeds give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from flows.demo.generators import (
    LEVELS,
    Digits,
    KernelDensityGenerator,
    MixtureGenerator,
    PlantedCopies,
    UnseenDigits,
    VaeGenerator,
)

ENCODER_SIZE = 257
TRAIN_SIZE = 500
HELD_OUT_SIZE = 600
"""The remaining 440 digits are the unseen ones. The 6 closest of 600 held-out digits form the 1 % tail."""

RELEASE_SIZE = 500
"""Number of images in the release of a generator, and in a fresh batch of it."""

PLANTED_SHARE = 0.05
"""Share of exact copies of training images in the planted release."""

SCORING: dict[str, Any] = {"preset": "default", "components": 32, "cells": 4, "seed": 0}
"""The `scoring` of the spec: with 4 cells the smallest one (the zeros) has about 60 held-out digits."""


class DigitSplit(NamedTuple):
    """Disjoint parts of the digits, stratified by label: images (n, 8, 8) uint8 0..16, labels (n,) int64."""

    encoder: Digits
    encoder_labels: NDArray[np.int64]
    train: Digits
    train_labels: NDArray[np.int64]
    held_out: Digits
    held_out_labels: NDArray[np.int64]
    unseen: Digits
    unseen_labels: NDArray[np.int64]


class DemoRelease(NamedTuple):
    """A release of `size` images; `sample(count, batch)` draws (count, 8, 8) uint8 0..16."""

    name: str
    version: str
    family: str
    description: str
    size: int
    sample: Callable[[int, int], Digits]

    def batch(self, number: int) -> Digits:
        """Batch `number` at the size of the release: 0 is the released batch, 1 a fresh one."""
        return self.sample(self.size, number)


class DemoMaterial(NamedTuple):
    """Everything that the demo audits."""

    split: DigitSplit
    releases: tuple[DemoRelease, ...]


def split_digits(seed: int) -> DigitSplit:
    """Split the digits into the parts.

    >>> [len(part) for part in split_digits(0)[::2]]
    [257, 500, 600, 440]
    """
    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    rest, parts = np.arange(len(labels)), []
    for size in (ENCODER_SIZE, TRAIN_SIZE, HELD_OUT_SIZE):
        part, rest = train_test_split(rest, train_size=size, stratify=labels[rest], random_state=seed)
        parts.append(part)
    half, other = train_test_split(rest, train_size=len(rest) // 2, stratify=labels[rest], random_state=seed)
    parts.append(np.concatenate([half, other]))
    return DigitSplit(*(array[part] for part in parts for array in (images, labels)))


def build_demo_material(seed: int) -> DemoMaterial:
    """The parts of the digits and the releases, whose generators are fitted on the train part at the first draw.

    Args:
        seed: Seed of the split, the fits and the draws.
    """
    split = split_digits(seed)
    train, unseen = split.train, split.unseen
    tiny = KernelDensityGenerator(train, bandwidth=0.5, seed=seed + 1)
    wide = KernelDensityGenerator(train, bandwidth=3.0, seed=seed + 2)
    mixture = MixtureGenerator(train, clusters=20, dimensions=40, floor=2.0, seed=seed + 3)
    vae = VaeGenerator(train, latent=8, seed=seed + 4)
    small_vae = VaeGenerator(train, latent=4, seed=seed + 5)
    planted = PlantedCopies(small_vae, train, share=PLANTED_SHARE, seed=seed + 6)
    m = RELEASE_SIZE
    return DemoMaterial(
        split,
        (
            _release("unseen", "real", "real digits, never seen", len(unseen) // 2, UnseenDigits(unseen).sample),
            _release("kde_wide", "kernel density", "bandwidth 3 of 16 grey levels", m, wide.sample),
            _release("mixture", "mixture", "20 Gaussians on 40 components", m, mixture.sample),
            _release("vae", "vae", "8 latent dimensions", m, vae.sample),
            _release("planted", "vae", "4 latent dimensions, 5 % exact copies of training images", m, planted.sample),
            _release("kde_tiny", "kernel density", "bandwidth 0.5: memorizes", m, tiny.sample),
        ),
    )


def _release(name: str, family: str, description: str, size: int, sample: Callable[[int, int], Digits]) -> DemoRelease:
    return DemoRelease(name, "1", family, description, size, sample)


def grey(digits: Digits) -> NDArray[np.uint8]:
    """Scale native levels 0..16 to 0..255, in the same way for every set.

    >>> grey(np.array([0, 1, 8, 16], dtype=np.uint8))
    array([  0,  16, 128, 255], dtype=uint8)
    """
    return np.rint(digits.astype(np.float64) * 255 / LEVELS).astype(np.uint8)


def png_bytes(digit: NDArray[np.uint8]) -> bytes:
    """One digit as an 8-bit grey PNG without metadata.

    Args:
        digit: (8, 8) uint8, 0..16.
    """
    buffer = io.BytesIO()
    Image.fromarray(grey(digit)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png_set(digits: Digits, writer: Callable[[str, bytes], None], prefix: str = "") -> None:
    """Write every digit as PNG under `{prefix}00000.png`, `{prefix}00001.png`, …, from several threads.

    Args:
        digits: (n, 8, 8) uint8, 0..16.
        writer: Called with the key and the bytes of each image.
        prefix: Put before the number without a separator: end a folder with a slash.
    """
    keys = [f"{prefix}{number:05d}.png" for number in range(len(digits))]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key, digit: writer(key, png_bytes(digit)), keys, digits))
