"""Real deaths in mid-audit: of the command, and of a machine. In the end every image has its row, once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from prefect.settings import PREFECT_API_URL

from actors.ray_cluster.private_ray import RAY_ENVIRONMENT
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore
from tests.flows.conftest import Write
from tests.paths import ROOT
from tests.processes import alive, descendants, kill, name_of, wait_until

pytestmark = pytest.mark.timeout(600)  # processes of their own start slowly on a busy machine

SIZES = {"train": 2000, "held_out": 300, "release": 200}
SHARDS = 8 + 2 + 1
SHARD = 256


class Command(NamedTuple):
    """A command that runs, and the files with what it prints."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def said(self) -> str:
        """What it printed beside its result, without line breaks."""
        return " ".join(self.err.read_text().split())


@dataclass(frozen=True)
class Job:
    """An audit of noise on S3 that a user starts with one command, in shards of 256 images."""

    spec: Path
    store: ObjectStore
    images: dict[str, NDArray[np.uint8]]
    environment: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *arguments: str, **settings: str) -> Command:
        """Start it with the session's Prefect server; its output goes to files: its children would keep a pipe open."""
        out, err = (self.spec.with_name(f"{name}.{stream}") for stream in ("out", "err"))
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli.main", "audit", str(self.spec), *arguments],
                env={**self.environment, **settings},
                cwd=ROOT,
                stdout=to_out,
                stderr=to_err,
            )
        self.started.append(process)
        return Command(process, out, err)

    def receipts(self) -> int:
        return sum(1 for _ in self.store.list("receipts/"))

    def wait_for_the_middle(self, command: Command) -> None:
        """Until some shards of the first set are done, and by far not all."""
        ended = command.process.poll
        wait_until(lambda: self.receipts() >= 2 or ended() is not None, 200, "two finished shards")
        assert ended() is None, command.err.read_text()
        assert self.receipts() < 7
        assert not list(self.store.list("tables/"))

    def check_rows(self) -> None:
        """Every image of every set has exactly one row in the one table of its set."""
        vectors = VectorStore(self.store)
        names = [info.key.removeprefix("tables/").removesuffix(".json") for info in self.store.list("tables/")]
        tables = [table for name in names if (table := vectors.committed(name)) and name.startswith("images-")]
        assert sorted(table.rows for table in tables) == sorted(SIZES.values())
        for table in tables:
            (images,) = [images for images in self.images.values() if len(images) == table.rows]
            rows = vectors.dataset(table.name, table.version).to_table(columns=["row", "sha256"])
            assert rows["row"].to_pylist() == list(range(len(images)))
            assert set(rows["sha256"].to_pylist()) == {hashlib.sha256(image).hexdigest() for image in images}
            assert table.rejects == []
        assert self.receipts() == SHARDS
        assert len(list(self.store.list("results/audits/"))) == 1


@pytest.fixture
def job(services: None, write_spec: Write, s3_prefix: str, tmp_path: Path) -> Iterator[Job]:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for name, n in SIZES.items()}
    data = open_store(f"{s3_prefix}/data")
    for name, array in images.items():
        sink = io.BytesIO()
        np.savez(sink, x=array)
        data.put(f"{name}.npz", sink.getvalue())
    uris = {name: f"{data.uri}/{name}.npz#x" for name in images}
    spec = write_spec(
        reference={"name": "noise", "train": uris["train"], "held_out": uris["held_out"]},
        releases=[{"name": "noise", "images": uris["release"]}],
        copies=False,  # tokens are embedded like embeddings: one table per set is simpler to count
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "LAYERPRINT_"))}
    # Two images at a time, so that there is a middle to be killed in; what comes out is the same.
    own = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "LAYERPRINT_BATCH_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    made = Job(spec, open_store(f"{s3_prefix}/audits"), images, {**clean, **own})
    yield made
    for process in made.started:  # those of a test that failed
        kill(descendants(process.pid))
        process.wait()


class TestTheCommand:
    def test_killed_and_run_again(self, job: Job) -> None:
        """First its embedding process, then the command itself.

        The command is the flow and, with a Ray of its own, the driver: SIGKILL lets it clean up nothing.
        """
        command = job.start("first")
        job.wait_for_the_middle(command)
        kill([one for one in descendants(command.process.pid) if "ray::_Process" in name_of(one)])
        before = job.receipts()
        wait_until(lambda: job.receipts() > before, 100, "another finished shard")

        _, *others = descendants(command.process.pid)
        assert any("raylet" in name_of(one) for one in others)
        kill([command.process.pid])
        command.process.wait()
        told = (
            r"! embed: a process died at task \d+, because it was killed or it crashed; it is sent to another process"
        )
        assert re.search(told, command.said())
        wait_until(lambda: not any(map(alive, others)), 20, "the end of what it started")
        kept = job.receipts()
        assert 2 <= kept < 7  # full shards of the first set

        again = job.start("again", "--json", LAYERPRINT_BATCH_SIZE="32")
        assert again.process.wait(200) == 0, again.err.read_text()
        assert json.loads(again.out.read_text())["forward_images"] == sum(SIZES.values()) - kept * SHARD
        job.check_rows()


@dataclass(frozen=True)
class Nodes:
    """A head without cores and two workers, each with an address of its own."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def nodes(job: Job) -> Iterator[Nodes]:
    folder = tempfile.mkdtemp(prefix="lp-ray-", dir="/tmp")  # the path of a socket may have 107 characters
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    started: list[subprocess.Popen[bytes]] = []
    environment = {**job.environment, **RAY_ENVIRONMENT}

    def start(host: str, *arguments: str) -> None:
        """Start a node and wait until it runs: two that start at once can block each other."""
        common = [f"--node-ip-address={host}", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        command = [str(Path(sys.executable).with_name("ray")), "start", *arguments, *common]
        log = Path(folder) / f"{host}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        started.append(process)
        wait_until(lambda: "will now block" in log.read_text() or process.poll() is not None, 100, f"the node {host}")
        assert process.poll() is None, log.read_text()

    try:
        head = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}"]
        start("127.0.0.2", *head)
        start("127.0.0.3", f"--address=127.0.0.2:{port}", "--num-cpus=2")
        start("127.0.0.4", f"--address=127.0.0.2:{port}", "--num-cpus=2")
        yield Nodes(f"127.0.0.2:{port}", started[1:])
    finally:
        for process in started:
            kill(descendants(process.pid))
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


class TestAMachine:
    def test_one_of_two_dies_in_mid_audit(self, job: Job, nodes: Nodes) -> None:
        """Each worker node has one embedding process; what the dead one was at is done by the other."""
        command = job.start(
            "audit",
            LAYERPRINT_RAY_ADDRESS=nodes.address,
            LAYERPRINT_EMBED_HOSTS="2",
            LAYERPRINT_EMBED_CPUS="1",
            LAYERPRINT_LAYER_HOSTS="1",
        )
        job.wait_for_the_middle(command)
        kill(descendants(nodes.workers[0].pid))
        assert command.process.wait(250) == 0, command.err.read_text()
        told = r"! embed: a process died at task \d+, because its node was lost; it is sent to another process"
        assert re.search(told, command.said())
        assert "noise@1" in command.out.read_text()
        job.check_rows()
