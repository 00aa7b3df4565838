"""Every command in the README is run."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from flows.cli.main import run
from flows.runtime.runtime import Runtime
from flows.spec.example import EXAMPLE
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store
from tests.flows.conftest import DemoRun
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.timeout(600)


def commands(block: int) -> list[list[str]]:
    """The commands of the n-th console block of the README, split as by a shell."""
    text = re.findall(r"```console\n(.*?)```", README, re.DOTALL)[block]
    return [shlex.split(line.removeprefix("$ layerprint ")) for line in text.splitlines()]


def test_every_command_of_the_readme_is_in_a_console_block() -> None:
    assert len(re.findall(r"^\$ layerprint ", README, re.MULTILINE)) == len(commands(0)) + len(commands(1))


def test_the_readme_shows_the_example_spec() -> None:
    assert f"```yaml\n{EXAMPLE}```" in README


def test_the_commands_of_an_audit(
    runtime: Runtime, lab: str, s3: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {
        "s3://data/cifar10/train": "train",
        "s3://data/cifar10/test": "held_out",
        "s3://releases/glow/80": "unseen",
        "s3://releases/glow/80-again": "unseen",
        "s3://suspects/batch-7": "unseen",
    }
    for place, source in places.items():
        s3.make_bucket(place.split("/")[2])
        for info in open_store(f"{lab}/{source}").list():
            open_store(place).put(info.key, open_store(f"{lab}/{source}").get(info.key))
    monkeypatch.chdir(tmp_path)
    for command in commands(0):
        assert run(command) == 0, command
        if command[0] == "init":  # use a model that needs no download
            spec = yaml.safe_load((tmp_path / "spec.yaml").read_text())
            spec["encoder"] |= {
                "model": "test_vit",
                "weights": "random",
                "image_size": 8,
                "model_args": {"patch_size": 4},
            }
            spec["scoring"]["cells"] = 2
            spec["gate"]["detectable_copy_rate"] = 0.1  # the laboratory has few images
            (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))


def test_the_commands_after_the_demo(
    demo: DemoRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo.folder.parent)
    for command in commands(1):
        assert run(command) == 0, command
        assert len(capsys.readouterr().out.splitlines()) > 1, command


def test_the_commands_that_the_demo_suggests(demo: DemoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.folder.parent)
    assert len(demo.first["next_commands"]) == 3
    for line in demo.first["next_commands"]:
        name, *arguments = shlex.split(line)
        assert Path(name).name in ("layerprint", "main.py")  # the latter if it is run as a module
        assert run(arguments) == 0, line


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_pictures_of_the_readme_exist() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).stat().st_size > 1000


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_modules_commands_and_files_of_the_pages_exist(page: Path) -> None:
    text, root = page.read_text(encoding="utf-8"), page.parents[1]
    for module in set(re.findall(r"python -m ([a-z_.]+)", text)):
        assert find_spec(module), module
    for command in set(re.findall(r"`layerprint ([a-z]+)", text)):
        assert run([command, "--help"]) == 0, command
    for path in set(re.findall(r"`((?:scoring|storage|actors|flows)/[a-z_/]+\.py)`", text)):
        assert (root / path).is_file(), path
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (page.parent / picture).is_file(), picture
