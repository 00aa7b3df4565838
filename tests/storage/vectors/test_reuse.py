from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.image_sets.image_ref import ImageRef
from storage.image_sets.manifest import Manifest, manifest_table
from storage.objects.open import ObjectStore, open_store
from storage.vectors.reuse import EarlierTable, recall, remember, unchanged_rows
from storage.vectors.tables import Receipt, VectorStore, embedding_schema, vector_array, vector_matrix

Images = dict[str, str]


def manifest(images: Images) -> Manifest:
    """A set of objects, key → etag."""
    rows = [ImageRef(key, 10, etag) for key, etag in sorted(images.items())]
    return Manifest("s3://x/set", "objects", manifest_table("objects", rows))


def committed(store: ObjectStore, listed: Manifest, rejects: set[str], name: str = "t") -> EarlierTable:
    """A table in which the vector of an image is the number in its etag."""
    vectors, schema = VectorStore(store), embedding_schema({0: 2, 3: 1})
    vectors.create(name, schema)
    receipts = []
    for shard in listed.shards(7):
        kept = [
            (row, image)
            for row, image in enumerate(listed.images(shard.start, shard.stop), shard.start)
            if image.key not in rejects
        ]
        x = np.array([[float(image.etag)] * 2 for _, image in kept], np.float32).reshape(-1, 2)
        n = len(kept)
        facts = [
            pa.array([row for row, _ in kept], pa.int64()),
            pa.array([image.key for _, image in kept], pa.string()),
        ]
        facts += [pa.array(["s"] * n, pa.string()), pa.array(["PNG"] * n, pa.string())]
        facts += [pa.array([8] * n, pa.int32())] * 2
        table = pa.Table.from_arrays([*facts, vector_array(x), vector_array(x[:, :1])], schema=schema)
        receipts.append(Receipt(shard.index, n, vectors.write_shard(name, table), [], {}, {}, 0, 0.0))
    return EarlierTable("manifests/m.parquet", name, vectors.commit(name, schema, receipts).version)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


def test_unchanged_images_are_found_wherever_they_moved(store: ObjectStore) -> None:
    rng = random.Random(0)
    before = {f"{key:03d}": str(key) for key in rng.sample(range(100), 60)}
    rejects = set(rng.sample(sorted(before), 9))
    earlier = committed(store, manifest(before), rejects)
    for _ in range(20):
        now = {key: etag for key, etag in before.items() if rng.random() < 0.9}
        now |= {f"{key:03d}": str(1000 + key) for key in rng.sample(range(100), 10)}  # new ones, and changed ones
        listed = manifest(now)
        for shard in listed.shards(11):
            rows = unchanged_rows(
                VectorStore(store), earlier, manifest(before), listed, shard.start, shard.stop
            ).to_pylist()
            expected = [
                (row, image.key, float(image.etag))
                for row, image in enumerate(listed.images(shard.start, shard.stop), shard.start)
                if before.get(image.key) == image.etag and image.key not in rejects
            ]
            assert [(row["row"], row["key"], row["layer_00"][1]) for row in rows] == expected


def test_nothing_in_common(store: ObjectStore) -> None:
    before, now = manifest({"a": "1", "b": "2"}), manifest({"a": "3", "c": "2", "d": "4"})
    earlier = committed(store, before, set())
    found = unchanged_rows(VectorStore(store), earlier, before, now, 0, 3)
    assert found.num_rows == 0
    assert found.cast(embedding_schema({0: 2, 3: 1})).num_rows == 0


def test_the_same_bytes_under_another_key_or_size_do_not_count(store: ObjectStore) -> None:
    before = manifest({"a": "1"})
    earlier = committed(store, before, set())
    larger = Manifest("", "objects", manifest_table("objects", [ImageRef("a", 11, "1")]))
    assert unchanged_rows(VectorStore(store), earlier, before, larger, 0, 1).num_rows == 0
    assert unchanged_rows(VectorStore(store), earlier, before, manifest({"b": "1"}), 0, 1).num_rows == 0


def test_the_vectors_are_those_of_the_table(store: ObjectStore) -> None:
    before = manifest({f"{i:02d}": str(i) for i in range(20)})
    earlier = committed(store, before, {"03"})
    rows = unchanged_rows(VectorStore(store), earlier, before, before, 0, 20)
    expected = [float(i) for i in range(20) if i != 3]
    assert vector_matrix(rows["layer_03"])[:, 0].tolist() == expected
    assert rows == VectorStore(store).dataset("t", earlier.version).to_table()


def test_the_last_table_of_a_set_is_remembered(store: ObjectStore) -> None:
    earlier = committed(store, manifest({"a": "1"}), set())
    remember(store, "encoder", "s3://x/set", earlier)
    assert recall(store, "encoder", "s3://x/set") is None  # its manifest is not there
    store.put(earlier.manifest_key, b"x")
    assert recall(store, "encoder", "s3://x/set") == earlier
    assert recall(store, "other", "s3://x/set") is None
    assert recall(store, "encoder", "s3://x/other") is None
    remember(store, "encoder", "s3://x/set", replace(earlier, table="never committed"))
    assert recall(store, "encoder", "s3://x/set") is None
