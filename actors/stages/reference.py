"""The stages of a reference, a layer at a time: partition, contamination, checks.

They work as those of `actors.stages.embed` do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from actors.stages.context import Workbench, keys_under, layer_key
from actors.stages.search import plan_search, run_search, search
from actors.workers.contamination import Decontaminator, FindContamination, load_contaminated
from actors.workers.partition import FitLayer, Partitioner
from actors.workers.reference_checks import CheckName, CheckReference, ReferenceChecker, load_checks, save_checks
from actors.workers.search import Metric
from scoring.checks.check import Check
from scoring.nearest.search_plan import SearchMode, search_mode
from storage.digest import digest, short
from storage.objects.open import ObjectStore
from storage.vectors.tables import EmbeddingTable

LEFT_OUT_SHARE = 5
"""One train image in so many, at most, is left out of train to compare train with held-out images."""

LEFT_OUT_IMAGES = 2000

CELLS_FIT = 3
"""How cells are fitted. 2: of a large train set k-means starts on a sample, 3: of half the size. Another fit is another
partition."""


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """What decides a partition and its index, besides the train images and the encoder."""

    components: int
    cells: int
    seed: int
    search: SearchMode = "in_cell"


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
        search: Which nearest train image the distances are to.
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
        """Held-out images in use, n."""
        return self.held_out.rows - self.contaminated_images


# -- partition -----------------------------------------------------------------------------------------------


def partition_prefix(train: EmbeddingTable, settings: PartitionSettings) -> str:
    """Where the partition of a train table lives."""
    code = digest(
        train=train.name,
        components=settings.components,
        cells=settings.cells,
        seed=settings.seed,
        search=settings.search,
        fit=CELLS_FIT,
    )
    return f"partitions/{short(code)}"


def settled_search(
    store: ObjectStore,
    train: EmbeddingTable,
    held_out: EmbeddingTable,
    asked: Literal["auto", "in_cell", "global"],
    preset: str,
    components: int,
    cells: int,
) -> SearchMode:
    """The search mode of a reference. What ``auto`` comes to is decided once, and then stands in the store.

    A layerprint with another idea of costs then still searches later releases as it did the earlier ones.
    """
    chosen = search_mode(asked, preset, train.rows, held_out.rows, components, cells)
    if asked != "auto" or preset != "default":
        return chosen
    key = f"searches/{short(digest(train=train.name, components=components, cells=cells))}.json"
    if not store.exists(key):
        store.put_if_absent(
            key, json.dumps({"search": chosen, "train_images": train.rows, "held_out_images": held_out.rows}).encode()
        )
    return "global" if json.loads(store.get(key))["search"] == "global" else "in_cell"


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
            search=settings.search,
        )
        for layer in layers
    ]
    there = keys_under(bench.store, prefix)
    missing = [task for task in tasks if task.key not in there]
    bench.run("layers", Partitioner(), missing, "partition train", len(tasks) - len(missing))
    return prefix


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
    nearest = search(bench, held_out, layers, partition, metric, settings.search, "held-out")
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


def check_reference(bench: Workbench, reference: ReferenceTables) -> list[Check]:
    """The checks of a reference, computed once (docs/method.md: "What makes an audit valid")."""
    key = f"checks/{short(digest(nearest=reference.nearest, seed=reference.seed))}.json"
    if not bench.store.exists(key):
        left_out = _search_left_out(bench, reference) if reference.metric == "euclidean" else None
        names: list[CheckName] = ["random halves", "ordered halves"]
        if left_out:
            names.append("train likeness")
        tasks = [
            CheckReference(
                store=bench.store.uri,
                check=name,
                layers=reference.layers,
                held_out_keys=tuple(layer_key(reference.nearest, layer, "parquet") for layer in reference.layers),
                left_out_keys=tuple(layer_key(left_out, k, "parquet") for k in reference.layers) if left_out else (),
                contaminated_key=reference.contaminated,
                seed=reference.seed,
            )
            for name in names
        ]
        made = bench.run_all(ReferenceChecker(), tasks)
        save_checks(bench.store, key, (check for check in made if check is not None))
    return load_checks(bench.store, key)


def _search_left_out(bench: Workbench, reference: ReferenceTables) -> str:
    """Nearest distances of a sample of train images, each left out of train; returns their prefix."""
    train = reference.train
    size = min(LEFT_OUT_IMAGES, train.rows // LEFT_OUT_SHARE)
    sample = np.random.default_rng(reference.seed).choice(train.rows + len(train.rejects), size, replace=False)
    code = digest(train=train.name, partition=reference.partition, left_out=size, seed=reference.seed)
    plan = plan_search(bench.store, train, reference.layers, reference.partition, reference.metric, reference.search)
    held_out = plan_search(
        bench.store, reference.held_out, reference.layers, reference.partition, reference.metric, reference.search
    )
    prefix = f"nearest/{short(code)}"
    tasks = [
        replace(
            task,
            key=layer_key(prefix, task.layer, "parquet"),
            sample_key=like.sample_key,  # searched with as many probes as the held-out images they are compared with
            left_out=tuple(sorted(sample.tolist())),
        )
        for task, like in zip(plan, held_out, strict=True)
    ]
    run_search(bench, prefix, tasks, train.rows, "left-out train")
    return prefix
