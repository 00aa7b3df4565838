"""Named arrays as objects of a store (npz, read without pickle)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.objects.open import ObjectStore


def save_arrays(store: ObjectStore, key: str, **arrays: ArrayLike) -> bool:
    """Publish arrays; False when another worker was first."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return store.put_if_absent(key, buffer.getvalue())


def load_arrays(store: ObjectStore, key: str) -> dict[str, NDArray[Any]]:
    """The arrays that `save_arrays` published.

    Raises:
        ObjectMissingError: There are none.
    """
    with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as arrays:
        return dict(arrays)
