"""One number per image from both kinds of evidence, and its p-value.

The training images themselves say how large each kind of evidence is without any copy: each of a sample is compared
with all others (leave-one-out). The surprise of a value is the -ln of the share of them that reach it, and the score of
an image is the larger of its two surprises: neither kind suffices alone, and a maximum keeps what the better one finds.

Neither held-out nor generated images decide anything here, so all held-out images calibrate the score: the p-value of
an image that is exchangeable with them is exact, whatever the training images say.

It also finds held-out images that are training images: they are surprising among the training images themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.copies.evidence import Evidence
from scoring.score.conformal import conformal_p
from scoring.score.false_discovery import discoveries
from scoring.score.placements import check_sample

LEAKS = 0.1
"""Expected share of wrongly named images among the held-out images that are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class CopyScale:
    """The evidence of r training images against all others.

    Attributes:
        late: (r,) float64, ascending.
        votes: (r,) float64, ascending.
    """

    late: NDArray[np.float64]
    votes: NDArray[np.float64]

    @classmethod
    def of(cls, left_out: Evidence) -> CopyScale:
        """The scale that a sample of training images sets, each left out of the training set (`copy_evidence`, own).

        Raises:
            ValueError: There are fewer than two images.
        """
        check_sample("left_out", left_out.late)
        if len(left_out.late) < 2:
            raise ValueError("a scale needs two training images")
        return cls(np.sort(left_out.late), np.sort(left_out.votes))

    def score(self, evidence: Evidence) -> NDArray[np.float64]:
        """The copy score of each image, ≥ 0: the larger of the two surprises."""
        late, votes = self._surprises(evidence)
        return np.asarray(np.maximum(late, votes))

    def parts(self, evidence: Evidence) -> NDArray[np.bool_]:
        """Whether the votes decide the score of each image, (q,): whether they are the more surprising evidence.

        So an image's source and view are those of the evidence that gave its score. Above the scale the larger surprise
        is the larger ratio to the scale's largest value. Within it the ranks are compared, since there the ratio would
        hang on one training image; where the ranks are equal, the ratio decides, and then late interaction.
        """
        late, votes = self._surprises(evidence)
        nearer = _ratio(evidence.votes, self.votes[-1]) > _ratio(evidence.late, self.late[-1])
        return np.asarray((votes > late) | ((votes == late) & nearer))

    def sources(self, evidence: Evidence) -> NDArray[np.int64]:
        """The training image (q,) that each image is most like, by the evidence that decides its score."""
        return np.where(self.parts(evidence), evidence.votes_source, evidence.late_source)

    def alike(self, evidence: Evidence) -> NDArray[np.int64]:
        """The training images (q,) that are the same picture as the source of each image, which is one of them."""
        return np.where(self.parts(evidence), evidence.votes_alike, evidence.late_alike)

    def views(self, evidence: Evidence) -> NDArray[np.int64]:
        """The view (q,) in which each image is most like its source, by the evidence that decides its score."""
        return np.where(self.parts(evidence), evidence.votes_view, evidence.late_view)

    def _surprises(self, evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return surprise(evidence.late, self.late), surprise(evidence.votes, self.votes)


def leaks(held_out: NDArray[np.float64], train: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The held-out images that are training images, at an expected share of `LEAKS` wrong ones.

    A held-out image that is none is as surprising as a training image among the others, whose near-duplicates count as
    others too. So its p-value against their scores is exact, and Benjamini-Hochberg bounds the share. To find few leaks
    among many images the sample must be large: k leaks among n images need n/(k·`LEAKS`) training images.

    Args:
        held_out: (n,) float64, copy scores of held-out images.
        train: (r,) float64, of training images, each compared with all others.

    Returns:
        (n,) bool.

    >>> leaks(np.array([1.0, 2.0, 9.0]), np.arange(1000) / 200).tolist()
    [False, False, True]
    """
    return discoveries(conformal_p(-train, -held_out), LEAKS)


def surprise(values: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """-ln of the share of a scale that reaches a value: (1 + how many reach it)/(r + 1).

    Above the whole scale it goes on growing in proportion to the value, so that strong copies do not tie; it says
    nothing about a probability there.

    Args:
        values: (q,) float64.
        scale: (r,) float64, ascending.

    >>> surprise(np.array([0.0, 0.2, 0.4]), np.array([0.0, 0.1, 0.2])).round(3).tolist()
    [0.0, 0.693, 2.386]
    """
    reach = len(scale) - np.searchsorted(scale, values, side="left")
    inside = np.log((len(scale) + 1.0) / (1.0 + reach))
    return np.asarray(inside + _beyond(values, scale[-1]))


def _beyond(values: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """By how much values exceed the top of a scale, as a share of it."""
    return np.maximum(_ratio(values, top) - 1, 0)


def _ratio(values: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    return np.asarray(values / max(top, np.finfo(np.float64).tiny))
