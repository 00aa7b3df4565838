from __future__ import annotations

import io
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image

from actors.encoder.model import Encoder
from actors.ray_cluster.hosts import PoolSize
from actors.ray_cluster.local import Cluster, ClusterSettings
from actors.ray_cluster.pool import Pool
from actors.stages import embed as embed_stage
from actors.stages.bisect_shard import KILLED, MOST_LOST_AT_FIRST, embed_shards, halves, killers
from actors.stages.context import Progress, StageContext
from actors.workers.embed import EmbedSettings, EmbedShard, embed_shard, load_encoder
from flows.registry.store_status import store_status
from storage.errors import StageError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable, Receipt, VectorStore, embedding_schema, vector_array
from tests.actors.conftest import TINY, pictures, png

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test

SHARD = 8
SCHEMA = embedding_schema({0: 1})


@dataclass(frozen=True)
class Crashes:
    """Embeds an image as its row, without an encoder (which takes seconds to start); some rows kill the process."""

    poison: tuple[int, ...]
    diary: str

    def embed_shard(self, task: EmbedShard) -> Receipt:
        rows = list(range(task.start, task.stop))
        if set(rows) & set(self.poison):
            (Path(self.diary) / f"{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        facts = [pa.array(rows), *[pa.array([str(row) for row in rows])] * 3, *[pa.array(rows, pa.int32())] * 2]
        vectors = vector_array(np.array(rows, np.float32)[:, None])
        table = pa.Table.from_arrays([*facts, vectors], schema=SCHEMA)
        store = VectorStore(open_store(task.store))
        receipt = Receipt(task.index, len(rows), store.write_shard(task.table, table), [], {"PNG": len(rows)}, {}, 1, 0)
        if not task.part:
            store.leave_receipt(task.receipts, receipt)
        return receipt

    @property
    def deaths(self) -> int:
        return len(list(Path(self.diary).iterdir()))


@pytest.fixture
def pool(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr("actors.ray_cluster.dispatch.BACK_OFF_S", 0.02)
    return cluster.pool("embed")


@dataclass(frozen=True)
class Plan:
    """A set of made-up images in shards of 8."""

    vectors: VectorStore
    manifest: Manifest
    shards: list[EmbedShard]
    receipts: str
    diary: str

    def embed(self, pool: Pool, poison: set[int]) -> tuple[Crashes, list[EmbedShard]]:
        """Embed the shards without receipts; returns the crashes, and the shards in the order of their end."""
        crashes = Crashes(tuple(sorted(poison)), self.diary)
        done = self.vectors.receipts(self.receipts)
        missing = [shard for shard in self.shards if shard.index not in done]
        embedded = embed_shards(pool, crashes.embed_shard, missing, self.manifest, self.vectors)
        return crashes, [shard for shard, _ in embedded]

    def commit(self) -> EmbeddingTable:
        return self.vectors.commit("t", SCHEMA, list(self.vectors.receipts(self.receipts).values()))

    def rows(self, table: EmbeddingTable) -> list[int]:
        return [int(row) for row in self.vectors.dataset("t", table.version).to_table()["row"].to_pylist()]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(embed_stage, "shard_size", lambda images: SHARD)
    store, images = open_store(str(tmp_path / "store")), open_store(str(tmp_path / "images"))
    for i in range(4 * SHARD - 1):
        images.put(f"{i:02d}.png", b"x")
    manifest = list_images(images.uri)
    receipts, shards = embed_stage.plan_shards(store, manifest, "t", TINY, "", EmbedSettings())
    vectors = VectorStore(store)
    vectors.create("t", SCHEMA)
    (tmp_path / "diary").mkdir()
    return Plan(vectors, manifest, shards, receipts, str(tmp_path / "diary"))


class TestHalves:
    def test_they_cover_the_shard_down_to_single_images(self, plan: Plan) -> None:
        parts = [plan.shards[3]]
        while any(part.images > 1 for part in parts):
            parts = [half for part in parts for half in halves(part)]
        assert [(part.start, part.stop) for part in parts] == [(row, row + 1) for row in range(24, 31)]
        assert all(part.part and part.index == 3 for part in parts)

    def test_a_single_image_is_its_own_part(self, plan: Plan) -> None:
        (part,) = halves(halves(halves(halves(plan.shards[0])[0])[0])[0])
        assert (part.start, part.stop) == (0, 1)
        assert halves(part) == [part]


class TestKillers:
    def test_only_they_are_left_out(self, plan: Plan, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
        crashes, done = plan.embed(pool, {14})
        assert sorted(shard.index for shard in done) == [0, 1, 2, 3]
        assert done[-1].index == 1  # the others do not wait for it
        table = plan.commit()
        assert plan.rows(table) == [row for row in range(31) if row != 14]
        reason = f"{KILLED}; the last time it was killed or it crashed"
        assert table.rejects == [{"key": "14.png", "reason": reason}]
        assert table.codecs == {"PNG": 30}
        assert killers(table) == ["14.png"]
        # Three of the shard, one of each part of 4 and 2 images, three of the image; perhaps one blamed on a neighbour.
        assert crashes.deaths in (3 + 1 + 1 + 3, 3 + 1 + 1 + 3 + 1)
        assert f"14.png is left out: it {reason}" in caplog.text

    def test_when_all_die_it_is_the_machine(self, plan: Plan, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("actors.stages.bisect_shard.LOST_IN_A_ROW", 2)
        with pytest.raises(StageError, match="2 shards in a row killed their processes, so it is not the images"):
            plan.embed(pool, set(range(31)))
        assert plan.vectors.receipts(plan.receipts) == {}
        plan.embed(pool, set())  # the next run, on a machine that can do it
        table = plan.commit()
        assert (plan.rows(table), table.rejects) == (list(range(31)), [])

    def test_one_shard_alone_too(self, plan: Plan, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("actors.stages.bisect_shard.MOST_LOST_AT_FIRST", 2)
        assert MOST_LOST_AT_FIRST > 2
        with pytest.raises(StageError, match="3 parts of one shard killed their processes"):
            plan.embed(pool, set(range(8)))
        assert sorted(plan.vectors.receipts(plan.receipts)) == [1, 2, 3]


def cramped(task: EmbedShard) -> Receipt:
    """Embed in a process that may take only 200 MiB more than it has once its encoder is loaded."""
    load_encoder(task.config, task.settings.device, task.settings.threads)
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + 200 * 2**20, resource.RLIM_INFINITY))
    return embed_shard(task)


class TestOutOfMemory:
    def test_an_image_that_takes_all_memory(
        self, tmp_path: Path, local_ray: None, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The stage, then `status`; each failure costs a start of torch, so one is made enough."""
        monkeypatch.setattr("actors.ray_cluster.dispatch.MAX_FAILURES", 1)
        monkeypatch.setattr("actors.stages.bisect_shard.MAX_FAILURES", 1)
        monkeypatch.setattr("actors.ray_cluster.dispatch.BACK_OFF_S", 0.02)
        monkeypatch.setattr(embed_stage, "shard_size", lambda images: 2)
        monkeypatch.setattr(embed_stage, "embed_shard", cramped)
        images = open_store(str(tmp_path / "images"))
        for i, image in enumerate(pictures(5)):
            images.put(f"{i}.png", png(image))
        sink = io.BytesIO()
        Image.new("RGB", (7900, 7900)).save(sink, "PNG", compress_level=1)
        images.put("3.png", sink.getvalue())
        store, manifest = open_store(str(tmp_path / "store")), list_images(images.uri)
        reports: list[Progress] = []
        size = PoolSize(1, cpus=0.1)
        with Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
            context = StageContext(store, cluster, reports.append)
            settings = EmbedSettings(threads=1, readers=1, batch_size=2)
            table, forward = embed_stage.embed(context, TINY, tiny.facts, manifest, settings, "x")
        assert (table.rows, forward) == (4, 4)
        (reject,) = table.rejects
        assert reject["key"] == "3.png"
        assert reject["reason"].startswith(f"{KILLED}; the last time it ran out of memory")
        assert reports[-1].done == reports[-1].total == 5
        self._seen(store, table)

    @staticmethod
    def _seen(store: ObjectStore, table: EmbeddingTable) -> None:
        (line,) = store_status(store.uri, None).left_out
        assert line == f"3.png of {table.name}"
