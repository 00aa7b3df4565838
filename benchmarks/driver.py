"""What the driver of an audit spends on each image and shard: manifest, receipts, the one commit.

    python -m benchmarks.driver [--images 200000] [--shards 1000]

Receipts are listed and read from a real S3 server on this machine; the commit is of one real fragment, so many times.
"""

from __future__ import annotations

import io
import os
import tempfile
import time

import numpy as np
import pyarrow as pa
import typer
from PIL import Image

from actors.encoder.decode import decode, to_square
from benchmarks.line import machine
from storage.image_sets.image_ref import ImageRef
from storage.image_sets.manifest import Manifest, manifest_table
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import Receipt, VectorStore, embedding_schema, vector_array

LAYERS, DIMS, ROWS, SIDE, PHOTO = 13, 384, 4096, 112, 512


def main(images: int = 200_000, shards: int = 1000) -> None:
    """Print one figure a line, in the order of `benchmarks.cost_model.MEASURED`."""
    in_memory, in_store = manifest_bytes(images)
    with tempfile.TemporaryDirectory() as folder, EmbeddedS3(folder) as server:
        os.environ.update(server.environment())
        server.make_bucket("context")
        store = open_store("s3://context/store")
        bytes_a_row = fragment_bytes(store)
        reading = receipt_seconds(store, shards)
        commits = {n: commit_seconds(store, n) for n in (shards // 5, shards)}
    figures = {
        "manifest, bytes an image in memory": f"{in_memory:.0f}",
        "manifest, bytes an image in the store": f"{in_store:.0f}",
        f"embeddings, bytes an image ({LAYERS} layers × {DIMS})": f"{bytes_a_row:,.0f}",
        f"receipts, ms each to list and read ({shards:,})": f"{1e3 * reading:.2f}",
        **{f"one commit of {n:,} fragments, s": f"{seconds:.2f}" for n, seconds in commits.items()},
        f"JPEG of {PHOTO} px, ms of one core to decode and resize": f"{1e3 * decode_seconds():.2f}",
    }
    for name, value in figures.items():
        typer.echo(f"{name}: {value} [{machine()}]")


def manifest_bytes(images: int) -> tuple[float, float]:
    """Bytes an image of a manifest with keys of 30 characters: as the driver holds it, as the store does."""
    listed = (ImageRef(f"train/class-{i % 10:04d}/{i:09d}.png", 2000 + i % 999, f"{i:032x}") for i in range(images))
    manifest = Manifest("s3://context/train/", "objects", manifest_table("objects", listed))
    return manifest.table.nbytes / images, len(manifest.to_bytes()) / images


def fragment_bytes(store: ObjectStore) -> float:
    """Bytes a row of an embedding table's files."""
    vectors = VectorStore(store)
    schema = embedding_schema(dict.fromkeys(range(LAYERS), DIMS))
    vectors.create("bytes", schema)
    vectors.write_shard("bytes", rows(ROWS, DIMS, schema))
    return sum(info.size for info in store.list("vectors/bytes.lance/data/")) / ROWS


def rows(count: int, dims: int, schema: pa.Schema) -> pa.Table:
    """Rows of an embedding table of random vectors."""
    rng = np.random.default_rng(0)
    keys = pa.array([f"train/class-0001/{i:09d}.png" for i in range(count)])
    digests = pa.array([rng.bytes(32).hex() for _ in range(count)])
    facts = [
        pa.array(range(count)),
        keys,
        digests,
        pa.array(["PNG"] * count),
        *[pa.array([112] * count, pa.int32())] * 2,
    ]
    x = [vector_array(rng.standard_normal((count, dims), np.float32)) for _ in range(len(schema) - len(facts))]
    return pa.Table.from_arrays([*facts, *x], schema=schema)


def receipt_seconds(store: ObjectStore, shards: int) -> float:
    """Seconds a receipt to list and read all of them, as the driver does before its commit."""
    vectors = VectorStore(store)
    for shard in range(shards):
        fragment = '{"id": 0, "files": [{"path": "' + "0" * 40 + '.lance", "fields": [0, 1, 2, 3, 4, 5, 6, 7]}]}'
        vectors.leave_receipt(
            "receipts/x", Receipt(shard, ROWS, [fragment], [], {"PNG": ROWS}, {"112×112": ROWS}, 0, 1.0)
        )
    began = time.monotonic()
    found = vectors.receipts("receipts/x")
    return (time.monotonic() - began) / len(found)


def commit_seconds(store: ObjectStore, fragments: int) -> float:
    """Seconds of the commit of a table with so many fragments."""
    vectors, schema, name = VectorStore(store), embedding_schema({0: 4}), f"commit-{fragments}"
    vectors.create(name, schema)
    written = vectors.write_shard(name, rows(8, 4, schema))
    receipts = [Receipt(shard, 8, written, [], {"PNG": 8}, {"112×112": 8}, 0, 1.0) for shard in range(fragments)]
    began = time.monotonic()
    vectors.commit(name, schema, receipts)
    return time.monotonic() - began


def decode_seconds(times: int = 200) -> float:
    """Seconds of one core from the bytes of a photograph-like JPEG to the encoder's pixels."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (PHOTO // 8, PHOTO // 8, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize((PHOTO, PHOTO), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    data = file.getvalue()
    began = time.process_time()
    for _ in range(times):
        to_square(decode(data).rgb, SIDE, Image.Resampling.BICUBIC)
    return (time.process_time() - began) / times


if __name__ == "__main__":
    typer.run(main)
