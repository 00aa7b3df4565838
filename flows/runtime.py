"""What a running command shares with its flows: the cluster, and whom to tell how far the work is.

The settings belong to the machine, not to the audit: they change how fast a result comes, never the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from actors.cluster import Cluster, ClusterSettings, PoolSize
from actors.stages import EmbedSettings
from actors.workbench import Progress, Report, Workbench
from flows.artifacts import ProgressArtifacts
from flows.machine import usable_cores
from storage.objects import open_store

T = TypeVar("T")


class MachineSettings(BaseSettings):
    """Read from the environment: LAYERPRINT_DEVICE, LAYERPRINT_BATCH_SIZE and so on."""

    model_config = SettingsConfigDict(env_prefix="LAYERPRINT_", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the encoder runs")
    cores: int | None = Field(None, ge=1, description="cores to use; None = all that this process may use")
    batch_size: int = Field(32, ge=1, le=4096, description="images per forward pass")
    readers: int = Field(8, ge=1, le=256, description="threads per embedding actor that fetch and decode")
    ray_address: str | None = Field(None, description="a running Ray cluster; None = a Ray of our own")

    def gpus(self) -> int:
        """CUDA devices to use, one embedding actor each."""
        if self.device == "cpu":
            return 0
        found = len(list(Path("/dev").glob("nvidia[0-9]*")))
        return max(1, found) if self.device == "cuda" else found

    def usable_cores(self) -> int:
        return self.cores or max(1, int(usable_cores()))

    def embed_settings(self) -> EmbedSettings:
        gpus = self.gpus()
        threads = max(1, self.usable_cores() // self._embed_hosts())
        return EmbedSettings("cuda" if gpus else "cpu", threads, self.readers, self.batch_size)

    def cluster_settings(self) -> ClusterSettings:
        cores, hosts = self.usable_cores(), self._embed_hosts()
        embed = PoolSize(hosts, cpus=max(1, cores // hosts), gpus=1.0 if self.gpus() else 0.0)
        return ClusterSettings(embed=embed, layers=PoolSize(min(cores, 16)), address=self.ray_address)

    def _embed_hosts(self) -> int:
        """One host a GPU, else one for every four cores: a forward pass uses a few threads well."""
        return self.gpus() or max(1, self.usable_cores() // 4)


class Runtime:
    """The cluster, the machine's settings and the progress of one command.

    ``forward_images`` counts the images that went through the encoder since the command began.
    """

    def __init__(self, report: Report) -> None:
        self.settings = MachineSettings()
        self.cluster = Cluster(self.settings.cluster_settings())
        self.report = report
        self.forward_images = 0
        self._artifacts = ProgressArtifacts()
        self._made: dict[tuple[str, str], Any] = {}

    def once(self, kind: str, key: str, make: Callable[[], T]) -> T:
        """What `make` gives, made at most once per command for this kind and key."""
        if (kind, key) not in self._made:
            self._made[kind, key] = make()
        made: T = self._made[kind, key]
        return made

    def forget(self) -> None:
        """Begin as a fresh command does."""
        self._made.clear()
        self.forward_images = 0

    def bench(self, store_uri: str) -> Workbench:
        return Workbench(open_store(store_uri), self.cluster, self._told)

    def _told(self, progress: Progress) -> None:
        self.report(progress)
        self._artifacts.report(progress)


_running: list[Runtime] = []


@contextmanager
def running(report: Report | None = None) -> Iterator[Runtime]:
    """The runtime of the command or flow around us, else a new one that ends with this block."""
    if _running:
        with _told(_running[-1], report):
            yield _running[-1]
        return
    runtime = Runtime(report or _silent)
    _running.append(runtime)
    try:
        yield runtime
    finally:
        _running.remove(runtime)
        runtime.cluster.close()


@contextmanager
def _told(runtime: Runtime, report: Report | None) -> Iterator[None]:
    before, runtime.report = runtime.report, report or runtime.report
    try:
        yield
    finally:
        runtime.report = before


def _silent(progress: Progress) -> None:
    """Progress of a flow that nobody watches."""
