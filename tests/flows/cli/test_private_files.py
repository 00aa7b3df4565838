"""An audit's files, as the file system shows them to other users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.main import run
from flows.demo.data import split_digits, write_png_set
from storage.objects.open import open_store
from storage.objects.private import SHARED
from tests.flows.conftest import laboratory_spec, write_yaml

pytestmark = pytest.mark.usefixtures("processes", "usual_umask")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small laboratory in a folder."""
    folder, digits = tmp_path_factory.mktemp("sets"), split_digits(0)
    sizes = {"train": digits.train[:90], "held_out": digits.held_out[:80], "unseen": digits.unseen[:60]}
    for name, images in sizes.items():
        write_png_set(images, open_store(str(folder)).put, f"{name}/")
    return folder


@pytest.fixture(scope="module")
def spec(sets: Path) -> Path:
    """The spec of a store that `layerprint audit` wrote under the umask 022."""
    content = laboratory_spec(str(sets), str(sets / "store"))
    content["releases"] = content["releases"][1:]
    path = write_yaml(sets / "spec.yaml", content)
    ours = ("AWS_", "PREFECT_", "RAY_", "LAYERPRINT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "audit", str(path)],
        env=environment | {"PREFECT_HOME": str(sets / "prefect")},
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def _modes(top: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mode & 0o777 for path in [top, *top.rglob("*")]}


def test_only_the_owner_can_read_a_store(spec: Path) -> None:
    modes = _modes(spec.with_name("store"))
    assert len(modes) > 30
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


@pytest.mark.parametrize(("options", "mode"), [([], 0o600), (["--shared"], 0o644)])
def test_reports_and_specs_are_shared_when_the_user_asks_for_it(
    options: list[str], mode: int, spec: Path, tmp_path: Path
) -> None:
    assert run([*options, "report", str(spec), "--out", str(tmp_path / "html")]) == 0
    assert run([*options, "init", str(tmp_path / "html" / "new.yaml")]) == 0
    modes = _modes(tmp_path / "html")
    assert len(modes) > 2
    assert {name: oct(given) for name, given in modes.items() if Path(name).is_file() and given != mode} == {}
    assert modes[str(tmp_path / "html")] & 0o077 == (0o055 if options else 0)


def test_the_environment_can_ask_for_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED, "1")
    assert run(["init", str(tmp_path / "new.yaml")]) == 0
    assert (tmp_path / "new.yaml").stat().st_mode & 0o777 == 0o644
