"""A disk that is full: no half-written object, a clear message, and a later run completes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import StoreError
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore
from tests.paths import ROOT
from tests.storage.small_run import ROWS, SCHEMA, found_rows, run


@pytest.fixture
def small_disk(processes: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _fill(folder: Path, left: int) -> Path:
    """Write a file that leaves `left` blocks of the disk."""
    ballast, disk = folder / "ballast", os.statvfs(folder)
    ballast.write_bytes(bytes((disk.f_bavail - left) * disk.f_bsize))
    assert os.statvfs(folder).f_bavail == left
    return ballast


def _whole(store: ObjectStore) -> None:
    """No object is half written, and no temporary file is left."""
    root = Path(store.uri)
    assert list(root.rglob(".layerprint-*")) == []
    for path in root.rglob("*.json"):
        assert path.read_text().endswith("}")


def test_an_object_is_written_whole_or_not_at_all(small_disk: Path) -> None:
    store = open_store(str(small_disk / "store"))
    store.put("a", b"before" * 100)
    for write in (store.put, store.put_if_absent):
        for key in ("a", "b"):
            if (write, key) != (store.put_if_absent, "a"):
                with pytest.raises(StoreError, match="No space left on device") as caught:
                    write(key, bytes(400_000))
                assert "free space" in caught.value.remedy
                assert store.child_uri(key) in caught.value.found
    assert [(info.key, info.size) for info in store.list()] == [("a", 600)]
    assert [path.name for path in (small_disk / "store").iterdir()] == ["a"]


@pytest.mark.parametrize("left", range(8))
def test_a_run_goes_on_when_there_is_space_again(small_disk: Path, left: int) -> None:
    store = open_store(str(small_disk / "store"))
    vectors = VectorStore(store)
    vectors.create("t", SCHEMA)
    ballast = _fill(small_disk, left)
    with pytest.raises(StoreError, match=r"No space left on device|bytes were written") as caught:
        run(vectors)
    assert caught.value.exit_code == 2
    assert vectors.committed("t") is None
    _whole(store)
    ballast.unlink()
    table = run(vectors)
    assert found_rows(vectors, table) == ROWS
    assert run(vectors) == table


_LIMITED = """
import resource, sys
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore
from tests.storage.small_run import run
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    run(VectorStore(open_store(sys.argv[1])))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.usefixtures("processes")
def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, store.uri], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("StoreError"), done.stdout + done.stderr
    assert "bytes were written" in done.stdout  # Lance did not notice
    assert list(store.list("receipts/")) == []
    _whole(store)
    vectors = VectorStore(store)
    assert found_rows(vectors, run(vectors)) == ROWS
