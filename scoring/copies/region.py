"""Which part of an image is copied, and which part of its training image it is.

A patch belongs to the copied region when its source explains it better than unrelated training images do. Of a sample
of those, the share that comes at least as near to the patch is small in the region, and anything from 0 to 1 outside,
where the source is one image among others:

    share_t = (1 + images with d_t ≤ d_t(source))/(1 + images),  d_t the distance of patch t to the nearest patch

A patch counts when the weighted geometric mean of the share over it and its neighbours is at most `SHARE`: the log of
the distance to the image at that rank over the distance to the source is a vote as in `evidence.py`, with a rank in
place of the nearest image, so that the patches of loose copies, for which some image is nearer by chance, count too.

The training image is asked the same with the roles exchanged: which of its patches does the generated image explain
better than other training images do. Images that are the same picture as the source are no rivals.

`SHARE` and the neighbourhood were fixed on other copies than they are measured on; settings that are chosen on one half
of the kinds do as well on the other (`benchmarks/regions.py`). A region is a description: no verdict depends on it.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve

from scoring.copies.evidence import DUPLICATE, NEIGHBOURS, late_distances
from scoring.copies.train_tokens import TrainTokens

Mask = NDArray[np.bool_]

SHARE = 0.05
"""Largest share of unrelated training images that come as near to a patch that counts."""

RIVALS = 2000
"""Training images that an image and its source are compared with; the share does not depend on how many there are."""

NEIGHBOURHOOD = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
"""Weights of a patch and of its neighbours; those beyond the border are left out."""

_ROUNDING = 1e-6


class Regions(NamedTuple):
    """The patches that belong to the copied region, (s, s) each: of the image as it was seen, and of its source."""

    image: Mask
    source: Mask


def copied_regions(query: NDArray[np.float16], source: NDArray[np.float16], rivals: TrainTokens) -> Regions:
    """Find the copied region in an image and in its source.

    Args:
        query: (t, k), tokens of the image in the view that matched, row by row; t = s².
        source: (t, k), tokens of the training image that it copies.
        rivals: Other training images. The source and images of the same picture may be among them. With fewer than
            1/`SHARE` - 1 no patch counts.

    Raises:
        ValueError: The patches do not form a square.

    >>> rng = np.random.default_rng(0)
    >>> tokens = rng.normal(size=(500, 16, 8)); tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    >>> query, source = tokens[-1].copy(), tokens[-2].astype(np.float16)
    >>> query[8:] = source[8:]
    >>> found = copied_regions(query.astype(np.float16), source, TrainTokens(tokens[:-2].astype(np.float16)))
    >>> found.image.astype(int).tolist()
    [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    """
    return Regions(*(counted(shares) for shares in patch_shares(query, source, rivals)))


def patch_shares(
    query: NDArray[np.float16], source: NDArray[np.float16], rivals: TrainTokens
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of unrelated training images as near to each patch as the other image of the pair is, (s, s) twice.

    See `copied_regions`: first of the image's patches, then of its source's.
    """
    of_query, of_source = (next(rivals.similarities([tokens[None]]))[0] for tokens in (query, source))
    distances = late_distances(of_source[None])[0]
    neighbour = np.sort(distances)[min(NEIGHBOURS, len(distances)) - 1]
    unrelated = distances >= DUPLICATE * neighbour
    cosines = query.astype(np.float32) @ source.astype(np.float32).T
    return _shares(cosines.max(axis=1), of_query[:, unrelated]), _shares(cosines.max(axis=0), of_source[:, unrelated])


def _shares(own: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of images as near to each patch (s, s), from its cosines with one image (t,) and with others (t, r)."""
    side = isqrt(len(own))
    if side * side != len(own):
        raise ValueError(f"{len(own)} patches are no square")
    as_near = (others >= own[:, None] - _ROUNDING).sum(axis=1)
    return np.asarray((1.0 + as_near) / (1.0 + others.shape[1])).reshape(side, side)


def counted(shares: NDArray[np.float64], limit: float = SHARE, weights: NDArray[np.float64] = NEIGHBOURHOOD) -> Mask:
    """The patches (s, s) whose share, averaged over their neighbourhood (geometric mean), is at most a limit.

    >>> counted(np.array([[0.001, 0.001, 0.8]] * 3)).astype(int)[0].tolist()
    [1, 1, 0]
    """
    surprise = -np.log(shares)
    total = convolve(np.ones_like(surprise), weights, mode="constant")
    return np.asarray(convolve(surprise, weights, mode="constant") / total >= -np.log(limit) - _ROUNDING)


# -- cells: half patches, in which a view that is moved by half a patch lies as well ----------------------------


def cells(mask: Mask) -> Mask:
    """Patches (s, s) as cells (2s, 2s).

    >>> cells(np.array([[True, False], [False, False]])).astype(int).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    return np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)


def on_image(mask: Mask, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Mask:
    """Bring the patches of a view back to the image as it is.

    Args:
        mask: (s, s), patches of the view.
        rows: (2s, 2s), row of the image's cell that each cell of the view shows.
        columns: (2s, 2s), its column.

    Returns:
        (2s, 2s) bool, cells of the image.

    >>> place = np.arange(4)
    >>> rows, columns = np.repeat(place[:, None], 4, 1), np.repeat(place[None, ::-1], 4, 0)  # mirrored
    >>> on_image(np.array([[True, False], [False, False]]), rows, columns).astype(int)[0].tolist()
    [0, 0, 1, 1]
    """
    seen = cells(mask)
    found = np.zeros_like(seen)
    found[rows[seen], columns[seen]] = True
    return found


def bounding_box(region: Mask, size: int) -> tuple[int, int, int, int] | None:
    """The smallest box (left, top, right, bottom) around a region, right and bottom excluded; None if it is empty.

    Args:
        region: (c, c), cells.
        size: Side of the image in pixels.

    >>> bounding_box(np.array([[False, False], [True, False]]), 112), bounding_box(np.zeros((2, 2), bool), 112)
    ((0, 56, 56, 112), None)
    """
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return None
    ends = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    left, top, right, bottom = (round(int(end) * size / len(region)) for end in ends)
    return left, top, right, bottom


def to_hex(region: Mask) -> str:
    """Cells (c, c) as text: their bits row by row, four a digit, filled up to whole bytes.

    >>> to_hex(np.array([[True, False], [True, True]]))
    'b0'
    """
    return np.packbits(region).tobytes().hex()


def from_hex(text: str) -> Mask | None:
    """The cells (c, c) that `to_hex` wrote; None if it is not such a text.

    >>> from_hex("b0").astype(int).tolist(), from_hex("no hex"), from_hex("b0b0b0")
    ([[1, 0], [1, 1]], None, None)
    """
    try:
        packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    except ValueError:
        return None
    half = isqrt(2 * len(packed))  # c = 2s cells on a side take ⌈s²/2⌉ bytes
    if not half or -(-half * half // 2) != len(packed):
        return None
    return np.unpackbits(packed, count=4 * half * half).reshape(2 * half, 2 * half).astype(np.bool_)
