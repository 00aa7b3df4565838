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
"""Images of a table that the probe sees at most, evenly drawn: tables are sorted by names, which may go by subject."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Enrolled releases as (name, tables), a table being (name, version), and the suspect's table, in one layer."""

    store: str
    layer: int
    partition_key: str
    enrolled: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    suspect: tuple[str, int]


class Probed(NamedTuple):
    """Summed log-probability of each release, or the releases whose embeddings are gone: then there is no probe."""

    scores: dict[str, float]
    missing: list[str]


@dataclass(unsafe_hash=True)
class Prober:
    """A worker that fits and asks one probe."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: Probe) -> Probed:
        """Fit on the enrolled releases, ask for the suspect."""
        store = open_store(task.store)
        vectors = VectorStore(store)
        missing = [
            maker for maker, tables in task.enrolled if any(vectors.committed(name) is None for name, _ in tables)
        ]
        if missing or len(task.enrolled) < 2:
            return Probed({}, missing)
        partition = StoredPartition.load(store, task.partition_key).partition
        enrolled = {
            maker: np.concatenate([_projected(vectors, partition, table, task.layer, MOST_IMAGES) for table in tables])
            for maker, tables in task.enrolled
        }
        suspect = _projected(vectors, partition, task.suspect, task.layer, None)
        return Probed(linear_probe(enrolled, [suspect])[0], [])

    def close(self) -> None:
        """Nothing to give back."""


def _projected(
    vectors: VectorStore, partition: Partition, table: tuple[str, int], layer: int, most: int | None
) -> NDArray[np.float32]:
    """Images of a table, evenly drawn when there are more than `most`, in projected coordinates, (m, k) float32."""
    dataset, column = vectors.dataset(*table), layer_column(layer)
    count = dataset.count_rows()
    rows = np.unique(np.linspace(0, count - 1, min(count, most or count)).astype(np.int64))
    return partition.project(vector_matrix(dataset.take(rows, columns=[column])[column]))
