"""What every test may use: one real S3 server and one real Ray for the session."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.ray_cluster.local import Cluster, ClusterSettings, PoolSize
from storage.objects.embedded_s3 import EmbeddedS3
from tests.ray_head import RayHead


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
