"""A faulty way to the real S3 server."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import ObjectStore, open_store
from tests.actors.conftest import _one_thread, tiny
from tests.faults.proxy import FaultyProxy

__all__ = ["_one_thread", "impatient", "proxy", "store", "tiny"]


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store: a folder, then a prefix of the real S3 server."""
    uri = str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3_prefix")
    return open_store(uri)


@pytest.fixture
def proxy(s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy that this process reaches the S3 server through; Ray's processes do not."""
    with FaultyProxy(s3.endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sockets that the proxy broke may be left to the garbage collector by the client."""
    for item in items:
        if "proxy" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts and a timeout of a second, so that a fault outlasts them soon."""
    monkeypatch.setattr("storage.objects.s3_client.MAX_ATTEMPTS", 2)
    monkeypatch.setattr("storage.objects.s3_client.READ_TIMEOUT_S", 1)
    monkeypatch.setattr("storage.objects.open.LANCE_RETRIES", 1)
