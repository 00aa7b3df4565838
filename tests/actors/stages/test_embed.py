from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.encoder.config import EncoderConfig, EncoderFacts
from actors.encoder.model import Encoder
from actors.ray_cluster.local import Cluster, Pool
from actors.stages import (
    embed as embed_stage,
    reference as reference_stage,
    score as score_stage,
    search as search_stage,
)
from actors.stages.context import Progress, StageContext
from actors.stages.reference import PartitionSettings, ReferenceTables
from actors.stages.score import Scored
from actors.workers.embed import EmbedSettings, embed_shard
from storage.errors import InputError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
from storage.layout import layer_key
from storage.objects.open import ObjectInfo, ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable, VectorStore, embedding_schema, vector_matrix
from tests.actors.conftest import TINY, pictures, png
from tests.storage.packing import hugging_face, parquet, tar

SETTINGS = EmbedSettings(threads=1, readers=2, batch_size=16)
PARTITION = PartitionSettings(components=8, cells=2, seed=0)
SIZES = {"train": 120, "held_out": 80, "release": 70}
COPIES = 40


class NoCluster(Cluster):
    """A cluster for runs that must not need one."""

    def __init__(self) -> None:
        """Nothing is connected to."""

    def pool(self, name: str) -> Pool:
        raise AssertionError(f"the pool {name} was asked for")


@dataclass(frozen=True)
class Walked:
    """The stages of one audit before the score."""

    facts: EncoderFacts
    embedded: dict[str, embed_stage.Embedded]
    reference: ReferenceTables
    nearest: str


def _context(store: ObjectStore, cluster: Cluster) -> tuple[StageContext, list[Progress]]:
    reports: list[Progress] = []
    return StageContext(store, cluster, reports.append), reports


def _walk(context: StageContext, manifests: dict[str, Manifest], config: EncoderConfig = TINY) -> Walked:
    """All stages before the score."""
    facts = embed_stage.resolve_encoder(context, config)
    layers = list(facts.dims)
    embedded = {
        name: embed_stage.embed(context, config, facts, manifest, SETTINGS, name)
        for name, manifest in manifests.items()
    }
    sets = embedded["train"].table, embedded["held_out"].table
    reference = reference_stage.finish_reference(context, sets, layers, PARTITION, "euclidean")
    release = embedded["release"].table
    nearest = search_stage.search(
        context, release, layers, reference.partition, "euclidean", reference.search, "release"
    )
    return Walked(facts, embedded, reference, nearest)


def _score(context: StageContext, path: Walked) -> Scored:
    return score_stage.score(context, path.reference, path.embedded["release"].table, path.nearest, "release")


