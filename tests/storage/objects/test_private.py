"""New stores are private; a Python session keeps its umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from storage.objects.local import LocalStore
from storage.objects.private import SHARED, private_files

pytestmark = pytest.mark.usefixtures("usual_umask")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_store_is_closed_and_its_parents_are_not(tmp_path: Path) -> None:
    LocalStore(tmp_path / "work" / "store").put("deep/key", b"")
    assert _mode(tmp_path / "work") == 0o755
    assert _mode(tmp_path / "work" / "store") == 0o700


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o750)
    LocalStore(tmp_path / "store").put("key", b"")
    assert _mode(tmp_path / "store") == 0o750


def test_a_shared_store_follows_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED, "1")
    LocalStore(tmp_path / "store").put("key", b"")
    assert _mode(tmp_path / "store") == 0o755


@pytest.mark.parametrize(("shares", "umask", "mode"), [("0", 0o022, 0o600), ("1", 0o022, 0o644), ("1", 0o027, 0o640)])
def test_a_command_creates_private_files_and_gives_the_umask_back(
    shares: str, umask: int, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, shares)
    os.umask(umask)
    with private_files():
        (tmp_path / "file").touch()
    assert _mode(tmp_path / "file") == mode
    assert os.umask(umask) == umask


def test_a_tighter_umask_stays(tmp_path: Path) -> None:
    os.umask(0o277)
    with private_files():
        (tmp_path / "file").touch()
    assert _mode(tmp_path / "file") == 0o400
