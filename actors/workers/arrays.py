"""Named arrays as objects of a store (npz, read without pickle)."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from storage.objects.open import ObjectStore
from storage.seal import parse_arrays, read_sealed, sealed_arrays


def save_arrays(store: ObjectStore, key: str, **arrays: ArrayLike) -> bool:
    """Publish arrays; False when another worker was first."""
    return store.put_if_absent(key, sealed_arrays(arrays))


def load_arrays(store: ObjectStore, key: str) -> dict[str, NDArray[Any]]:
    """The arrays that `save_arrays` published.

    Raises:
        ObjectMissingError: There are none.
        BrokenObjectError: They are not what was written.
    """
    return read_sealed(store, key, parse_arrays)
