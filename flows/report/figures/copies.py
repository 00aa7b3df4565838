"""The copies of a release beside the training images that they copy, the copied region outlined in both."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from flows.report.facts import Row
from flows.report.figures.pairs import ImageSet, Picture, not_shown, picture
from scoring.copies.region import Mask, from_hex

PICTURED = 60
"""Copies shown with pictures; further ones are rows of a table."""

MOST_CELLS = 256
"""Cells on a side of a region that is drawn; no encoder has as many."""


class CopyView(NamedTuple):
    """A row of `copies` and its images, None where they cannot be read; `missing` says why.

    `outline` and `train_outline` are SVG paths in pixels of the two pictures; empty where no region is known.
    """

    row: Row
    image: Picture | None
    train: Picture | None
    missing: str
    outline: str = ""
    train_outline: str = ""


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
        shown, shown_source = picture(image), picture(source)
        outlines = (_outline(one, row.get(name)) for one, name in ((shown, "region"), (shown_source, "train_region")))
        views.append(CopyView(row, shown, shown_source, not_shown(image, source), *outlines))
    return views


def region_text(row: Row) -> str:
    """How much of both images a row of `copies` says is copied; nothing where that is not known.

    >>> region_text({"region_share": 0.484, "train_region_share": 0.5}), region_text({})
    ('48 % of it, 50 % of the training image', '')
    """
    share, of_train = row.get("region_share"), row.get("train_region_share")
    if share is None or of_train is None:
        return ""
    return f"{100 * share:.0f} % of it, {100 * of_train:.0f} % of the training image"


def _outline(shown: Picture | None, text: str | None) -> str:
    """The outline of a region over a picture, whose central square was compared."""
    if shown is None or not text or len(text) > MOST_CELLS**2 // 4:
        return ""
    region = from_hex(text)
    if region is None:
        return ""
    side = min(shown.width, shown.height)
    return outline(region, side / len(region), (shown.width - side) / 2, (shown.height - side) / 2)


def outline(region: Mask, cell: float, left: float = 0, top: float = 0) -> str:
    """The border of a region as an SVG path: where cells of the region meet others, or the end of the image.

    Args:
        region: (c, c), its cells.
        cell: Side of a cell.
        left: Where the first column begins.
        top: Where the first row begins.

    >>> outline(np.array([[True, True], [False, False]]), 8)
    'M0 0H16M0 8H16M0 0V8M16 0V8'
    """
    wide = np.pad(region, 1)
    across, along = wide[1:] != wide[:-1], (wide[:, 1:] != wide[:, :-1]).T
    lines = [
        f"M{left + start * cell:g} {top + row * cell:g}H{left + end * cell:g}" for row, start, end in _runs(across)
    ]
    lines += [
        f"M{left + column * cell:g} {top + start * cell:g}V{top + end * cell:g}" for column, start, end in _runs(along)
    ]
    return "".join(lines)


def _runs(edges: Mask) -> list[tuple[int, int, int]]:
    """Line, start and end of the runs of True in each line of edges; the first and last place of a line are padding."""
    found = []
    for line, marked in enumerate(edges[:, 1:-1]):
        turns = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
        found += [(line, int(start), int(end)) for start, end in list(pairwise(turns))[::2]]
    return found
