"""What every test may use: one real S3 server for the session."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from storage.embedded_s3 import EmbeddedS3


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
