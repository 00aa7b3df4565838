"""What a local store wrote is on the disk before anything refers to it: the order of the calls that see to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.objects.open import LocalStore
from storage.vectors.tables import VectorStore
from tests.storage.small_run import SCHEMA, commit_all, embed_shard


class Calls(list[tuple[str, str]]):
    """(call, path below the store) in their order."""

    def of(self, call: str, part: str) -> list[int]:
        """The places of the calls whose path contains a text."""
        return [i for i, (name, path) in enumerate(self) if name == call and part in path]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """Every fsync, link and rename."""
    seen, sync = Calls(), os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path))))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    for name in ("link", "replace"):
        call = getattr(os, name)

        def noted(source: Path, target: Path, name: str = name, call: object = call) -> None:
            seen.append((name, str(target).removeprefix(str(tmp_path))))
            call(source, target)  # type: ignore[operator]

        monkeypatch.setattr(f"os.{name}", noted)
    return seen


@pytest.mark.parametrize(("put", "call"), [("put", "replace"), ("put_if_absent", "link")])
def test_a_file_then_its_name(tmp_path: Path, calls: Calls, put: str, call: str) -> None:
    getattr(LocalStore(tmp_path / "store"), put)("a/b/key", b"x")
    (named,) = calls.of(call, "/a/b/key")
    assert max(calls.of("fsync", ".layerprint-")) < named
    assert max(calls.of("fsync", "/store/a/b")) > named
    assert {path for name, path in calls[:named] if name == "fsync"} >= {"", "/store", "/store/a"}  # the new folders


def test_fragments_then_their_receipt_and_a_commit_then_its_marker(tmp_path: Path, calls: Calls) -> None:
    vectors = VectorStore(LocalStore(tmp_path / "store"))
    vectors.create("t", SCHEMA)
    for shard in range(3):
        embed_shard(vectors, shard)
        (receipt,) = calls.of("link", f"shard-00000{shard}")
        (latest,) = (max(calls.of("fsync", f"/data/{path.name}")) for path in _newest(tmp_path))
        assert latest < receipt
    calls.clear()
    commit_all(vectors)
    (marker,) = calls.of("link", "tables/t.json")
    versions = [path.name for path in (tmp_path / "store/vectors/t.lance/_versions").iterdir()]
    assert all(max(calls.of("fsync", f"/_versions/{name}")) < marker for name in versions)


def _newest(folder: Path) -> list[Path]:
    files = list((folder / "store/vectors/t.lance/data").iterdir())
    return [max(files, key=lambda path: path.stat().st_mtime_ns)]
