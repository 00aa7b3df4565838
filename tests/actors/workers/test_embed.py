from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from actors.encoder.config import EncoderFacts
from actors.encoder.decode import decode, to_square
from actors.encoder.model import Encoder
from actors.workers.embed import EmbedSettings, EmbedShard, describe_encoder, embed_shard, load_encoder
from storage.digest import short
from storage.errors import StageError, StoreError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import Receipt, VectorStore, embedding_schema, vector_matrix
from tests.actors.conftest import TINY, pictures, png
from tests.processes import wait_until


def _jpeg(seed: int, width: int, height: int) -> bytes:
    sink = io.BytesIO()
    picture = Image.fromarray(pictures(1, max(width, height), seed)[0][:height, :width])
    picture.save(sink, "JPEG", quality=60 + seed)
    return sink.getvalue()


IMAGES = {f"{i:02d}.png": png(picture) for i, picture in enumerate(pictures(20, 40))} | {
    f"j/{i}.jpg": _jpeg(i, 30 + i, 50) for i in range(5)
}
BROKEN = {"03b.png": b"", "17b.jpg": b"no image", "j/2b.jpg": IMAGES["j/2.jpg"][:300], "zz.webp": b"RIFF"}


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """The audit's store."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def images(tmp_path: Path) -> ObjectStore:
    """A folder of readable and broken files."""
    folder = open_store(str(tmp_path / "images"))
    for key, content in (IMAGES | BROKEN).items():
        folder.put(key, content)
    return folder


def _embed(
    store: ObjectStore, manifest: Manifest, shard_size: int, facts: EncoderFacts, **settings: Any
) -> tuple[list[Receipt], pa.Table]:
    """Embed all shards into a new table; the receipts, and the rows in the order of their numbers."""
    name = f"t{shard_size}-{settings.get('batch_size')}-{short(manifest.digest)}"
    key = f"manifests/{short(manifest.digest)}.parquet"
    store.put_if_absent(key, manifest.to_bytes())
    vectors = VectorStore(store)
    vectors.create(name, embedding_schema(facts.dims))
    receipts = [
        embed_shard(
            EmbedShard(
                store=store.uri,
                table=name,
                receipts=f"receipts/{name}",
                manifest_key=key,
                set_uri=manifest.uri,
                kind=manifest.kind,
                index=shard.index,
                start=shard.start,
                stop=shard.stop,
                config=TINY,
                encoder_digest=facts.digest,
                settings=EmbedSettings(**settings),
            )
        )
        for shard in manifest.shards(shard_size)
    ]
    assert vectors.receipts(f"receipts/{name}") == {receipt.shard: receipt for receipt in receipts}
    table = vectors.commit(name, embedding_schema(facts.dims), receipts)
    return receipts, vectors.dataset(name, table.version).to_table().sort_by("row")


def test_rows_are_the_readable_images_in_order(store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
    manifest = list_images(images.uri)
    receipts, rows = _embed(store, manifest, 10, tiny.facts, batch_size=4)
    listed = sorted(IMAGES | BROKEN)
    assert rows["key"].to_pylist() == sorted(IMAGES)
    assert rows["row"].to_pylist() == [listed.index(key) for key in sorted(IMAGES)]
    for row in rows.to_pylist():
        content = IMAGES[row["key"]]
        image = Image.open(io.BytesIO(content))
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert (row["width"], row["height"]) == image.size
        assert row["codec"] == (f"JPEG q6{row['key'][2]} 4:2:0" if row["key"].startswith("j/") else "PNG")
    assert [receipt.shard for receipt in receipts] == [0, 1, 2]
    assert sum(receipt.bytes_read for receipt in receipts) == sum(map(len, (IMAGES | BROKEN).values()))
    assert sum(receipt.sizes.get("40×40", 0) for receipt in receipts) == 20
    assert sum(receipt.codecs.get("PNG", 0) for receipt in receipts) == 20


def test_embeddings_are_those_of_the_encoder(store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
    _, rows = _embed(store, list_images(images.uri), 10, tiny.facts, batch_size=4)
    squares = [to_square(decode(IMAGES[key]).rgb, 32, Image.Resampling.BICUBIC) for key in rows["key"].to_pylist()]
    expected = tiny.embed(np.stack(squares))
    for layer in range(7):
        assert np.abs(vector_matrix(rows[f"layer_{layer:02d}"]) - expected[layer]).max() <= 1e-5


def test_unreadable_images_are_recorded_with_their_reason(
    store: ObjectStore, images: ObjectStore, tiny: Encoder
) -> None:
    receipts, rows = _embed(store, list_images(images.uri), 7, tiny.facts, batch_size=4)
    rejects = {reject["key"]: reject["reason"] for receipt in receipts for reject in receipt.rejects}
    assert sorted(rejects) == sorted(BROKEN)
    assert "0 bytes" in rejects["03b.png"]
    assert "not a png" in rejects["17b.jpg"]
    assert "runcated" in rejects["j/2b.jpg"]
    assert rows.num_rows + len(rejects) == len(IMAGES | BROKEN)


def test_a_shard_of_broken_images_alone(store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
    for key in IMAGES:
        images.delete(key)
    (receipt,), rows = _embed(store, list_images(images.uri), 10, tiny.facts)
    assert (receipt.rows, receipt.fragments, len(receipt.rejects)) == (0, [], len(BROKEN))
    assert rows.num_rows == 0


def test_embeddings_do_not_depend_on_shards_and_batches(store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
    manifest = list_images(images.uri)
    _, expected = _embed(store, manifest, 100, tiny.facts)
    for shard_size, batch_size, readers in ((1, 8, 1), (7, 1, 3), (8, 3, 8), (29, 4, 2)):
        _, rows = _embed(store, manifest, shard_size, tiny.facts, batch_size=batch_size, readers=readers)
        assert rows.select(["row", "key", "sha256"]) == expected.select(["row", "key", "sha256"])
        for layer in range(7):
            name = f"layer_{layer:02d}"
            assert np.abs(vector_matrix(rows[name]) - vector_matrix(expected[name])).max() <= 1e-5


@pytest.mark.parametrize("shape", [(12, 20, 20), (12, 20, 24, 3)], ids=["grey", "colour"])
def test_an_array_set(store: ObjectStore, tmp_path: Path, tiny: Encoder, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "set.npz", test=array, other=array[:3])
    _, rows = _embed(store, list_images(f"{tmp_path}/set.npz#test"), 7, tiny.facts, batch_size=5)
    assert rows["key"].to_pylist() == [f"test/{i:08d}" for i in range(12)]
    assert rows["sha256"].to_pylist() == [hashlib.sha256(image).hexdigest() for image in array]
    assert set(rows["codec"].to_pylist()) == {"array"}
    assert set(zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True)) == {shape[2:0:-1]}
    squares = [to_square(Image.fromarray(image).convert("RGB"), 32, Image.Resampling.BICUBIC) for image in array]
    assert np.abs(vector_matrix(rows["layer_06"]) - tiny.embed(np.stack(squares))[6]).max() <= 1e-5


class TestChangedAfterListing:
    def test_a_deleted_object_becomes_a_reject(self, store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
        manifest = list_images(images.uri)
        images.delete("05.png")
        receipts, rows = _embed(store, manifest, 10, tiny.facts, batch_size=4)
        rejects = {reject["key"]: reject["reason"] for receipt in receipts for reject in receipt.rejects}
        assert rejects["05.png"] == "listed, but gone when it was read"
        assert rows["key"].to_pylist() == sorted(set(IMAGES) - {"05.png"})

    def test_a_changed_object_becomes_a_reject(self, store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
        manifest = list_images(images.uri)
        images.put("05.png", IMAGES["06.png"])
        receipts, rows = _embed(store, manifest, 10, tiny.facts, batch_size=4)
        rejects = {reject["key"]: reject["reason"] for receipt in receipts for reject in receipt.rejects}
        assert rejects["05.png"] == "listed, but changed when it was read"
        assert rows["key"].to_pylist() == sorted(set(IMAGES) - {"05.png"})

    def test_a_rewritten_array_is_read_anew(self, store: ObjectStore, tmp_path: Path, tiny: Encoder) -> None:
        for seed in (0, 1):  # the same process, the same URI
            array = pictures(4, 32, seed)
            np.savez(tmp_path / "set.npz", test=array)
            receipts, rows = _embed(store, list_images(f"{tmp_path}/set.npz#test"), 4, tiny.facts)
            assert receipts[0].rejects == []
            assert np.abs(vector_matrix(rows["layer_06"]) - tiny.embed(array)[6]).max() <= 1e-5

    def test_objects_of_s3_are_read_too(self, store: ObjectStore, s3_prefix: str, tiny: Encoder) -> None:
        images = open_store(s3_prefix)
        for key in ("00.png", "01.png", "02.png", "03b.png"):
            images.put(key, (IMAGES | BROKEN)[key])
        manifest = list_images(s3_prefix)
        images.delete("01.png")
        receipts, rows = _embed(store, manifest, 10, tiny.facts)
        assert rows["key"].to_pylist() == ["00.png", "02.png"]
        assert [reject["key"] for reject in receipts[0].rejects] == ["01.png", "03b.png"]


class TestFailures:
    def test_another_digest_than_planned(self, store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
        with pytest.raises(StageError, match="the audit was planned with ffffffff"):
            _embed(store, list_images(images.uri), 10, replace(tiny.facts, digest="f" * 64))

    def test_embeddings_that_are_not_finite(
        self, store: ObjectStore, images: ObjectStore, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def overflowing(self: Encoder, batch: Any) -> Any:
            x = Encoder_embed(self, batch)
            x[4][2, 5] = np.inf
            return x

        Encoder_embed = Encoder.embed
        monkeypatch.setattr(Encoder, "embed", overflowing)
        with pytest.raises(StageError, match=r"layer_04 of image 02\.png is not finite"):
            _embed(store, list_images(images.uri), 10, tiny.facts, batch_size=3)

    def test_a_store_that_fails_is_no_reject(
        self, store: ObjectStore, images: ObjectStore, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(self: object, image: object) -> bytes:
            raise StoreError("the disk is gone", "mount it")

        manifest = list_images(images.uri)
        monkeypatch.setattr("storage.image_sets.folder.ObjectReader.read", failing)
        with pytest.raises(StoreError, match="the disk is gone"):
            _embed(store, manifest, 10, tiny.facts)
        assert list(store.list("receipts/")) == []


def test_a_process_keeps_the_last_encoder() -> None:
    encoder = load_encoder(TINY, "cpu", 1)
    assert load_encoder(replace(TINY), "cpu", 1) is encoder
    other = load_encoder(replace(TINY, pooling="cls"), "cpu", 1)
    assert other is not encoder
    assert load_encoder.cache_info().currsize == 1


def test_no_reader_thread_outlives_its_shard(store: ObjectStore, images: ObjectStore, tiny: Encoder) -> None:
    _embed(store, list_images(images.uri), 10, tiny.facts, readers=3)
    wait_until(lambda: not any(thread.name.startswith("reader") for thread in threading.enumerate()), 5, "their end")


def test_an_encoder_is_described_as_it_is(tiny: Encoder) -> None:
    assert EncoderFacts.from_json(describe_encoder(TINY)) == tiny.facts
