"""The copies of a release beside the training images that they copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.report.facts import Row
from flows.report.figures.pairs import ImageSet, Picture, not_shown, picture

PICTURED = 60
"""Copies shown with pictures; further ones are rows of a table."""


class CopyView(NamedTuple):
    """A row of `copies` and its images, None where they cannot be read; `missing` says why."""

    row: Row
    image: Picture | None
    train: Picture | None
    missing: str


def copy_views(copies: Sequence[Row], release: ImageSet, train: ImageSet) -> list[CopyView]:
    """The strongest copies with their pictures.

    Args:
        copies: The copies of an audit, strongest first.
        release: The generated images.
        train: The training images.
    """
    views = []
    for row in copies[:PICTURED]:
        image, source = release.image(row["image_key"]), train.image(row["train_key"])
        views.append(CopyView(row, picture(image), picture(source), not_shown(image, source)))
    return views
