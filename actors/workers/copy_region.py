"""The copied regions of a few images, from token tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.encoder.config import ViewName
from actors.encoder.views import VIEWS
from actors.workers.tokens import view_column
from scoring.copies.region import RIVALS, Mask, cells, copied_regions, on_image
from scoring.copies.train_tokens import TrainTokens
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore

_SEED = 0


class CopiedImage(NamedTuple):
    """An image that is a copy: its row in its set's list, the view that matched, the row of its source."""

    row: int
    view: int
    source: int


class CopyRegion(NamedTuple):
    """The copied region as cells, half patches (c, c): of the image as it is, and of its source."""

    image: Mask
    source: Mask


@dataclass(frozen=True, slots=True)
class FindRegions:
    """Images whose copied regions are to be found.

    Attributes:
        store: The store.
        train: Name and version of the training images' token table.
        images: Name and version of the images' token table.
        views: Names of its views.
        dims: Length of a token.
        copies: The images.
    """

    store: str
    train: tuple[str, int]
    images: tuple[str, int]
    views: tuple[ViewName, ...]
    dims: int
    copies: tuple[CopiedImage, ...]


def find_regions(task: FindRegions) -> list[CopyRegion]:
    """Find the copied region of each image and of its source, in the order of the images.

    Raises:
        StoreError: The store cannot be read.
    """
    vectors = VectorStore(open_store(task.store))
    train, images = (_Table(vectors, *table, task.dims) for table in (task.train, task.images))
    rows = train.rows
    sample = rows if len(rows) <= RIVALS else np.random.default_rng(_SEED).choice(rows, RIVALS, replace=False)
    rivals = TrainTokens(train.tokens(0, np.sort(sample)))
    sources = sorted({copy.source for copy in task.copies})
    of_sources = dict(zip(sources, train.tokens(0, np.array(sources, np.int64)), strict=True))
    found: dict[CopiedImage, CopyRegion] = {}
    for view in {copy.view for copy in task.copies}:
        seen = [copy for copy in task.copies if copy.view == view]
        tokens = images.tokens(view, np.array([copy.row for copy in seen], np.int64))
        for copy, query in zip(seen, tokens, strict=True):
            both = copied_regions(query, of_sources[copy.source], rivals)
            places = cells_seen(task.views[view], len(both.image))
            found[copy] = CopyRegion(on_image(both.image, *places), cells(both.source))
    return [found[copy] for copy in task.copies]


def cells_seen(view: ViewName, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Row and column of the cell of an image that each cell of a view shows, (2s, 2s) each.

    Args:
        view: The view.
        side: Patches on a side, s, at most 128.

    >>> rows, columns = cells_seen("mirrored", 2)
    >>> rows[0].tolist(), columns[0].tolist()
    ([0, 0, 0, 0], [3, 2, 1, 0])
    """
    rows, columns = np.indices((2 * side, 2 * side))
    places = np.stack([rows, columns], axis=-1)[None].astype(np.uint8)
    seen = VIEWS[view](places, 2)[0]
    return seen[..., 0], seen[..., 1]


class _Table:
    """The tokens of a token table by the rows of its images."""

    def __init__(self, vectors: VectorStore, name: str, version: int, dims: int) -> None:
        self._vectors, self._table, self._dims = vectors, (name, version), dims
        self.rows: NDArray[np.int64] = vectors.read(name, version, ["row"])["row"].to_numpy()

    def tokens(self, view: int, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """The tokens (q, patches, dims) of some images in one view."""
        _, found = self._vectors.take(*self._table, view_column(view), np.searchsorted(self.rows, rows))
        return found.astype(np.float16, copy=False).reshape(len(found), -1, self._dims)
