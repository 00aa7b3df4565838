"""The embed stage on the real S3 server when its hosts are killed, its set changes, or S3 fails for them."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from PIL import Image

from actors.encoder.model import Encoder
from actors.ray_cluster.local import Cluster, ClusterSettings, PoolSize
from actors.stages import embed as embed_stage
from actors.stages.context import Progress, StageContext
from actors.workers.embed import EmbedSettings, EmbedShard, embed_shard
from storage.errors import StoreError, StoreUnavailableError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import Receipt, VectorStore, vector_matrix
from tests.actors.conftest import TINY, pictures, png
from tests.faults.proxy import Answer, Cut, Fault, FaultyProxy, Request, Trickle, healthy

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test

SETTINGS = EmbedSettings(readers=4, batch_size=8)
IMAGES = {f"{i:03d}.png": png(picture) for i, picture in enumerate(pictures(60))}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 images per shard."""
    monkeypatch.setattr(embed_stage, "shard_size", lambda images: 30)


@pytest.fixture
def place(s3_prefix: str, small_shards: None) -> ObjectStore:
    """An image set on S3."""
    store = open_store(f"{s3_prefix}/images")
    for key, content in IMAGES.items():
        store.put(key, content)
    return store


@pytest.fixture
def hosts(local_ray: None) -> Iterator[Cluster]:
    """Two hosts that no other test has killed."""
    size = PoolSize(2, cpus=0.1)
    with Cluster(ClusterSettings(embed=size, layers=size)) as connected:
        yield connected


@pytest.fixture
def context(s3_prefix: str, cluster: Cluster) -> StageContext:
    """A store on S3, and the session's Ray."""

    def silent(_progress: Progress) -> None:
        """Report nothing."""

    return StageContext(open_store(f"{s3_prefix}/audit"), cluster, silent)


def _embed(context: StageContext, tiny: Encoder, manifest: Manifest) -> embed_stage.Embedded:
    return embed_stage.embed(context, TINY, tiny.facts, manifest, SETTINGS, "x")


def _check(context: StageContext, embedded: embed_stage.Embedded, tiny: Encoder, images: dict[str, bytes]) -> None:
    """The table holds exactly these images, once each, as the encoder embeds them."""
    rows = VectorStore(context.store).dataset(embedded.table.name, embedded.table.version).to_table()
    assert rows["key"].to_pylist() == sorted(images)
    contents = [images[key] for key in sorted(images)]
    assert rows["sha256"].to_pylist() == [hashlib.sha256(content).hexdigest() for content in contents]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in contents])
    for layer, x in tiny.embed(pixels).items():
        assert np.abs(vector_matrix(rows[f"layer_{layer:02d}"]) - x).max() <= 1e-5