@pytest.fixture(scope="module")
def small_shards() -> Iterator[None]:
    """25 images per shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed_stage, "shard_size", lambda images: 25)
        yield


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """Three folders of pictures; the first images of the release are training images."""
    folder = tmp_path_factory.mktemp("images")
    listed = {}
    for seed, (name, n) in enumerate(SIZES.items()):
        images = pictures(n, seed=seed)
        if name == "release":
            images[:COPIES] = pictures(SIZES["train"], seed=0)[:COPIES]
        store = open_store(str(folder / name))
        for i, image in enumerate(images):
            store.put(f"{i:03d}.png", png(image))
        if name == "held_out":
            store.put("broken.png", b"no image")
        listed[name] = list_images(store.uri)
    return listed


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """The store of the audit that all tests share."""
    return open_store(str(tmp_path_factory.mktemp("store")))


@dataclass(frozen=True)
class Audit:
    """A finished audit, and what it reported."""

    path: Walked
    scored: Scored
    reports: list[Progress]


@pytest.fixture(scope="module")
def audit(store: ObjectStore, cluster: Cluster, manifests: dict[str, Manifest], small_shards: None) -> Audit:
    """One audit from images to scores."""
    context, reports = _context(store, cluster)
    path = _walk(context, manifests)
    return Audit(path, _score(context, path), reports)


class TestFirstRun:
    def test_every_readable_image_is_embedded_once(
        self, audit: Audit, store: ObjectStore, manifests: dict[str, Manifest], tiny: Encoder
    ) -> None:
        for name, n in SIZES.items():
            table, forward = audit.path.embedded[name]
            assert (table.rows, forward) == (n, n)
            rows = VectorStore(store).dataset(table.name, table.version).to_table()
            assert rows["key"].to_pylist() == [f"{i:03d}.png" for i in range(n)]
            assert len(list(store.list(f"receipts/{table.name}/"))) == -(-len(manifests[name]) // 25)
        assert audit.path.embedded["held_out"].table.rejects == [
            {"key": "broken.png", "reason": "not a png, jpg, webp or bmp file"}
        ]
        assert np.abs(vector_matrix(rows["layer_06"])[:COPIES] - tiny.embed(pictures(120)[:COPIES])[6]).max() <= 1e-5

    def test_the_encoder_is_the_one_asked_for(self, audit: Audit, tiny: Encoder) -> None:
        assert audit.path.facts == tiny.facts

    def test_copies_are_seen_in_every_layer(self, audit: Audit) -> None:
        assert list(audit.scored.layers) == list(range(7))
        for result in audit.scored.layers.values():
            assert (result.score.n, result.score.m) == (SIZES["held_out"], SIZES["release"])
            assert result.score.effect is not None
            assert result.score.effect.high < 0.5
            assert all(pair.image_row == pair.train_row < COPIES for pair in result.pairs)
            assert len(result.pairs) == 20
        assert audit.scored.informative == list(range(7))
        assert audit.scored.joined is not None
        assert (audit.scored.joined.permutation.p_adjusted < 0.01).all()
        assert audit.scored.joined.permutation.z.max() < 0

    def test_progress_never_goes_back_and_ends_at_the_total(self, audit: Audit) -> None:
        names = list(dict.fromkeys(report.stage for report in audit.reports))
        assert names == [
            "embed train", "embed held_out", "embed release", "partition train", "search held-out", "search release",
            "score release",
        ]  # fmt: skip
        for name in names:
            reports = [report for report in audit.reports if report.stage == name]
            assert len(reports) >= 4
            assert (reports[0].done, reports[0].skipped) == (0, 0)
            assert all(before.done < after.done for before, after in pairwise(reports))
            assert {report.total for report in reports} == {reports[-1].done}
        assert next(r.total for r in audit.reports if r.stage == "embed held_out") == SIZES["held_out"] + 1


def _content(store: ObjectStore) -> list[ObjectInfo]:
    """The content of a store, without the notes of when a set was last used."""
    return sorted(info for info in store.list() if not info.key.startswith("sets/"))


class TestSecondRun:
    def test_it_does_nothing(self, audit: Audit, store: ObjectStore, manifests: dict[str, Manifest]) -> None:
        before = _content(store)
        context, reports = _context(store, NoCluster())
        path = _walk(context, manifests)
        assert [embedded.forward_images for embedded in path.embedded.values()] == [0, 0, 0]
        assert [embedded.table for embedded in path.embedded.values()] == [
            embedded.table for embedded in audit.path.embedded.values()
        ]
        assert (path.reference, path.nearest) == (audit.path.reference, audit.path.nearest)
        assert _content(store) == before
        assert all(report.done == report.skipped == report.total > 0 for report in reports)
        assert len(reports) == 6

    def test_scoring_again_gives_the_same(self, audit: Audit, store: ObjectStore, cluster: Cluster) -> None:
        again = _score(_context(store, cluster)[0], audit.path)
        assert again.layers == audit.scored.layers
        assert again.joined is not None
        assert audit.scored.joined is not None
        assert (again.joined.permutation.p_adjusted == audit.scored.joined.permutation.p_adjusted).all()

    def test_one_lost_layer_is_made_again(self, audit: Audit, store: ObjectStore, cluster: Cluster) -> None:
        lost = layer_key(audit.path.nearest, 3, "parquet")
        before = store.get(lost)
        store.delete(lost)
        context, reports = _context(store, cluster)
        table = audit.path.embedded["release"].table
        partition = audit.path.reference.partition
        prefix = search_stage.search(context, table, list(range(7)), partition, "euclidean", "in_cell", "release")
        assert prefix == audit.path.nearest
        assert store.get(lost) == before
        assert [(report.done, report.skipped) for report in reports] == [(6, 6), (7, 6)]

    def test_another_set_or_setting_is_not_mistaken_for_it(self, audit: Audit, manifests: dict[str, Manifest]) -> None:
        facts, train = audit.path.facts, audit.path.embedded["train"].table
        names = {embed_stage.table_name(facts, manifest) for manifest in manifests.values()}
        names.add(embed_stage.table_name(replace(facts, digest="0" * 64), manifests["train"]))
        assert len(names) == 4
        others = [PARTITION, replace(PARTITION, seed=1), replace(PARTITION, cells=3), replace(PARTITION, components=4)]
        assert len({reference_stage.partition_prefix(train, settings) for settings in others}) == 4


class TestInterrupted:
    @pytest.fixture
    def begun(self, tmp_path: Path, tiny: Encoder, small_shards: None) -> ObjectStore:
        """A store in which the shards 0 and 2 of five were embedded, and the run then broke off."""
        store = open_store(str(tmp_path / "begun"))
        images = open_store(str(tmp_path / "images"))
        for i, image in enumerate(pictures(105)):
            images.put(f"{i:03d}.png", png(image))
        self._embed(store, list_images(images.uri), tiny, {0, 2})
        return store

    @staticmethod
    def _embed(store: ObjectStore, manifest: Manifest, tiny: Encoder, shards: set[int]) -> None:
        table = embed_stage.table_name(tiny.facts, manifest)
        _, planned = embed_stage.plan_shards(store, manifest, table, TINY, tiny.facts.digest, SETTINGS)
        store.put_if_absent(planned[0].manifest_key, manifest.to_bytes())
        VectorStore(store).create(table, embedding_schema(tiny.facts.dims))
        for shard in planned:
            if shard.index in shards:
                embed_shard(shard)

    def _check(self, store: ObjectStore, table: EmbeddingTable, tiny: Encoder) -> None:
        rows = VectorStore(store).dataset(table.name, table.version).to_table()
        assert rows["row"].to_pylist() == list(range(105))
        assert np.abs(vector_matrix(rows["layer_03"]) - tiny.embed(pictures(105))[3]).max() <= 1e-5

    def test_only_missing_shards_are_embedded(
        self, begun: ObjectStore, cluster: Cluster, tiny: Encoder, tmp_path: Path
    ) -> None:
        manifest = list_images(str(tmp_path / "images"))
        before = {info.key: info.etag for info in begun.list("receipts/")}
        context, reports = _context(begun, cluster)
        table, forward = embed_stage.embed(context, TINY, tiny.facts, manifest, SETTINGS, "x")
        assert forward == 105 - 50
        assert (reports[0].done, reports[0].skipped) == (50, 50)
        assert (reports[-1].done, reports[-1].skipped) == (105, 50)
        after = {info.key: info.etag for info in begun.list("receipts/")}
        assert len(before) == 2
        assert len(after) == 5
        assert before.items() <= after.items()
        self._check(begun, table, tiny)

    def test_with_all_receipts_it_only_commits(self, begun: ObjectStore, tiny: Encoder, tmp_path: Path) -> None:
        manifest = list_images(str(tmp_path / "images"))
        self._embed(begun, manifest, tiny, {1, 3, 4})
        context, _ = _context(begun, NoCluster())
        table, forward = embed_stage.embed(context, TINY, tiny.facts, manifest, SETTINGS, "x")
        assert forward == 0
        self._check(begun, table, tiny)


class TestChangedSet:
    """The cost of one change of a set on S3, with the etags of its server."""

    def _rows(
        self, store: ObjectStore, embedded: embed_stage.Embedded, tiny: Encoder, images: dict[str, bytes]
    ) -> None:
        """Check a table against the encoder, image by image."""
        rows = VectorStore(store).dataset(embedded.table.name, embedded.table.version).to_table()
        readable = {key: data for key, data in sorted(images.items()) if data != b"broken"}
        assert rows["key"].to_pylist() == list(readable)
        assert rows["row"].to_pylist() == [sorted(images).index(key) for key in readable]
        assert rows["sha256"].to_pylist() == [hashlib.sha256(data).hexdigest() for data in readable.values()]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in readable.values()])
        for layer, expected in tiny.embed(pixels).items():
            assert np.abs(vector_matrix(rows[f"layer_{layer:02d}"]) - expected).max() <= 1e-5

    def test_only_what_changed_is_embedded(
        self, s3_prefix: str, tmp_path: Path, cluster: Cluster, tiny: Encoder, small_shards: None
    ) -> None:
        store, place = open_store(str(tmp_path / "store")), open_store(s3_prefix)
        context, reports = _context(store, cluster)
        images = {f"{i:03d}.png": png(image) for i, image in enumerate(pictures(60))} | {"007b.png": b"broken"}
        other = png(pictures(1, seed=9)[0])
        changes: list[tuple[dict[str, bytes | None], int]] = [
            (dict(images), 60),
            ({"031.png": other}, 1),
            ({"000a.png": other, "059.png": None}, 1),  # nearly all rows move
            ({"031.png": images["031.png"]}, 1),  # as it was at first, but no longer at the last time
            ({"007b.png": other}, 1),
            ({}, 0),
        ]
        for change, expected in changes:
            for key, data in change.items():
                if data is None:
                    place.delete(key)
                    del images[key]
                else:
                    place.put(key, data)
                    images[key] = data
            embedded = embed_stage.embed(context, TINY, tiny.facts, list_images(s3_prefix), SETTINGS, "x")
            assert embedded.forward_images == expected
            assert len(embedded.table.rejects) == (images["007b.png"] == b"broken")
            assert embedded.table.sizes == {"32×32": embedded.table.rows}
            self._rows(store, embedded, tiny, images)
            assert reports[-1].done == len(images)

    def test_an_interrupted_change_goes_on(
        self, tmp_path: Path, cluster: Cluster, tiny: Encoder, small_shards: None
    ) -> None:
        store, place = open_store(str(tmp_path / "store")), open_store(str(tmp_path / "images"))
        images = {f"{i:03d}.png": png(image) for i, image in enumerate(pictures(60))}
        for key, data in images.items():
            place.put(key, data)
        context, _ = _context(store, cluster)
        embed_stage.embed(context, TINY, tiny.facts, list_images(place.uri), SETTINGS, "x")
        for key in ("005.png", "050.png"):
            images[key] = png(pictures(1, seed=5)[0])
            place.put(key, images[key])
        manifest = list_images(place.uri)
        TestInterrupted._embed(store, manifest, tiny, {0})  # one shard, without a look at the earlier table
        embedded = embed_stage.embed(context, TINY, tiny.facts, manifest, SETTINGS, "x")
        assert embedded.forward_images == 1
        self._rows(store, embedded, tiny, images)


class TestForms:
    def test_the_rows_of_an_image_do_not_depend_on_its_container(
        self, s3_prefix: str, tmp_path: Path, cluster: Cluster, tiny: Encoder, small_shards: None
    ) -> None:
        place, store = open_store(s3_prefix), open_store(str(tmp_path / "store"))
        images = {f"{i:03d}.png": png(image) for i, image in enumerate(pictures(60))} | {"060.png": b"broken"}
        for key, data in images.items():
            place.put(f"objects/{key}", data)
        for shard in range(2):
            part = dict(list(images.items())[shard * 40 : shard * 40 + 40])
            place.put(f"tar/{shard}.tar", tar(*part.items()))
            place.put(f"parquet/{shard}.parquet", parquet(hugging_face(list(part.values()))))
        context, _ = _context(store, cluster)
        tables = {}
        for form in ("objects", "tar", "parquet#image"):
            manifest = list_images(place.child_uri(form))
            embedded = embed_stage.embed(context, TINY, tiny.facts, manifest, SETTINGS, form)
            assert embedded.forward_images == 60
            assert [reject["reason"] for reject in embedded.table.rejects] == ["not a png, jpg, webp or bmp file"]
            rows = VectorStore(store).dataset(embedded.table.name, embedded.table.version).to_table()
            tables[form] = rows.drop_columns(["key"])
            assert rows["key"].to_pylist() == manifest.table["key"].to_pylist()[:60]
        assert tables["objects"] == tables["tar"] == tables["parquet#image"]


class TestConstantLayers:
    def test_the_class_token_s_layer_0_is_left_out(
        self, store: ObjectStore, cluster: Cluster, manifests: dict[str, Manifest], small_shards: None
    ) -> None:
        context, _ = _context(store, cluster)
        path = _walk(context, manifests, replace(TINY, pooling="cls", layers=(0, 4)))
        scored = _score(context, path)
        assert [result.score.informative for result in scored.layers.values()] == [False, True]
        assert scored.informative == [4]
        assert scored.joined is not None
        assert scored.joined.permutation.z.shape == (1,)

    def test_no_informative_layer_gives_no_profile(
        self, store: ObjectStore, cluster: Cluster, manifests: dict[str, Manifest], small_shards: None
    ) -> None:
        context, _ = _context(store, cluster)
        scored = _score(context, _walk(context, manifests, replace(TINY, pooling="cls", layers=(0,))))
        assert (scored.informative, scored.joined) == ([], None)
        assert not scored.layers[0].score.informative


class TestBadInput:
    def test_an_encoder_that_cannot_be_made(self, store: ObjectStore, cluster: Cluster) -> None:
        context, _ = _context(store, cluster)
        with pytest.raises(InputError, match=r"encoder\.layers"):
            embed_stage.resolve_encoder(context, replace(TINY, layers=(99,)))
        with pytest.raises(InputError, match="there is no file"):
            embed_stage.resolve_encoder(_context(store, NoCluster())[0], replace(TINY, weights="gone.pth"))

    def test_more_cells_than_different_train_images(self, audit: Audit, store: ObjectStore, cluster: Cluster) -> None:
        context, _ = _context(store, cluster)
        table = audit.path.embedded["train"].table
        with pytest.raises(InputError, match=r"reference\.train, layer 2: .*121 cells"):
            reference_stage.fit_partitions(context, table, [2], replace(PARTITION, cells=121))
