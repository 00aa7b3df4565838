"""A command with a Ray and a Prefect server of its own, as an audit has them while it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.processes import descendants, kill

WORKS = """
import json, os, sys
from pathlib import Path
from flows.orchestration.local_server import prefect_server
from actors.ray_cluster.local import Cluster, ClusterSettings, PoolSize
from prefect.settings import PREFECT_API_URL, PREFECT_HOME
import ray

size = PoolSize(1, cpus=0.5)
with prefect_server(), Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
    assert dict(cluster.pool("layers").run(abs, [-1])) == {0: 1}
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    facts = {"gcs": ray.get_runtime_context().gcs_address, "ray": str(session.parents[1]), "session": str(session)}
    facts |= {"prefect": PREFECT_API_URL.value(), "home": str(PREFECT_HOME.value())}
    print(json.dumps(facts), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Command:
    """A command that works: its process, and the addresses and folders of its services."""

    pid: int
    gcs: str
    ray: Path
    session: Path
    prefect: str
    home: Path


def clean_environment(folder: Path) -> dict[str, str]:
    """An environment with no setting of the user, whose homes are in a folder."""
    ours = ("AWS_", "PREFECT_", "RAY_", "XDG_", "LAYERPRINT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }


def start_command(folder: Path) -> tuple[subprocess.Popen[str], Command]:
    """Start a command and wait until its services run."""
    with (folder / "command.err").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKS],
            cwd=ROOT,
            env=clean_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "command.err").read_text()
    facts = json.loads(line)
    ray, session, home = (Path(facts[name]) for name in ("ray", "session", "home"))
    return process, Command(process.pid, facts["gcs"], ray, session, facts["prefect"], home)


@pytest.fixture(scope="session")
def command(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """One command for all tests that only look at it."""
    process, started = start_command(tmp_path_factory.mktemp("command"))
    yield started
    try:
        process.communicate(timeout=30)
    finally:
        kill(descendants(process.pid))
        process.wait()
