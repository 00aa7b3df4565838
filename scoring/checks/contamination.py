"""Held-out images that are training images: those that are left out, and those that only look like them."""

from __future__ import annotations

from scoring.checks.check import Check

MOST_CONTAMINATED = 0.1
"""With a larger share of (nearly) training images the other held-out images are not trusted either."""

MOST_LEAKS = 0.01
"""With a larger share that looks like training images, copies hide behind the line that 1 % of held-out images pass."""


def contamination_check(count: int, images: int, leaks: int | None = None) -> Check:
    """Check whether few held-out images are training images.

    Images that look like training images stay in: a rule that removes them from the held-out set alone would call
    honest releases copying. They can only hide copies, so that too many make "no copying seen" inconclusive.

    Args:
        count: Held-out images that are (nearly) training images and were left out.
        images: Held-out images with those.
        leaks: The others that look like training images by their copy scores; None where there are no such scores.

    >>> contamination_check(2, 1000).passed, contamination_check(200, 1000).passed
    (True, False)
    >>> contamination_check(2, 1000, 3).sentence
    '2 of 1000 held-out images are (nearly) training images; they were left out; 3 more look like training images; ...'
    """
    share = count / images
    sentence = f"{count} of {images} held-out images are (nearly) training images; they were left out"
    if leaks:
        looks = "1 more looks like a training image" if leaks == 1 else f"{leaks} more look like training images"
        sentence += f"; {looks}; {'it stays in and may hide' if leaks == 1 else 'they stay in and may hide'} copies"
    remedy = "draw held-out images again, from images outside the training set"
    if share > MOST_CONTAMINATED:
        return Check("contamination", False, share, MOST_CONTAMINATED, sentence, remedy)
    leaked = (leaks or 0) / max(1, images - count)
    if leaked > MOST_LEAKS:
        return Check("contamination", False, leaked, MOST_LEAKS, sentence, remedy, "inconclusive")
    return Check("contamination", True, share, MOST_CONTAMINATED, sentence)
