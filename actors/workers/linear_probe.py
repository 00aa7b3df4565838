"""The per-image baseline of attribution: a linear probe on the stored embeddings of the enrolled releases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.workers.partition import StoredPartition
from scoring.attribution.baselines import linear_probe
from scoring.partition.fit import Partition
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore, layer_column, vector_matrix

MOST_IMAGES = 1000
"""Largest number of images that the probe uses of a table, evenly spaced: tables are sorted by name, names may go by
subject."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Enrolled releases as (name, tables) and the suspect's table, in one layer; a table is (name, version)."""

    store: str
    layer: int
    partition_key: str
    enrolled: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    suspect: tuple[str, int]


class Probed(NamedTuple):
    """Summed log-probability of each release; none when embeddings are gone, of the releases in ``missing``."""

    scores: dict[str, float]
    missing: list[str]


def probe_suspect(task: Probe) -> Probed:
    """Fit the probe on the enrolled releases, and apply it to the suspect."""
    store = open_store(task.store)
    vectors = VectorStore(store)
    missing = [maker for maker, tables in task.enrolled if any(vectors.committed(name) is None for name, _ in tables)]
    if missing or len(task.enrolled) < 2:
        return Probed({}, missing)
    partition = StoredPartition.load(store, task.partition_key).partition
    enrolled = {
        maker: np.concatenate([_projected(vectors, partition, table, task.layer, MOST_IMAGES) for table in tables])
        for maker, tables in task.enrolled
    }
    suspect = _projected(vectors, partition, task.suspect, task.layer, None)
    return Probed(linear_probe(enrolled, [suspect])[0], [])


def _projected(
    vectors: VectorStore, partition: Partition, table: tuple[str, int], layer: int, most: int | None
) -> NDArray[np.float32]:
    """Projected images of a table, evenly spaced where there are more than `most`, (m, k) float32."""
    dataset, column = vectors.dataset(*table), layer_column(layer)
    count = dataset.count_rows()
    rows = np.unique(np.linspace(0, count - 1, min(count, most or count)).astype(np.int64))
    return partition.project(vector_matrix(dataset.take(rows, columns=[column])[column]))