# -- killed --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mortal:
    """Embeds shards in a process that is killed once per shard, at a point of its work."""

    point: str

    def embed_shard(self, task: EmbedShard) -> Receipt:
        leave_receipt, embed = VectorStore.leave_receipt, Encoder.embed

        def dies(point: str) -> None:
            if point == self.point and open_store(task.store).put_if_absent(f"died/{task.index}", b""):
                os.kill(os.getpid(), signal.SIGKILL)

        def mortal_receipt(vectors: VectorStore, prefix: str, receipt: Receipt) -> bool:
            dies("after fragments before receipt")
            won = leave_receipt(vectors, prefix, receipt)
            dies("after the receipt")
            return won

        def mortal_embed(encoder: Encoder, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
            embeddings = embed(encoder, images)
            dies("in mid-shard")
            return embeddings

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(VectorStore, "leave_receipt", mortal_receipt)
            patch.setattr(Encoder, "embed", mortal_embed)
            return embed_shard(task)


@pytest.mark.parametrize("point", ["in mid-shard", "after fragments before receipt", "after the receipt"])
def test_an_actor_is_killed_at_every_shard(
    context: StageContext,
    hosts: Cluster,
    place: ObjectStore,
    tiny: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    context = replace(context, cluster=hosts)
    monkeypatch.setattr(embed_stage, "embed_shard", Mortal(point).embed_shard)
    embedded = _embed(context, tiny, list_images(place.uri))
    assert sorted(info.key for info in context.store.list("died/")) == ["died/0", "died/1"]
    assert embedded.table.rejects == []
    _check(context, embedded, tiny, IMAGES)
    monkeypatch.undo()
    monkeypatch.setattr(embed_stage, "shard_size", lambda images: 30)
    assert _embed(context, tiny, list_images(place.uri)) == embed_stage.Embedded(embedded.table, 0)


# -- stale ---------------------------------------------------------------------------------------------------


def test_a_set_that_changes_between_listing_and_reading(
    context: StageContext, place: ObjectStore, tiny: Encoder
) -> None:
    manifest = list_images(place.uri)
    place.put("007.png", png(pictures(1, seed=9)[0]))
    place.delete("031.png")
    place.put("031b.png", IMAGES["031.png"])
    embedded = _embed(context, tiny, manifest)
    assert {reject["key"]: reject["reason"] for reject in embedded.table.rejects} == {
        "007.png": "listed, but changed when it was read",
        "031.png": "listed, but gone when it was read",
    }
    _check(context, embedded, tiny, {key: data for key, data in IMAGES.items() if key not in ("007.png", "031.png")})

    again = _embed(context, tiny, list_images(place.uri))
    assert (again.forward_images, again.table.rejects) == (2, [])
    now = IMAGES | {"007.png": png(pictures(1, seed=9)[0]), "031b.png": IMAGES["031.png"]}
    del now["031.png"]
    _check(context, again, tiny, now)


# -- S3 fails for the hosts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remote:
    """Embeds shards while S3 is reached through a proxy, with little patience."""

    endpoint: str

    def embed_shard(self, task: EmbedShard) -> Receipt:
        import storage.objects.open
        import storage.objects.s3_client

        before = os.environ["AWS_ENDPOINT_URL"]
        os.environ["AWS_ENDPOINT_URL"] = self.endpoint
        storage.objects.s3_client.MAX_ATTEMPTS, storage.objects.open.LANCE_RETRIES = 3, 2
        try:
            return embed_shard(task)
        finally:
            os.environ["AWS_ENDPOINT_URL"] = before


@pytest.fixture
def faulty(s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A faulty proxy between the hosts and S3; this process reaches S3 directly."""
    with FaultyProxy(s3.endpoint) as made:
        monkeypatch.setattr(embed_stage, "embed_shard", Remote(made.endpoint).embed_shard)
        yield made


@pytest.mark.parametrize("fault", [Answer(503, "SlowDown"), Cut(20), Trickle(16, 0.01)], ids=["503", "cut", "slow"])
def test_images_come_badly_for_a_while(
    context: StageContext, place: ObjectStore, tiny: Encoder, faulty: FaultyProxy, fault: Fault
) -> None:
    def every_fourth(request: Request) -> Fault | None:
        return fault if request.path.endswith(("0.png", "4.png", "8.png")) and request.number == 0 else None

    faulty.rule = every_fourth
    embedded = _embed(context, tiny, list_images(place.uri))
    assert len(faulty.broken) == 18
    assert embedded.table.rejects == []
    _check(context, embedded, tiny, IMAGES)


@pytest.mark.parametrize(
    ("fault", "part", "error", "message"),
    [
        (Answer(503, "SlowDown"), "/images/04", StoreUnavailableError, "S3 is overloaded"),
        (Answer(503, "SlowDown"), "/data/", StoreUnavailableError, "S3 failed for a while|S3 is overloaded"),
        (Cut(20), "/images/04", StoreUnavailableError, "its transfer broke off"),
        (Answer(400, "ExpiredToken"), "/images/04", StoreError, "the credentials have expired"),
    ],
    ids=["503 images", "503 vectors", "cut", "expired"],
)
def test_a_later_run_completes(
    context: StageContext,
    place: ObjectStore,
    tiny: Encoder,
    faulty: FaultyProxy,
    fault: Fault,
    part: str,
    error: type[StoreError],
    message: str,
) -> None:
    faulty.rule = lambda request: fault if part in request.path else None
    manifest = list_images(place.uri)
    with pytest.raises(error, match=message) as caught:
        _embed(context, tiny, manifest)
    assert type(caught.value) is error
    assert VectorStore(context.store).committed(embed_stage.table_name(tiny.facts, manifest)) is None
    faulty.rule = healthy
    embedded = _embed(context, tiny, manifest)
    assert embedded.table.rejects == []
    _check(context, embedded, tiny, IMAGES)
