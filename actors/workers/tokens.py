"""Patch tokens of images: the space that they are projected to, and the columns of a token table.

A token table is an embedding table whose columns are views, one vector (patches × directions) each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.encoder.config import ViewName
from actors.encoder.views import view_of
from scoring.copies.token_space import TokenSpace
from storage.digest import digest
from storage.objects.open import ObjectStore, open_store
from storage.seal import content_digest, parse_arrays, read_sealed, sealed_arrays
from storage.vectors.tables import FACT_FIELDS

if TYPE_CHECKING:
    from actors.encoder.model import Encoder


class FittedSpace(NamedTuple):
    """A token space with what it was fitted to.

    Attributes:
        space: The projection.
        layer: The layer of the tokens.
        side: Patches on a side.
    """

    space: TokenSpace
    layer: int
    side: int

    @property
    def dims(self) -> int:
        """Length of a token."""
        return int(self.space.axes.shape[1])

    @property
    def digest(self) -> str:
        """Digest of the projection."""
        return content_digest(self.space.mean.tobytes() + self.space.axes.tobytes())

    def to_bytes(self) -> bytes:
        """The space as a sealed ``.npz`` file."""
        numbers = {"layer": np.int64(self.layer), "side": np.int64(self.side)}
        return sealed_arrays({"mean": self.space.mean, "axes": self.space.axes, **numbers})

    @classmethod
    def read(cls, store: ObjectStore, key: str) -> FittedSpace:
        """The space at a key; errors are those of `read_sealed`."""
        return read_sealed(store, key, _parse_space)


def _parse_space(data: bytes) -> FittedSpace:
    found = parse_arrays(data)
    return FittedSpace(TokenSpace(found["mean"], found["axes"]), int(found["layer"]), int(found["side"]))


@dataclass(frozen=True, slots=True)
class TokenPlan:
    """The tokens that a table holds.

    Attributes:
        space_key: Where their space is.
        space: Digest of its content: one that was fitted again, elsewhere, may have other signs.
        encoder: Digest of the encoder.
        layer: The layer.
        side: Patches on a side.
        dims: Length of a token.
        views: Names of the views, see `actors.encoder.views`.
    """

    space_key: str
    space: str
    encoder: str
    layer: int
    side: int
    dims: int
    views: tuple[ViewName, ...]

    @property
    def digest(self) -> str:
        """What the tokens depend on besides the images."""
        return digest(encoder=self.encoder, space=self.space, views=list(self.views))

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""
        vector = pa.list_(pa.float16(), self.side**2 * self.dims)
        views = [pa.field(view_column(number), vector, nullable=False) for number in range(len(self.views))]
        return pa.schema([*FACT_FIELDS, *views])


def view_column(number: int) -> str:
    """The name of a view's column.

    >>> view_column(2)
    'view_02'
    """
    return f"view_{number:02d}"


def tokens_of(
    encoder: Encoder, store_uri: str, plan: TokenPlan, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float16]]:
    """The columns of a token table for some images.

    Args:
        encoder: The encoder.
        store_uri: The store of the space.
        plan: Which tokens.
        images: (b, s, s, 3) uint8.

    Returns:
        Column → (b, patches · dims) float16.
    """
    space = _space(store_uri, plan).space
    cell = max(2, images.shape[1] // plan.side)
    found = {}
    for number, view in enumerate(plan.views):
        tokens = space.project(encoder.patch_tokens(view_of(images, view, cell), plan.layer))
        found[view_column(number)] = tokens.reshape(len(images), -1)
    return found


@lru_cache(maxsize=2)
def _space(store_uri: str, plan: TokenPlan) -> FittedSpace:
    return FittedSpace.read(open_store(store_uri), plan.space_key)
