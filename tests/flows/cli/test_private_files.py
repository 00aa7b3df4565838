"""An audit's files, as the file system shows them to other users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.demo.data import split_digits, write_png_set
from storage.objects.open import open_store
from tests.flows.conftest import laboratory_spec, write_yaml

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small laboratory in a folder."""
    folder, digits = tmp_path_factory.mktemp("sets"), split_digits(0)
    sizes = {"train": digits.train[:90], "held_out": digits.held_out[:80], "unseen": digits.unseen[:60]}
    for name, images in sizes.items():
        write_png_set(images, open_store(str(folder)).put, f"{name}/")
    return folder


def _audited(sets: Path, folder: Path, *options: str) -> tuple[dict[str, int], dict[str, int]]:
    """The modes of the store's and of the report's files and folders after an audit under the umask 022."""
    content = laboratory_spec(str(sets), str(folder / "store"))
    content["releases"] = content["releases"][1:]
    write_yaml(folder / "spec.yaml", content)
    ours = ("AWS_", "PREFECT_", "RAY_", "LAYERPRINT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    layerprint = [sys.executable, "-m", "flows.cli.main", *options]
    for arguments in (["audit", "spec.yaml"], ["report", "spec.yaml", "--out", "html"]):
        done = subprocess.run(
            [*layerprint, *arguments],
            cwd=folder,
            env=environment | {"PREFECT_HOME": str(folder / "prefect")},
            umask=0o022,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    store, html = (
        {str(path): path.stat().st_mode & 0o777 for path in [top, *top.rglob("*")]}
        for top in (folder / "store", folder / "html")
    )
    assert len(store) > 30
    assert html
    return store, html


def test_only_the_owner_can_read_them(sets: Path, tmp_path: Path) -> None:
    store, html = _audited(sets, tmp_path)
    assert {path: oct(mode) for path, mode in (store | html).items() if mode & 0o077} == {}


def test_everybody_can_read_shared_ones(sets: Path, tmp_path: Path) -> None:
    store, html = _audited(sets, tmp_path, "--shared")
    assert {path: oct(mode) for path, mode in (store | html).items() if not mode & 0o044} == {}
