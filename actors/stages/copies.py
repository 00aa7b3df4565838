"""The stages of the copy score: tokens of image sets, evidence for every image, scores of a release."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ScoredImages:
    """Copy scores of the q distinct images of a set; of images with equal content only the first.

    Attributes:
        rows: (q,) int64, their rows in the set's list.
        scores: (q,) float64, see `scoring.copies.copy_score.CopyScale.score`.
        late: (q,) float64, the late interaction ratio.
        votes: (q,) float64, the margin of votes.
        sources: (q,) int64, row of the training image that each is most like.
        parts: (q,) bool, whether the votes of patches, which see parts of images, decided the score.
        views: (q,) int64, the view that matched, a place in `CopiesFound.views`.
        identical: (q,) bool, whether a training image has the same content.
        images: Images with any content, repeated ones included.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    late: NDArray[np.float64]
    votes: NDArray[np.float64]
    sources: NDArray[np.int64]
    parts: NDArray[np.bool_]
    views: NDArray[np.int64]
    identical: NDArray[np.bool_]
    images: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class CopiesFound:
    """The copy scores that a release is judged by.

    Attributes:
        held_out: Held-out images, without those whose content is a training image's.
        generated: The release's images.
        leaks: (n,) bool, the held-out images that look like training images themselves.
        views: Names of the views (`actors.encoder.views`).
        layer: The layer of the patch tokens.
        table: Token table of the release.
    """

    held_out: ScoredImages
    generated: ScoredImages
    leaks: NDArray[np.bool_]
    views: tuple[str, ...]
    layer: int
    table: str
