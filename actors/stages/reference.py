"""The stages of a reference, layer by layer: partition, contamination, checks.

They work as those of `actors.stages.embed` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from actors.stages.context import StageContext
from actors.stages.search import plan_search, run_search, sample_missing, search
from actors.workers.contamination import FindContamination, find_contamination, load_contaminated
from actors.workers.partition import FitLayer, fit_layer
from actors.workers.reference_checks import (
    CheckName,
    CheckReference,
    load_checks,
    run_reference_check,
    save_checks,
)
from actors.workers.search import Metric
from scoring.checks.check import Check
from scoring.nearest.search_plan import SearchMode, search_mode
from storage import layout
from storage.layout import keys_under, layer_key
from storage.objects.open import ObjectStore
from storage.seal import parse_json, read_sealed, sealed_json
from storage.vectors.tables import EmbeddingTable

LEFT_OUT_SHARE = 5
"""At most one training image in this many is left out, to compare training with held-out images."""

LEFT_OUT_IMAGES = 2000

CELLS_FIT = 3
"""Version of the fit of cells: another fit is another partition. Since 2, k-means starts on a sample of a large
training set; since 3, on one of half that size."""


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """Settings of a partition and its index, besides the training images and the encoder."""

    components: int
    cells: int
    seed: int
    search: SearchMode = "in_cell"


@dataclass(frozen=True, slots=True)
class ReferenceTables:
    """A finished reference: its tables, and prefixes or keys in the store.

    Attributes:
        layers: Layer numbers, first layer first.
        train: Embedding table of the training images.
        held_out: Embedding table of the held-out images.
        partition: Prefix of the partitions.
        nearest: Prefix of the held-out images' nearest distances.
        contaminated: Key of the list of held-out images that are not used.
        contaminated_images: Their number.
        metric: The distance.
        search: Whether the nearest training image is that of the cell or of all.
        seed: Seed of partition, permutations and samples.
    """

    layers: tuple[int, ...]
    train: EmbeddingTable
    held_out: EmbeddingTable
    partition: str
    nearest: str
    contaminated: str
    contaminated_images: int
    metric: Metric
    search: SearchMode
    seed: int

    @property
    def held_out_images(self) -> int:
        """Number of held-out images in use, n."""
        return self.held_out.rows - self.contaminated_images


# -- partition -----------------------------------------------------------------------------------------------


def partition_prefix(train: EmbeddingTable, settings: PartitionSettings) -> str:
    """Where the partition of a train table lives."""
    return layout.partition_prefix(train.name, **asdict(settings), fit=CELLS_FIT)


def settled_search(
    store: ObjectStore,
    train: EmbeddingTable,
    held_out: EmbeddingTable,
    asked: Literal["auto", "in_cell", "global"],
    preset: str,
    components: int,
    cells: int,
) -> SearchMode:
    """The search mode of a reference. ``auto`` is decided once, and the decision kept in the store.

    So a later version with another cost model still searches later releases like the earlier ones.
    """
    chosen = search_mode(asked, preset, train.rows, held_out.rows, components, cells)
    if asked != "auto" or preset != "default":
        return chosen
    key = layout.search_mode_key(train.name, components, cells)
    if not store.exists(key):
        counts = {"train_images": train.rows, "held_out_images": held_out.rows}
        store.put_if_absent(key, sealed_json({"search": chosen, **counts}))
    return "global" if read_sealed(store, key, lambda data: parse_json(data)["search"]) == "global" else "in_cell"


def fit_partitions(
    context: StageContext, train: EmbeddingTable, layers: Sequence[int], settings: PartitionSettings
) -> str:
    """Fit PCA, cells and index of every layer on the training images, once; returns their prefix in the store."""
    prefix = partition_prefix(train, settings)
    tasks = [
        FitLayer(
            store=context.store.uri,
            table=train.name,
            version=train.version,
            layer=layer,
            components=settings.components,
            cells=settings.cells,
            seed=settings.seed,
            key=layer_key(prefix, layer, "npz"),
            index_table=layout.index_table(prefix, layer),
            search=settings.search,
        )
        for layer in layers
    ]
    existing = keys_under(context.store, prefix)
    missing = [task for task in tasks if task.key not in existing]
    context.run("layers", fit_layer, missing, "partition train", len(tasks) - len(missing))
    return prefix


# -- reference -----------------------------------------------------------------------------------------------


def finish_reference(
    context: StageContext,
    tables: tuple[EmbeddingTable, EmbeddingTable],
    layers: Sequence[int],
    settings: PartitionSettings,
    metric: Metric,
) -> ReferenceTables:
    """Turn the embedded training and held-out images into a reference that releases are scored against."""
    train, held_out = tables
    partition = fit_partitions(context, train, layers, settings)
    nearest = search(context, held_out, layers, partition, metric, settings.search, "held-out")
    key = layout.contaminated_key(nearest)
    task = FindContamination(
        store=context.store.uri,
        train=train.name,
        train_version=train.version,
        held_out=held_out.name,
        held_out_version=held_out.version,
        nearest_keys=tuple(layer_key(nearest, layer, "parquet") for layer in layers),
        key=key,
    )
    if not context.store.exists(key):
        context.run_one(find_contamination, task)
    count = len(load_contaminated(context.store, key))
    return ReferenceTables(
        layers=tuple(layers),
        train=train,
        held_out=held_out,
        partition=partition,
        nearest=nearest,
        contaminated=key,
        contaminated_images=count,
        metric=metric,
        search=settings.search,
        seed=settings.seed,
    )


def check_reference(context: StageContext, reference: ReferenceTables) -> list[Check]:
    """The checks of a reference, computed once (docs/method.md: "What makes an audit valid")."""
    key = layout.checks_key(reference.nearest, reference.seed)
    if not context.store.exists(key):
        left_out = _search_left_out(context, reference) if reference.metric == "euclidean" else None
        names: list[CheckName] = ["random halves", "ordered halves"]
        if left_out:
            names.append("train likeness")
        tasks = [
            CheckReference(
                store=context.store.uri,
                check=name,
                layers=reference.layers,
                held_out_keys=tuple(layer_key(reference.nearest, layer, "parquet") for layer in reference.layers),
                left_out_keys=tuple(layer_key(left_out, k, "parquet") for k in reference.layers) if left_out else (),
                contaminated_key=reference.contaminated,
                seed=reference.seed,
            )
            for name in names
        ]
        checks = context.run_all(run_reference_check, tasks)
        save_checks(context.store, key, (check for check in checks if check is not None))
    return load_checks(context.store, key)


def _search_left_out(context: StageContext, reference: ReferenceTables) -> str:
    """Search a sample of training images, each left out of the training set; returns the prefix of the distances."""
    train = reference.train
    size = min(LEFT_OUT_IMAGES, train.rows // LEFT_OUT_SHARE)
    sample = np.random.default_rng(reference.seed).choice(train.rows + len(train.rejects), size, replace=False)
    plan = plan_search(context.store, train, reference.layers, reference.partition, reference.metric, reference.search)
    held_out = plan_search(
        context.store, reference.held_out, reference.layers, reference.partition, reference.metric, reference.search
    )
    if reference.search == "global":
        sample_missing(context, reference.nearest, held_out, reference.held_out.rows, "held-out", of_searched=True)
    prefix = layout.left_out_prefix(train.name, reference.partition, size, reference.seed)
    tasks = [
        replace(
            task,
            key=layer_key(prefix, task.layer, "parquet"),
            sample_key=like.sample_key,  # as many probes as the held-out images that they are compared with
            left_out=tuple(sorted(sample.tolist())),
        )
        for task, like in zip(plan, held_out, strict=True)
    ]
    run_search(context, prefix, tasks, train.rows, "left-out train")
    return prefix
