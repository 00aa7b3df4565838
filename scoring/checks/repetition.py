"""Repetition within a release: pictures that it holds more than once, which needs no training set to be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.checks.check import Check
from scoring.copies.groups import sizes

CHANCE = 0.01
"""Share of repeated images that is no finding, beyond what unseen images show."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often a set of images repeats itself.

    Attributes:
        images: Images of the set.
        pictures: Different pictures among them.
        repeated: Images whose picture occurs more than once.
        cliques: Pictures that occur more than once.
        largest: Images of the picture that occurs most often.
    """

    images: int
    pictures: int
    repeated: int
    cliques: int
    largest: int

    @classmethod
    def of(cls, pictures: NDArray[np.int64], files: NDArray[np.int64]) -> Repetition:
        """The repetition of a set.

        Args:
            pictures: (m,) int64, equal for contents that are the same picture, nearly.
            files: (m,) int64, images with each content.

        >>> Repetition.of(np.array([0, 1, 1, 3]), np.array([1, 1, 2, 5]))
        Repetition(images=9, pictures=3, repeated=8, cliques=2, largest=5)
        """
        _, first = np.unique(pictures, return_index=True)
        each = sizes(pictures, files)[first]
        often = each[each > 1]
        return cls(int(files.sum()), len(each), int(often.sum()), len(often), int(each.max(initial=0)))

    @property
    def share(self) -> float:
        """Share of the images whose picture occurs more than once."""
        return self.repeated / self.images if self.images else 0.0


def repetition_check(release: Repetition, held_out: Repetition) -> Check:
    """Check whether a release repeats itself more than unseen images do.

    A picture that a generator makes again and again is the sign of memorization that needs no training set, or of a
    small repertoire. It is a note: the verdict counts groups once, so that repetition cannot mislead it. The number of
    partners that an image has by chance grows with the set.

    >>> honest, poor = Repetition(1000, 1000, 0, 0, 1), Repetition(500, 100, 500, 100, 5)
    >>> repetition_check(honest, honest).passed
    True
    >>> repetition_check(poor, honest).sentence
    'the 500 images show 100 pictures: 100 pictures occur 2 to 5 times, 500 images together (100 %); unseen images 0 %'
    """
    usual = held_out.share * max(1.0, release.images / max(1, held_out.images))
    limit = min(1.0, usual + CHANCE)
    often = "no picture occurs twice"
    if release.cliques:
        times = f"2 to {release.largest} times" if release.largest > 2 else "twice"
        pictures = "1 picture occurs" if release.cliques == 1 else f"{release.cliques:,} pictures occur"
        if release.cliques == 1:
            times = f"{release.largest:,} times" if release.largest > 2 else "twice"
        often = f"{pictures} {times}, {release.repeated:,} images together ({_percent(release.share)})"
    sentence = (
        f"the {release.images:,} images show {release.pictures:,} pictures: {often}; "
        f"unseen images {_percent(held_out.share)}"
    )
    if release.share <= limit:
        return Check("repetition", True, release.share, limit, sentence, severity="note")
    remedy = "look at the pictures that repeat: a generator that memorizes makes them again and again"
    return Check("repetition", False, release.share, limit, sentence, remedy, "note")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
