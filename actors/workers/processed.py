"""How processings move embeddings: of a sample of a release's images, and of real images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.encoder.config import EncoderConfig
from actors.encoder.decode import UnreadableImageError, decode, harmonised, to_square
from actors.encoder.processing import PROCESSINGS, processed
from actors.workers.arrays import load_arrays, save_arrays
from actors.workers.embed import EmbedSettings, load_encoder
from actors.workers.nearest_table import NearestTable
from actors.workers.partition import StoredPartition
from scoring.attribution.background import Background, LayerBackground, Shift, layer_background
from scoring.attribution.profile import cut
from storage.errors import InputError
from storage.image_sets.image_ref import ImageRef, Kind
from storage.image_sets.open import open_reader
from storage.objects.open import ObjectMissingError, ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProcessBlock:
    """Images to embed as they are and after every processing.

    Attributes:
        store: The store.
        key: Where the projected embeddings go.
        set_uri: The set.
        kind: Its kind.
        rows: The images' rows in its manifest.
        images: The images.
        config: The encoder.
        settings: How a machine embeds.
        partitions: Layer → the key of its partition.
    """

    store: str
    key: str
    set_uri: str
    kind: Kind
    rows: tuple[int, ...]
    images: tuple[ImageRef, ...]
    config: EncoderConfig
    settings: EmbedSettings
    partitions: tuple[tuple[int, str], ...]


def process_block(task: ProcessBlock) -> None:
    """Embed a block; images that cannot be read are left out, as they are from the set's own table.

    Raises:
        InputError: The encoder cannot be loaded.
        StoreError: The images or the store cannot be read or written.
    """
    store, encoder = open_store(task.store), load_encoder(task.config, task.settings.device, task.settings.threads)
    reader = open_reader(task.set_uri, task.kind)
    layers = dict(_informative(store, task.partitions))
    rows: list[int] = []
    projected: dict[int, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
    for row, image in zip(task.rows, task.images, strict=True):
        try:
            original = decode(reader.read(image))
            versions = [original, *(processed(original, one) for one in PROCESSINGS.values())]
        except (UnreadableImageError, ObjectMissingError):
            continue
        again = [harmonised(version, task.config.harmonise) for version in versions]
        squares = [to_square(version.rgb, task.config.image_size, encoder.resample) for version in again]
        rows.append(row)
        for layer, x in encoder.embed(np.stack(squares)).items():
            if layer in layers:
                projected[layer].append(layers[layer].partition.project(x))
    shape = (0, 1 + len(PROCESSINGS))
    save_arrays(
        store,
        task.key,
        row=np.array(rows, np.int64),
        **{
            layer_column(layer): np.stack(x)
            if x
            else np.empty((*shape, len(layers[layer].partition.components)), np.float32)
            for layer, x in projected.items()
        },
    )


@dataclass(frozen=True, slots=True)
class JoinShifts:
    """The blocks of a release to join.

    Attributes:
        store: The store.
        key: Where the shifts go, or are.
        blocks: Keys of the blocks.
        nearest_key: Nearest distances of the release in any layer: they tell its images' rows.
        seed: Seed of its cut into parts.
    """

    store: str
    key: str
    blocks: tuple[str, ...]
    nearest_key: str
    seed: int


def join_shifts(task: JoinShifts) -> tuple[dict[str, Shift], ...]:
    """For each part of the release: processing → how it moved the mean of the part's sample."""
    store = open_store(task.store)
    if not store.exists(task.key):
        rows = np.sort(NearestTable.load(store, task.nearest_key).row)
        part = cut(len(rows), task.seed)
        blocks = [load_arrays(store, key) for key in task.blocks]
        sampled = np.concatenate([block["row"] for block in blocks])
        known = np.isin(sampled, rows)
        of_part = part[np.searchsorted(rows, sampled[known])]
        moved = {}
        for name in sorted(set(blocks[0]) - {"row"}):
            x = np.concatenate([block[name] for block in blocks])[known].astype(np.float64)
            steps = x[:, 1:] - x[:, :1]
            parts = range(int(part.max()) + 1)
            moved[name] = np.stack([steps[of_part == i].sum(axis=0) for i in parts])
        save_arrays(store, task.key, count=np.bincount(of_part, minlength=int(part.max()) + 1), **moved)
    arrays = load_arrays(store, task.key)
    count = arrays.pop("count")
    layers = [arrays[name] for name in sorted(arrays)]
    return tuple(
        {
            name: Shift(int(images), tuple(layer[part, v] / images for layer in layers))
            for v, name in enumerate(PROCESSINGS)
        }
        if images
        else {}
        for part, images in enumerate(count)
    )


@dataclass(frozen=True, slots=True)
class JoinBackground:
    """What real images say, to be learnt from a sample of the held-out table and its processed blocks.

    Attributes:
        store: The store.
        key: Where the background goes, or is.
        blocks: Keys of the processed blocks.
        table: Name and version of the held-out table.
        positions: Positions in it of the images whose covariance and contents count.
        partitions: Layer → the key of its partition; the cells of the last informative one tell contents apart.
    """

    store: str
    key: str
    blocks: tuple[str, ...]
    table: tuple[str, int]
    positions: tuple[int, ...]
    partitions: tuple[tuple[int, str], ...]


def join_background(task: JoinBackground) -> Background:
    """Learn the background, or load it.

    Raises:
        InputError: Fewer than two of the held-out images can be read.
    """
    store = open_store(task.store)
    if not store.exists(task.key):
        save_arrays(store, task.key, **_learnt(store, task))
    arrays = load_arrays(store, task.key)
    names = sorted({name.rpartition("/")[0] for name in arrays})
    layers = tuple(
        LayerBackground(
            covariance=arrays[f"{name}/covariance"],
            content=arrays[f"{name}/content"],
            processed=arrays[f"{name}/processed"],
            shifts=dict(zip(PROCESSINGS, arrays[f"{name}/shifts"], strict=True)),
        )
        for name in names
    )
    return Background(layers, tuple(PROCESSINGS))


def _learnt(store: ObjectStore, task: JoinBackground) -> dict[str, Floats]:
    blocks = [load_arrays(store, key) for key in task.blocks]
    if sum(len(block["row"]) for block in blocks) < 2:
        raise InputError("reference.held_out: hardly any of its images can be read", "look at the files of this set")
    vectors, positions = VectorStore(store), np.array(task.positions, np.int64)
    informative = list(_informative(store, task.partitions))
    last, deepest = informative[-1]
    _, x = vectors.take(*task.table, layer_column(last), positions)
    cell = deepest.partition.assign(deepest.partition.project(x))
    learnt: dict[str, Floats] = {}
    for layer, stored in informative:
        _, x = vectors.take(*task.table, layer_column(layer), positions)
        sample = np.concatenate([block[layer_column(layer)] for block in blocks])
        after = {name: sample[:, 1 + v] for v, name in enumerate(PROCESSINGS)}
        found = layer_background(stored.partition.project(x), cell, sample[:, 0], after)
        learnt |= {
            f"{layer_column(layer)}/covariance": found.covariance,
            f"{layer_column(layer)}/content": found.content,
            f"{layer_column(layer)}/processed": found.processed,
            f"{layer_column(layer)}/shifts": np.stack([found.shifts[name] for name in PROCESSINGS]),
        }
    return learnt


def _informative(store: ObjectStore, partitions: tuple[tuple[int, str], ...]) -> Iterator[tuple[int, StoredPartition]]:
    """The layers that carry information, with their partitions."""
    for layer, key in partitions:
        stored = StoredPartition.load(store, key)
        if stored.partition.informative:
            yield layer, stored
