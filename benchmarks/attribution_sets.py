"""The material of the attribution benchmark: generators seen through the pipeline, profiles of any of their images."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prefect import flow

from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from actors.workers.partition import StoredPartition
from actors.workers.profile import held_out_groups, merged_ct
from benchmarks.mnist_generators import encoder_part, generator_spec
from flows.audit import built_reference
from flows.cli.progress import ProgressBoard
from flows.inputs import list_set, open_reference
from flows.runtime.runtime import running
from flows.spec.spec import AuditSpec
from flows.tasks import embed_set, process_reference, process_release, search_set
from scoring.attribution.background import Background, Shift
from scoring.attribution.mean_placement import mean_placement
from scoring.attribution.profile import Profile
from scoring.partition.fit import Partition
from scoring.partition.moments import Moments
from storage.layout import layer_key
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore, layer_column

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Layer:
    """One informative layer of one generator's m images."""

    partition: Partition
    held_out: NearestTable
    release: NearestTable
    placement: NDArray[np.float64]
    projected: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Generator:
    """All images of one generator, layer by layer; `shifts` says how processings move a sample of them."""

    name: str
    layers: list[Layer]
    shifts: Mapping[str, Shift]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.layers[0].placement)

    def profile(self, rows: Rows) -> Profile:
        """The profile of some of the images; that of a set of its own would be the same."""
        chosen = np.isin(np.arange(self.images), rows)
        return Profile(
            Moments.of(np.stack([layer.placement[rows] for layer in self.layers], axis=1)),
            tuple(Moments.of(layer.projected[rows]) for layer in self.layers),
            np.array([merged_ct(layer.partition, layer.held_out, layer.release, chosen) for layer in self.layers]),
        )


def mnist_spec(data: Path, encoder: str, out: Path) -> AuditSpec:
    """14 MNIST generators, 500 images each."""
    return generator_spec(data, encoder, out)


def cifar_spec(data: Path, encoder: str, out: Path) -> AuditSpec:
    """14 CIFAR-10 generators, 64-144 images each, all images JPEG of quality 75."""
    images = out / "cifar10"
    for name in ("cifar10_train10k_test5k_jpeg", "cifar10_generated_extra14_q75"):
        if not (images / f".{name}").exists():
            with tarfile.open(data / f"{name}.tar.xz") as archive:
                archive.extractall(images, filter="data")
            (images / f".{name}").touch()
    names = sorted(path.name for path in images.iterdir() if path.is_dir() and path.name not in ("train", "test"))
    return AuditSpec.model_validate(
        {
            "store": str(out / f"cifar10-{re.sub(r'[^A-Za-z0-9]+', '-', encoder)[-40:]}"),
            "encoder": encoder_part(encoder, out),
            "reference": {"name": "cifar10", "train": str(images / "train"), "held_out": str(images / "test")},
            "releases": [{"name": name, "images": str(images / name)} for name in names],
        }
    )


@dataclass(frozen=True, eq=False)
class Material:
    """The generators, and what real images say."""

    generators: list[Generator]
    background: Background


@flow(name="load_generators", persist_result=False, validate_parameters=False)
def load_generators(spec: AuditSpec) -> Material:
    """Every release of a spec, embedded and searched by the pipeline (found in the store when it was before)."""
    with ProgressBoard() as board, running(board.report) as runtime:
        reference = built_reference(runtime, spec)
        store = open_store(spec.store)
        excluded = contaminated_rows(store, reference.tables.contaminated)
        generators = []
        for release in spec.releases:
            table = embed_set(runtime, spec, reference.facts, list_set(runtime, release.images), release.label)
            nearest = search_set(runtime, spec, reference, table, release.label)
            layers = []
            for number in reference.tables.layers:
                key = layer_key(reference.tables.partition, number, "npz")
                partition = StoredPartition.load(store, key).partition
                if not partition.informative:
                    continue
                held_out = NearestTable.load(store, layer_key(reference.tables.nearest, number, "parquet"))
                held_out = held_out.without(excluded)
                mine = NearestTable.load(store, layer_key(nearest, number, "parquet"))
                groups = held_out_groups(partition, held_out)
                placed = mean_placement(held_out.distance, groups[held_out.cell], mine.distance, groups[mine.cell])
                blocks = VectorStore(store).scan(table.name, table.version, layer_column(number))
                projected = np.concatenate([partition.project(x) for _, x in blocks])
                layers.append(Layer(partition, held_out, mine, placed.placement, projected))
            images = partial(list_set, runtime, release.images)
            shifts = process_release(runtime, spec, reference, table, nearest, images, release.label)
            generators.append(Generator(release.name, layers, _together(shifts)))
        background = process_reference(runtime, spec, reference, open_reference(runtime, spec).held_out)
        return Material(generators, background)


def _together(shifts: Sequence[Mapping[str, Shift]]) -> dict[str, Shift]:
    """Of all parts."""
    names = {name for one in shifts for name in one}
    return {name: reduce(Shift.merge, (one[name] for one in shifts if name in one)) for name in sorted(names)}
