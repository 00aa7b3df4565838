"""What a running command shares with its flows: the cluster, and whom to tell how far the work is.

The settings belong to the machine, not to the audit: they change how fast a result comes, never the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from actors.ray_cluster.local import Cluster
from actors.stages.context import Progress, Report, StageContext
from actors.workers.embed import EmbedSettings
from flows.orchestration.artifacts import ProgressArtifacts
from flows.runtime.settings import MachineSettings
from flows.spec.cluster import ClusterSpec
from flows.spec.spec import AuditSpec
from storage.objects.open import ObjectStore, open_store

if TYPE_CHECKING:
    from actors.ray_job.client import JobCluster

T = TypeVar("T")


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

    def context(self, spec: AuditSpec) -> StageContext:
        """What the stages of a spec work with."""
        store = open_store(spec.store)
        cluster = self.cluster if spec.cluster is None else self._job_cluster(spec.cluster, store)
        return StageContext(store, cluster, self._told)

    def _job_cluster(self, cluster: ClusterSpec, store: ObjectStore) -> JobCluster:
        from actors.ray_job.client import JobCluster  # its client takes a third of a second to import
        from flows.orchestration.ray_jobs import job_settings

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
