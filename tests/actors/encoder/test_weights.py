from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from actors.encoder.weights import local_weights, weights_identity
from storage.errors import InputError, StoreError
from storage.objects.open import open_store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("LAYERPRINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("weights", ["hub", "random", "some/where.pth"])
def test_what_is_local_stays(weights: str) -> None:
    assert local_weights(weights) == weights


def test_an_object_is_fetched_once_under_its_content_s_name(s3_prefix: str, cache: Path) -> None:
    store = open_store(s3_prefix)
    store.put("deep/vit.safetensors", b"weights")
    path = Path(local_weights(f"{s3_prefix}/deep/vit.safetensors"))
    assert path.read_bytes() == b"weights"
    assert path.suffix == ".safetensors"
    before = path.stat().st_mtime_ns
    assert local_weights(f"{s3_prefix}/deep/vit.safetensors") == str(path)
    assert path.stat().st_mtime_ns == before
    assert [file for file in cache.rglob("*") if file.is_file()] == [path]


def test_an_object_that_changed_is_not_taken_from_the_cache(s3_prefix: str) -> None:
    store = open_store(s3_prefix)
    store.put("vit.pth", b"old")
    local_weights(f"{s3_prefix}/vit.pth")
    store.put("vit.pth", b"new")
    assert Path(local_weights(f"{s3_prefix}/vit.pth")).read_bytes() == b"new"


def test_identity_is_the_content(tmp_path: Path, s3_prefix: str) -> None:
    (tmp_path / "a.pth").write_bytes(b"one")
    (tmp_path / "b.pth").write_bytes(b"two")
    open_store(s3_prefix).put("c.pth", b"one")
    assert weights_identity(str(tmp_path / "a.pth")) == hashlib.sha256(b"one").hexdigest()[:16]
    assert weights_identity(f"{s3_prefix}/c.pth") == weights_identity(str(tmp_path / "a.pth"))
    assert weights_identity(str(tmp_path / "b.pth")) != weights_identity(str(tmp_path / "a.pth"))
    assert (weights_identity("hub"), weights_identity("random")) == ("hub", "random")


def test_a_missing_file_or_object(tmp_path: Path, s3_prefix: str) -> None:
    with pytest.raises(InputError, match=r"there is no file .*gone\.pth"):
        weights_identity(str(tmp_path / "gone.pth"))
    with pytest.raises(StoreError, match=r"gone\.pth"):
        weights_identity(f"{s3_prefix}/gone.pth")
