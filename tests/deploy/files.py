"""The files of `deploy/`, and the tools that judge them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import ROOT

DEPLOY = ROOT / "deploy"


def tool(name: str, package: str) -> str:
    """The path of a program.

    A machine without it skips the test and says which package has it; where all tests must run
    (``LAYERPRINT_ALL_TESTS=1``) it fails.
    """
    scripts = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(name, path=scripts)
    if found is None:
        reason = f"{name} is not installed ({package})"
        if os.environ.get("LAYERPRINT_ALL_TESTS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def ran(*command: str, **variables: str) -> str:
    """What a command printed; its errors are the failure's message."""
    done = subprocess.run(
        command, env=os.environ | variables, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def texts() -> dict[Path, str]:
    """Every file of `deploy/`, and the other files of a deployment."""
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    return {path: path.read_text() for path in [*files, ROOT / ".dockerignore"]}
