"""The stages of a reference, a layer at a time: partition, search (of releases too), contamination, checks.

They work as those of `actors.stages` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from actors.contaminated import Decontaminator, FindContamination, load_contaminated
from actors.joiner import (
    CheckReference,
    ReferenceChecker,
    load_checks,
)
from actors.partitioner import FitLayer, Partitioner
from actors.searcher import Metric, Searcher, SearchLayer
from actors.workbench import Workbench
from scoring.check import Check
from storage.digest import digest, short
from storage.objects import ObjectStore
from storage.vectors import EmbeddingTable

T = TypeVar("T")

LEFT_OUT_SHARE = 5
"""One train image in so many, at most, is left out of train to compare train with held-out images."""

LEFT_OUT_IMAGES = 2000


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """What decides a partition, besides the train images and the encoder."""

    components: int
    cells: int
    seed: int


@dataclass(frozen=True, slots=True)
class ReferenceTables:
    """A reference as its stages made it: tables, and prefixes or keys in the store.

    Attributes:
        layers: Layer numbers, first layer first.
        train: Embedding table of the train images.
        held_out: Embedding table of the held-out images.
        partition: Prefix of the partitions.
        nearest: Prefix of the held-out images' nearest distances.
        contaminated: Key of the list of held-out images that are not used.
        contaminated_images: Their number.
        metric: The distance.
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
    seed: int

    @property
    def held_out_images(self) -> int:
        """Held-out images in use, n."""
        return self.held_out.rows - self.contaminated_images


# -- partition -----------------------------------------------------------------------------------------------


def partition_prefix(train: EmbeddingTable, settings: PartitionSettings) -> str:
    """Where the partition of a train table lives."""
    code = digest(train=train.name, components=settings.components, cells=settings.cells, seed=settings.seed)
    return f"partitions/{short(code)}"


def layer_key(prefix: str, layer: int, suffix: str) -> str:
    """The object of one layer under a prefix.

    >>> layer_key("nearest/ab", 3, "parquet")
    'nearest/ab/layer_03.parquet'
    """
    return f"{prefix}/layer_{layer:02d}.{suffix}"


def fit_partitions(bench: Workbench, train: EmbeddingTable, layers: Sequence[int], settings: PartitionSettings) -> str:
    """PCA, cells and index of every layer, fitted on train once; returns their prefix in the store."""
    prefix = partition_prefix(train, settings)
    tasks = [
        FitLayer(
            store=bench.store.uri,
            table=train.name,
            version=train.version,
            layer=layer,
            components=settings.components,
            cells=settings.cells,
            seed=settings.seed,
            key=layer_key(prefix, layer, "npz"),
            index_table=f"train-{prefix.rpartition('/')[2]}-layer_{layer:02d}",
        )
        for layer in layers
    ]
    missing = _missing(bench.store, prefix, tasks)
    bench.run("layers", Partitioner(), missing, "partition train", len(tasks) - len(missing))
    return prefix


# -- search --------------------------------------------------------------------------------------------------


def plan_search(
    store: ObjectStore, table: EmbeddingTable, layers: Sequence[int], partition: str, metric: Metric
) -> list[SearchLayer]:
    """One search per layer."""
    prefix = f"nearest/{short(digest(table=table.name, partition=partition, metric=metric))}"
    return [
        SearchLayer(
            store=store.uri,
            table=table.name,
            version=table.version,
            layer=layer,
            partition_key=layer_key(partition, layer, "npz"),
            metric=metric,
            key=layer_key(prefix, layer, "parquet"),
        )
        for layer in layers
    ]


def search(
    bench: Workbench, table: EmbeddingTable, layers: Sequence[int], partition: str, metric: Metric, label: str
) -> str:
    """The nearest distances of a set in every layer; returns their prefix in the store."""
    tasks = plan_search(bench.store, table, layers, partition, metric)
    prefix = tasks[0].key.rpartition("/")[0]
    run_search(bench, prefix, tasks, f"search {label}")
    return prefix


def run_search(bench: Workbench, prefix: str, tasks: Sequence[SearchLayer], stage: str) -> None:
    """Search the layers that are not there yet."""
    missing = _missing(bench.store, prefix, tasks)
    bench.run("layers", Searcher(), missing, stage, len(tasks) - len(missing))


def _missing(store: ObjectStore, prefix: str, tasks: Sequence[T]) -> list[T]:
    there = {info.key for info in store.list(prefix + "/")}
    return [task for task in tasks if getattr(task, "key") not in there]  # noqa: B009


# -- reference -----------------------------------------------------------------------------------------------


def finish_reference(
    bench: Workbench,
    tables: tuple[EmbeddingTable, EmbeddingTable],
    layers: Sequence[int],
    settings: PartitionSettings,
    metric: Metric,
) -> ReferenceTables:
    """From the embedded train and held-out images to a reference that releases can be scored against."""
    train, held_out = tables
    partition = fit_partitions(bench, train, layers, settings)
    nearest = search(bench, held_out, layers, partition, metric, "held-out")
    key = f"contaminated/{nearest.rpartition('/')[2]}.json"
    task = FindContamination(
        store=bench.store.uri,
        train=train.name,
        train_version=train.version,
        held_out=held_out.name,
        held_out_version=held_out.version,
        nearest_keys=tuple(layer_key(nearest, layer, "parquet") for layer in layers),
        key=key,
    )
    if not bench.store.exists(key):
        bench.run_one(Decontaminator(), task)
    count = len(load_contaminated(bench.store, key))
    return ReferenceTables(tuple(layers), train, held_out, partition, nearest, key, count, metric, settings.seed)


def check_reference(bench: Workbench, reference: ReferenceTables) -> list[Check]:
    """Whether the held-out images can stand for unseen ones (METHOD §3); computed once per reference."""
    key = f"checks/{short(digest(nearest=reference.nearest, seed=reference.seed))}.json"
    if not bench.store.exists(key):
        left_out = _search_left_out(bench, reference) if reference.metric == "euclidean" else None
        task = CheckReference(
            store=bench.store.uri,
            layers=reference.layers,
            held_out_keys=tuple(layer_key(reference.nearest, layer, "parquet") for layer in reference.layers),
            left_out_keys=tuple(layer_key(left_out, k, "parquet") for k in reference.layers) if left_out else (),
            contaminated_key=reference.contaminated,
            seed=reference.seed,
            key=key,
        )
        bench.run_one(ReferenceChecker(), task)
    return load_checks(bench.store, key)


def _search_left_out(bench: Workbench, reference: ReferenceTables) -> str:
    """Nearest distances of a sample of train images, each left out of train; returns their prefix."""
    train = reference.train
    size = min(LEFT_OUT_IMAGES, train.rows // LEFT_OUT_SHARE)
    sample = np.random.default_rng(reference.seed).choice(train.rows + len(train.rejects), size, replace=False)
    code = digest(train=train.name, partition=reference.partition, left_out=size, seed=reference.seed)
    plan = plan_search(bench.store, train, reference.layers, reference.partition, reference.metric)
    prefix = f"nearest/{short(code)}"
    tasks = [
        replace(task, key=layer_key(prefix, task.layer, "parquet"), left_out=tuple(sorted(sample.tolist())))
        for task in plan
    ]
    run_search(bench, prefix, tasks, "search left-out train")
    return prefix
