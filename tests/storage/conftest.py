"""One suite over both kinds of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.objects.open import ObjectStore, open_store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store: a folder, then a prefix of the real S3 server."""
    uri = str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3_prefix")
    return open_store(uri)
