"""The scripts of examples/ and the Python of the README, run as a user runs them: each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from examples.audit_three_folders import ENCODER
from tests.flows.docs.pages import blocks
from tests.paths import ROOT

pytestmark = pytest.mark.timeout(600)


class Example(NamedTuple):
    """The first example after it ran: its folder, which holds images and store, and what it printed."""

    folder: Path
    printed: str


def python(folder: Path, *arguments: str) -> str:
    """What a Python process prints that runs in a folder, with a Prefect home of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_"))}
    env |= {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def example(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Example:
    folder = tmp_path_factory.mktemp("example")
    return Example(folder, python(folder, str(ROOT / "examples" / "audit_three_folders.py"), "."))


def test_three_folders(example: Example) -> None:
    verdict, sentence, *copies, report = example.printed.splitlines()
    assert verdict == "copying"
    assert "500 images" in sentence
    found = [(line.split()[0], line.split()[5]) for line in copies]
    right = [image for image, train in found if image == train and image < "0025.png"]
    assert len(right) == len(set(right)) >= 20  # of 25
    assert len(right) >= 0.8 * len(found)
    assert (example.folder / report.removeprefix("report: ")).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_sql(example: Example) -> None:
    printed = python(example.folder, str(ROOT / "examples" / "ask_in_sql.py"), "audits")
    for line in ("mixture", "copying"):
        assert line in printed
    assert len(re.findall(r"0000\.png +│ 0000\.png", printed)) >= 1


def test_the_python_of_the_readme(example: Example) -> None:
    (code,) = blocks("README.md", "python")
    assert code.count('"vit_small_patch14_dinov2.lvd142m"') == 1
    code = code.replace('"vit_small_patch14_dinov2.lvd142m"', repr(ENCODER))  # one that needs no download
    assert "copying" in python(example.folder, "-c", code)
