"""The profile (fingerprint) of a set of images: memorization curve and moment signature, both mergeable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.background import Shift
from scoring.attribution.curve import LogitCurve, logit_curve
from scoring.partition.moments import Moments

LEAST_IMAGES = 25
"""Fewest images of a part of a set."""

MOST_PARTS = 5
"""Most parts of a set."""


@dataclass(frozen=True, eq=False)
class Profile:
    """One set of images by one reference and encoder, in the informative layers.

    Attributes:
        placed: Moments of the images' placements, see :func:`.mean_placement.mean_placement`: mean (L,) = Â.
        signature: For each layer the moments of the projected embeddings, (k,) and (k, k).
        c_t: (L,) float64, C_T of each layer, only for the published rule; NaN where no cell was large enough.
    """

    placed: Moments
    signature: tuple[Moments, ...]
    c_t: NDArray[np.float64]

    @property
    def images(self) -> int:
        """Number of images, m."""
        return self.placed.n

    @cached_property
    def curve(self) -> LogitCurve:
        """Logit Â with its covariance over the generated images alone.

        The held-out images affect all sets of one maker alike, so that their sampling error cancels in differences.
        """
        return logit_curve(self.placed.mean, self.placed.covariance / self.images, self.images)

    def merge(self, other: Profile) -> Profile:
        """Merge two sets. C_T cannot be merged: the result has that of the larger set."""
        signature = tuple(a.merge(b) for a, b in zip(self.signature, other.signature, strict=True))
        larger = self if self.images >= other.images else other
        return Profile(self.placed.merge(other.placed), signature, larger.c_t)


@dataclass(frozen=True, eq=False)
class Run:
    """One enrolled run of a release, in disjoint parts (a single part when the set is too small).

    Attributes:
        maker: The release.
        name: The run.
        whole: Profile of all images.
        parts: Profiles of the parts.
        shifts: For each part: processing → how it moved a sample of the part's images; empty where none was tried.
    """

    maker: str
    name: str
    whole: Profile
    parts: tuple[Profile, ...]
    shifts: tuple[Mapping[str, Shift], ...] = ()


def merged(profiles: Sequence[Profile]) -> Profile:
    """Merge all sets."""
    return reduce(Profile.merge, profiles)


def cut(images: int, seed: int) -> NDArray[np.int32]:
    """Assign images to random parts of nearly equal size, as many as `LEAST_IMAGES` and `MOST_PARTS` allow.

    Args:
        images: Number of images.
        seed: Seed of the cut.

    Returns:
        (images,) int32, from 0.

    >>> np.bincount(cut(60, seed=0)).tolist(), np.bincount(cut(1000, seed=0)).tolist()
    ([30, 30], [200, 200, 200, 200, 200])
    """
    parts = max(1, min(MOST_PARTS, images // LEAST_IMAGES))
    order = np.random.default_rng(seed).permutation(images)
    part: NDArray[np.int32] = np.empty(images, np.int32)
    part[order] = np.arange(images) % parts
    return part
