"""A real Prefect server, a real Ray and a small laboratory of digit images on a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("DO_NOT_TRACK", "1")

from actors.ray_cluster.local import Cluster
from flows.audit import AuditReport, audit
from flows.demo.data import split_digits, write_png_set
from flows.runtime.runtime import Runtime, running
from flows.runtime.settings import MachineSettings
from flows.spec.spec import AuditSpec, load_spec
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store

LAB = "s3://test/lab"
TRAIN, HELD_OUT, UNSEEN, COPIES = 160, 140, 100, 80


class SharedCluster(Cluster):
    """A Ray that outlives the commands that use it."""

    def close(self) -> None:
        """Keep it for the next command."""


@pytest.fixture(scope="session")
def services(s3: EmbeddedS3) -> Iterator[None]:
    """One Prefect server and one Ray for all runtimes; Ray starts after the AWS variables are set."""
    from prefect.testing.utilities import prefect_test_harness

    cluster = SharedCluster(MachineSettings().cluster_settings())
    with prefect_test_harness(server_startup_timeout=120), pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.runtime.runtime.Cluster", lambda _settings: cluster)
        yield
    Cluster.close(cluster)


@pytest.fixture
def runtime(services: None) -> Iterator[Runtime]:
    """The runtime of a fresh command."""
    with running() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def lab(s3: EmbeddedS3) -> str:
    """PNG digits: train, held_out, unseen, copies (of train images), and fresh (other copies)."""
    digits = split_digits(0)
    sets = {
        "train": digits.train[:TRAIN],
        "held_out": digits.held_out[:HELD_OUT],
        "unseen": digits.unseen[:UNSEEN],
        "copies": digits.train[:COPIES],
        "fresh": digits.train[COPIES:TRAIN],
    }
    for name, images in sets.items():
        write_png_set(images, open_store(LAB).put, f"{name}/")
    return LAB


def laboratory_spec(lab: str, store: str) -> dict[str, Any]:
    """The content of a spec that audits copies and unseen digits."""
    return {
        "store": store,
        "encoder": {
            "model": "test_vit",
            "weights": "random",
            "image_size": 8,
            "model_args": {"patch_size": 4},
        },
        "reference": {"name": "digits", "train": f"{lab}/train/", "held_out": f"{lab}/held_out/"},
        "releases": [
            {"name": "copies", "family": "memorizer", "images": f"{lab}/copies/"},
            {"name": "unseen", "version": 2, "images": f"{lab}/unseen/"},
        ],
        "scoring": {"cells": 2, "components": 16},
        "gate": {"detectable_copy_rate": 0.1},
    }


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    """Write a file and return its path."""
    path.write_text(yaml.safe_dump(content))
    return path


Write = Callable[..., Path]


@pytest.fixture
def write_spec(lab: str, s3_prefix: str, tmp_path: Path) -> Write:
    """Writes a spec for the laboratory; keyword arguments replace its top-level parts."""

    def write(**parts: Any) -> Path:
        return write_yaml(tmp_path / "spec.yaml", laboratory_spec(lab, f"{s3_prefix}/audits") | parts)

    return write


@pytest.fixture
def spec(write_spec: Write) -> AuditSpec:
    """The laboratory's spec, with a store of its own."""
    return load_spec(write_spec())


@pytest.fixture(scope="session")
def audited_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the store of `audited`."""
    return tmp_path_factory.mktemp("audited") / "audits"


@pytest.fixture(scope="session")
def audited(lab: str, services: None, audited_folder: Path) -> AuditReport:
    """The audits of the laboratory's releases, in a store that tests copy with `audited_path`."""
    path = audited_folder.with_name("spec.yaml")
    with running() as runtime:
        return audit(runtime, load_spec(write_yaml(path, laboratory_spec(lab, str(audited_folder)))))


@pytest.fixture
def audited_path(audited: AuditReport, audited_folder: Path, write_spec: Write, tmp_path: Path) -> Path:
    """A file with the laboratory's spec over a copy of the store of `audited`."""
    shutil.copytree(audited_folder, tmp_path / "audits")
    return write_spec(store=str(tmp_path / "audits"))


@pytest.fixture
def audited_spec(audited_path: Path) -> AuditSpec:
    """The laboratory's spec over a copy of the store of `audited`."""
    return load_spec(audited_path)


class DemoRun(NamedTuple):
    """A demo that ran as a user runs it: its folder, its two documents, and how long each run took."""

    folder: Path
    first: dict[str, Any]
    second: dict[str, Any]
    seconds: tuple[float, float]


@pytest.fixture(scope="session")
def demo(processes: None, tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """`layerprint demo` twice, each in a process of its own, with a Prefect home of its own."""
    folder = tmp_path_factory.mktemp("demo")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_"))}
    env["PREFECT_HOME"] = str(folder / "prefect")
    documents, seconds = [], []
    for _ in range(2):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli.main", "demo", "--json"],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=560,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        documents.append(json.loads(done.stdout))
        seconds.append(time.monotonic() - began)
    return DemoRun(folder / "layerprint-demo", documents[0], documents[1], (seconds[0], seconds[1]))
