"""What every test may use: one real S3 server and one real Ray for the session; and the markers of all tests.

A test is marked by the fixtures it uses: `service` where one of them is in `SERVICES`, `slow` where one is `slow`.
A test without the mark `service` that starts a process fails.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small: two threads take twice the time

from actors.ray_cluster.local import Cluster, ClusterSettings, PoolSize
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.private import SHARED
from tests.ray_head import RayHead

SERVICES = frozenset({"s3", "local_ray", "head", "services", "browser", "processes"})
"""Fixtures that start processes. ``"s3"`` is also the parameter of `store` for the S3 server."""

STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})
"""Audit events by which a process begins."""

LOOKS = ("lscpu", "file")
"""Programs by which libraries look at the machine."""

_started: list[str] = []
_watching = True  # Python sets it to None when it ends


def _note_start(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching or event not in STARTS:
        return
    if threading.current_thread() is threading.main_thread() and next(iter(arguments), None) not in LOOKS:
        _started.append(f"{event} {arguments[:2]}")


sys.addaudithook(_note_start)


def _uses(item: pytest.Item) -> set[str]:
    """The names of an item's fixtures, and its parameters that are strings."""
    parameters: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    return {*getattr(item, "fixturenames", ()), *(value for value in parameters.values() if isinstance(value, str))}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its fixtures."""
    for item in items:
        for name, fixtures in (("service", SERVICES), ("slow", {"slow"})):
            if _uses(item) & fixtures:
                item.add_marker(name)


def pytest_runtest_setup() -> None:
    """Forget what earlier tests started."""
    _started.clear()


@pytest.fixture(autouse=True)
def _marked_by_its_services(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test without the mark `service` starts no process."""
    yield
    if request.node.get_closest_marker("service") is None:
        assert _started == [], "use the fixture `processes`"


@pytest.fixture(scope="session")
def processes() -> None:
    """This test starts processes by itself."""


@pytest.fixture(scope="session")
def slow() -> None:
    """This test computes for seconds."""


@pytest.fixture
def usual_umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """022, and no setting of the user."""
    monkeypatch.delenv(SHARED, raising=False)
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def s3() -> Iterator[EmbeddedS3]:
    """A SeaweedFS with the bucket ``test``; the AWS variables point to it until the session ends."""
    with EmbeddedS3() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
            patch.delenv(name, raising=False)
        for name, value in server.environment().items():
            patch.setenv(name, value)
        server.make_bucket("test")
        yield server


@pytest.fixture
def s3_prefix(s3: EmbeddedS3) -> str:
    """An empty ``s3://`` prefix of this test's own."""
    return f"s3://test/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def local_ray(s3: EmbeddedS3) -> Iterator[None]:
    """A local Ray; its processes know the S3 server. It has room for one command's pools and for `cluster`."""
    cores = os.cpu_count() or 1
    os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")  # tests wait for its metrics
    with Cluster(ClusterSettings(embed=PoolSize(1, cpus=cores), layers=PoolSize(cores))) as cluster:
        cluster.pool("layers")
        yield


@pytest.fixture(scope="module")
def head(s3: EmbeddedS3) -> Iterator[RayHead]:
    """A head with token authentication, which knows the S3 server."""
    with (
        tempfile.TemporaryDirectory(prefix="lp-", ignore_cleanup_errors=True) as folder,
        RayHead(Path(folder), s3.environment()) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def cluster(local_ray: None) -> Iterator[Cluster]:
    """Two hosts a pool on the session's Ray, which reserve next to nothing of it and end with the module."""
    size = PoolSize(2, cpus=0.1)
    with Cluster(ClusterSettings(embed=size, layers=size)) as connected:
        yield connected
