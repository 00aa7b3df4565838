"""Held-out images that are (nearly) training images: they would hide copies, so they are listed and not used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.workers.nearest_table import NearestTable
from scoring.nearest.near_duplicates import MIN_IMAGES, contaminated
from storage.objects.open import ObjectStore, open_store
from storage.seal import parse_json, read_sealed, sealed_json
from storage.vectors.tables import VectorStore


@dataclass(frozen=True, slots=True)
class FindContamination:
    """A reference whose held-out images are compared with its training images; ``key`` is the place of the list."""

    store: str
    train: str
    train_version: int
    held_out: str
    held_out_version: int
    nearest_keys: tuple[str, ...]
    key: str


class Contaminated(NamedTuple):
    """A held-out image that is (nearly) a training image."""

    row: int
    key: str
    train_key: str
    identical: bool


def find_contamination(task: FindContamination) -> bool:
    """List the held-out images that must not be used; False when the list was already there."""
    store = open_store(task.store)
    images = [image._asdict() for image in _find(store, task)]
    return store.put_if_absent(task.key, sealed_json(images))


def _find(store: ObjectStore, task: FindContamination) -> list[Contaminated]:
    vectors = VectorStore(store)
    columns = ["row", "key", "sha256"]
    train = vectors.read(task.train, task.train_version, columns)
    held_out = vectors.read(task.held_out, task.held_out_version, columns)
    by_content = dict(zip(train["sha256"].to_pylist(), train["key"].to_pylist(), strict=True))
    train_keys = dict(zip(train["row"].to_pylist(), train["key"].to_pylist(), strict=True))
    near = _near_duplicates([NearestTable.load(store, key) for key in task.nearest_keys])
    images = []
    for image in held_out.to_pylist():
        if image["sha256"] in by_content:
            images.append(Contaminated(image["row"], image["key"], by_content[image["sha256"]], True))
        elif image["row"] in near:
            images.append(Contaminated(image["row"], image["key"], train_keys[near[image["row"]]], False))
    return images


def _near_duplicates(layers: list[NearestTable]) -> dict[int, int]:
    """Row of each near-duplicate → row of a training image that it duplicates."""
    usable = [layer for layer in layers if len(layer.row) >= MIN_IMAGES and np.isfinite(layer.ratio).all()]
    if not usable:
        return {}
    mask = contaminated(np.stack([k.ratio for k in usable]), np.stack([k.train_row for k in usable]))
    closest = usable[0]
    return {int(r): int(t) for r, t in zip(closest.row[mask], closest.train_row[mask], strict=True)}


def load_contaminated(store: ObjectStore, key: str) -> list[Contaminated]:
    """The list that `find_contamination` wrote."""
    return read_sealed(store, key, lambda data: [Contaminated(**item) for item in parse_json(data)])


def contaminated_rows(store: ObjectStore, key: str) -> NDArray[np.int64]:
    """The rows of that list, (c,) int64."""
    return np.array([item.row for item in load_contaminated(store, key)], np.int64)
