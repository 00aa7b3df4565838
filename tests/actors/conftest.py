"""Small encoders and small pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from actors.encoder.config import EncoderConfig
from actors.encoder.model import Encoder
from actors.workers.partition import FitLayer, StoredPartition, fit_layer
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable, Receipt, VectorStore, embedding_schema, vector_array

TINY = EncoderConfig(model="test_vit", weights="random", image_size=32)
"""64 dimensions, 6 blocks, patches of 16 pixels."""


def pictures(n: int, size: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Random patterns, smooth and rough, (n, size, size, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    smooth = [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse]
    noise = rng.integers(-20, 21, (n, size, size, 3))
    return (np.stack(smooth).astype(np.int64) + noise).clip(0, 255).astype(np.uint8)


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a file."""
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def embedding_table(store: ObjectStore, name: str, layers: dict[int, NDArray[np.float32]]) -> EmbeddingTable:
    """A committed table of given embeddings, layer → (n, d), in two shards."""
    vectors, schema = VectorStore(store), embedding_schema({k: x.shape[1] for k, x in layers.items()})
    vectors.create(name, schema)
    n = len(next(iter(layers.values())))
    receipts = []
    for shard, rows in enumerate(np.array_split(np.arange(n), 2)):
        facts = [pa.array(rows), pa.array([str(row) for row in rows]), *[pa.array(["x"] * len(rows))] * 2]
        facts += [pa.array([8] * len(rows), pa.int32())] * 2
        columns = [vector_array(x[rows].astype(np.float32)) for x in layers.values()]
        table = pa.Table.from_arrays(facts + columns, schema=schema)
        receipts.append(Receipt(shard, len(rows), vectors.write_shard(name, table), [], {}, {}, 0, 0.0))
    return vectors.commit(name, schema, receipts)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Torch uses one thread: the images are small, and the cores are shared with Ray."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Encoder:
    """The encoder of `TINY`."""
    return Encoder(TINY)


@dataclass(frozen=True)
class Lab:
    """A reference and a release as embeddings: train, held_out, and a release with copies of train.

    ``arrays`` is set → layer → (n, d). Layer 0 is constant; the partition of layer k is at `partition_key`.
    """

    store: ObjectStore
    arrays: dict[str, dict[int, NDArray[np.float32]]]
    tables: dict[str, EmbeddingTable]

    def partition_key(self, layer: int) -> str:
        return f"partition/layer_{layer:02d}.npz"

    def stored(self, layer: int) -> StoredPartition:
        return StoredPartition.load(self.store, self.partition_key(layer))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A `Lab` in a folder, partitioned into 3 cells of 6 components."""
    store = open_store(str(tmp_path_factory.mktemp("lab")))
    rng = np.random.default_rng(0)
    sizes, copies = {"train": 200, "held_out": 120, "release": 110}, 40
    arrays: dict[str, dict[int, NDArray[np.float32]]] = {
        name: {0: np.full((n, 4), 2.5, np.float32)} for name, n in sizes.items()
    }
    for layer in (1, 2):
        places = rng.normal(scale=3, size=(4, 10))
        for name, n in sizes.items():
            x = places[rng.integers(0, 4, n)] + rng.normal(size=(n, 10))
            arrays[name][layer] = x.astype(np.float32)
        near = arrays["train"][layer][:copies] + rng.normal(scale=0.02, size=(copies, 10))
        near[:5] = arrays["train"][layer][:5]
        arrays["release"][layer][:copies] = near
    tables = {name: embedding_table(store, name, layers) for name, layers in arrays.items()}
    made = Lab(store, arrays, tables)
    train = tables["train"]
    for layer in (0, 1, 2):
        key = made.partition_key(layer)
        fit_layer(FitLayer(store.uri, train.name, train.version, layer, 6, 3, 0, key, f"index-{layer}"))
    return made
