"""What a running command shares with its flows: the cluster, and whom to tell how far the work is.

The settings belong to the machine, not to the audit: they change how fast a result comes, never the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from actors.cluster import Cluster, ClusterSettings, PoolSize
from actors.stages import EmbedSettings
from actors.workbench import Progress, Report, Workbench
from flows.artifacts import ProgressArtifacts
from flows.cluster_spec import ClusterSpec
from flows.machine import usable_cores
from flows.spec import AuditSpec
from storage.objects import ObjectStore, open_store

if TYPE_CHECKING:
    from actors.job_cluster import JobCluster

T = TypeVar("T")


class MachineSettings(BaseSettings):
    """Read from the environment: LAYERPRINT_DEVICE, LAYERPRINT_BATCH_SIZE and so on."""

    model_config = SettingsConfigDict(env_prefix="LAYERPRINT_", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the encoder runs")
    cores: int | None = Field(None, ge=1, description="cores to use; None = all that this process may use")
    batch_size: int = Field(32, ge=1, le=4096, description="images per forward pass")
    readers: int = Field(8, ge=1, le=256, description="threads per embedding actor that fetch and decode")
    ray_address: str | None = Field(None, description="a running Ray cluster; None = a Ray of our own")
    embed_hosts: int | None = Field(None, ge=1, description="embedding processes; None = one a GPU, or four cores")
    embed_cpus: float | None = Field(None, gt=0, description="cores that each of them reserves")
    embed_gpus: float = Field(1.0, gt=0, description="GPUs that each of them reserves, where there are any; 0.5 = half")
    layer_hosts: int | None = Field(None, ge=1, description="processes for partitions, searches and scores")

    def gpus(self) -> int:
        """CUDA devices of this machine to use."""
        if self.device == "cpu":
            return 0
        found = len(list(Path("/dev").glob("nvidia[0-9]*")))
        return max(1, found) if self.device == "cuda" else found

    def usable_cores(self) -> int:
        return self.cores or max(1, int(usable_cores()))

    def cluster_settings(self) -> ClusterSettings:
        """The pools on this machine; on a running cluster `fit` sizes them once it is known what that has."""
        cores = self.usable_cores()
        layers = PoolSize(self.layer_hosts or min(cores, 16))
        fit = self.fit if self.ray_address else None
        return ClusterSettings(self._embed(cores, self.gpus()), layers, self.ray_address, fit)

    def fit(self, resources: Mapping[str, float]) -> ClusterSettings:
        """The pools on a cluster of these resources: both have room at once, a quarter of the cores is for layers."""
        cores = int(resources.get("CPU", 1))
        layers = self.layer_hosts or max(1, min(cores // 4, 16))
        gpus = 0 if self.device == "cpu" else int(resources.get("GPU", 0))
        return ClusterSettings(self._embed(max(1, cores - layers), gpus), PoolSize(layers), self.ray_address)

    def _embed(self, cores: int, gpus: int) -> PoolSize:
        """One host a GPU or its share, else one for every four cores: a forward pass uses a few threads well."""
        hosts = self.embed_hosts or int(gpus / self.embed_gpus) or max(1, cores // 4)
        return PoolSize(hosts, self.embed_cpus or max(1, cores // hosts), self.embed_gpus if gpus else 0.0)


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
        self._job_clusters: dict[tuple[str, str], JobCluster] = {}

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

    def bench(self, spec: AuditSpec) -> Workbench:
        """What the stages of a spec work with."""
        store = open_store(spec.store)
        cluster = self.cluster if spec.cluster is None else self._job_cluster(spec.cluster, store)
        return Workbench(store, cluster, self._told)

    def _job_cluster(self, cluster: ClusterSpec, store: ObjectStore) -> JobCluster:
        from actors.job_cluster import JobCluster  # its client takes a third of a second to import
        from flows.cluster_jobs import job_settings

        key = (store.uri, cluster.model_dump_json())
        if key not in self._job_clusters:
            self._job_clusters[key] = JobCluster(job_settings(cluster), store)
        return self._job_clusters[key]

    def embed_settings(self, spec: AuditSpec | None = None) -> EmbedSettings:
        """How an embedding host works, given what it reserves: where the spec says, else on our own cluster."""
        elsewhere = spec.cluster if spec else None
        size = elsewhere.embed if elsewhere else self.cluster.size("embed")
        device = "cuda" if size.gpus else "cpu"
        return EmbedSettings(device, max(1, int(size.cpus)), self.settings.readers, self.settings.batch_size)

    def close(self) -> None:
        """End the Ray of our own, and the jobs that nobody waits for."""
        for elsewhere in self._job_clusters.values():
            elsewhere.close()
        self.cluster.close()

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
        runtime.close()


@contextmanager
def _told(runtime: Runtime, report: Report | None) -> Iterator[None]:
    before, runtime.report = runtime.report, report or runtime.report
    try:
        yield
    finally:
        runtime.report = before


def _silent(progress: Progress) -> None:
    """Progress of a flow that nobody watches."""
