"""Makes the profile of a set of images: each layer by itself, then all informative layers together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.workers.arrays import load_arrays, save_arrays
from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from actors.workers.partition import StoredPartition
from scoring.attribution.curve import LogitCurve, covariance_of, logit_curve
from scoring.attribution.mean_placement import mean_placement
from scoring.attribution.profile import Profile, cut, merged
from scoring.partition.fit import Partition
from scoring.partition.moments import Moments
from scoring.score.c_t import published_ct
from scoring.score.cells import MIN_HELD_OUT, MIN_RELEASE, merge_small_cells
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column


@dataclass(frozen=True, slots=True)
class ProfileLayer:
    """One layer of one set to profile; ``key`` is the place of the result in the store.

    ``table`` and ``version`` are the set's embeddings; ``seed`` decides the cut into parts.
    """

    store: str
    table: str
    version: int
    layer: int
    partition_key: str
    held_out_key: str
    release_key: str
    contaminated_key: str
    seed: int
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class LayerProfile:
    """One layer of a profile of m images, cut into r parts, against n held-out images.

    Attributes:
        part: (m,) int32, the part of each image.
        placement: (m,) float64.
        influence_p: (n,) float64.
        influence_q: (m,) float64.
        count: (r,) int64, images of each part.
        mean: (r, k) float64, of the projected embeddings of each part.
        scatter: (r, k, k) float64.
        c_t: (1 + r,) float64, C_T of the whole set and of each part; NaN where no cell was large enough.

    All are empty when the layer is not informative.
    """

    part: NDArray[np.int32]
    placement: NDArray[np.float64]
    influence_p: NDArray[np.float64]
    influence_q: NDArray[np.float64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]
    c_t: NDArray[np.float64]

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> LayerProfile:
        return cls(**load_arrays(store, key))

    def save(self, store: ObjectStore, key: str) -> bool:
        """Publish; False when another worker was first."""
        return save_arrays(store, key, **{name: getattr(self, name) for name in self.__slots__})

    @property
    def moments(self) -> list[Moments]:
        """Moments of the projected embeddings, part by part."""
        return [Moments(int(n), m, s) for n, m, s in zip(self.count, self.mean, self.scatter, strict=True)]


def profile_layer(task: ProfileLayer) -> bool:
    """Profile one layer; False when it was already there."""
    store = open_store(task.store)
    if store.exists(task.key):
        return False
    partition = StoredPartition.load(store, task.partition_key).partition
    if not partition.informative:
        return _nothing().save(store, task.key)
    held_out = NearestTable.load(store, task.held_out_key).without(contaminated_rows(store, task.contaminated_key))
    release = NearestTable.load(store, task.release_key)
    part = cut(len(release.row), task.seed)[np.argsort(np.argsort(release.row))]
    groups = held_out_groups(partition, held_out)
    placed = mean_placement(held_out.distance, groups[held_out.cell], release.distance, groups[release.cell])
    moments = _moments(store, task, partition, dict(zip(release.row.tolist(), part.tolist(), strict=True)))
    sets = [np.ones(len(part), np.bool_), *(part == i for i in range(len(moments)))]
    return LayerProfile(
        part=part,
        placement=placed.placement,
        influence_p=placed.influence_p,
        influence_q=placed.influence_q,
        count=np.array([part.n for part in moments]),
        mean=np.stack([part.mean for part in moments]),
        scatter=np.stack([part.scatter for part in moments]),
        c_t=np.array([merged_ct(partition, held_out, release, chosen) for chosen in sets]),
    ).save(store, task.key)


def _moments(store: ObjectStore, task: ProfileLayer, partition: Partition, part_of: dict[int, int]) -> list[Moments]:
    """Moments of the projected embeddings of each part, block by block."""
    parts = max(part_of.values()) + 1
    width = len(partition.components)
    moments = [Moments(0, np.zeros(width), np.zeros((width, width)))] * parts
    for rows, x in VectorStore(store).scan(task.table, task.version, layer_column(task.layer)):
        projected = partition.project(x)
        part = np.array([part_of[row] for row in rows.tolist()])
        moments = [before.merge(Moments.of(projected[part == i])) for i, before in enumerate(moments)]
    return moments


def _nothing() -> LayerProfile:
    none = np.empty(0)
    return LayerProfile(np.empty(0, np.int32), none, none, none, np.empty(0, np.int64), none, none, none)


def held_out_groups(partition: Partition, held_out: NearestTable) -> NDArray[np.int32]:
    """Groups of cells with enough held-out images, whatever a release generates."""
    counts = np.bincount(held_out.cell, minlength=len(partition.centroids))
    return merge_small_cells(partition.centroids, counts, counts, min_m=MIN_HELD_OUT)


def merged_ct(partition: Partition, held_out: NearestTable, release: NearestTable, chosen: NDArray[np.bool_]) -> float:
    """C_T of some images of a set, over cells merged until each is large enough; NaN when even one cell is too small.

    Args:
        partition: The layer's partition.
        held_out: Nearest distances of the n held-out images.
        release: Those of the set.
        chosen: (m,) bool, the images.
    """
    cells, size = release.cell[chosen], len(partition.centroids)
    if len(cells) <= MIN_RELEASE:
        return float("nan")
    groups = merge_small_cells(
        partition.centroids,
        np.bincount(held_out.cell, minlength=size),
        np.bincount(cells, minlength=size),
        min_m=MIN_RELEASE + 1,
    )
    c_t = published_ct(held_out.distance, groups[held_out.cell], release.distance[chosen], groups[cells])
    return float("nan") if c_t is None else c_t


# -- all layers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JoinProfile:
    """The layers of one profile, and the keys that `profile_layer` wrote them to."""

    store: str
    layers: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SetProfile:
    """The profile of a set and of its disjoint parts, in the informative layers.

    ``curve`` is logit Â with its whole sampling covariance, held-out images included.
    """

    layers: tuple[int, ...]
    curve: LogitCurve
    whole: Profile
    parts: tuple[Profile, ...]


def join_profile(task: JoinProfile) -> SetProfile | None:
    """Join the informative layers; None when there are none."""
    store = open_store(task.store)
    loaded = {layer: LayerProfile.load(store, key) for layer, key in zip(task.layers, task.keys, strict=True)}
    informative = {layer: profile for layer, profile in loaded.items() if len(profile.count)}
    if not informative:
        return None
    layers = list(informative.values())
    placement = np.stack([layer.placement for layer in layers], axis=1)
    influence_p = np.stack([layer.influence_p for layer in layers], axis=1)
    influence_q = np.stack([layer.influence_q for layer in layers], axis=1)
    counts = min(len(influence_p), len(influence_q))
    moments = list(zip(*(layer.moments for layer in layers), strict=True))
    parts = tuple(
        Profile(
            Moments.of(placement[layers[0].part == i]),
            signature,
            np.array([layer.c_t[1 + i] for layer in layers]),
        )
        for i, signature in enumerate(moments)
    )
    whole = merged(parts)
    return SetProfile(
        layers=tuple(informative),
        curve=logit_curve(whole.placed.mean, covariance_of(influence_p, influence_q), counts),
        whole=Profile(whole.placed, whole.signature, np.array([layer.c_t[0] for layer in layers])),
        parts=parts,
    )
