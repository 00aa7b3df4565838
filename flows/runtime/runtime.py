"""The runtime of a command: its cluster, machine settings and progress, and the values that it makes once.

The settings belong to the machine, not to the audit: they change how fast a result comes, never the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from actors.ray_cluster.local import Cluster
from actors.stages.context import Progress, Report, StageContext
from actors.stages.copies import CopyReference
from actors.workers.embed import EmbedSettings
from flows.orchestration.artifacts import ProgressArtifacts
from flows.results.identity import OpenedReference, Reference
from flows.runtime.once import Once
from flows.runtime.settings import MachineSettings
from flows.spec.cluster import ClusterSpec
from flows.spec.spec import AuditSpec
from scoring.attribution.enrolment import Enrolment
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
from storage.objects.open import ObjectStore, open_store

if TYPE_CHECKING:
    from actors.ray_job.client import JobCluster


class Runtime:
    """What one command shares with its flows and tasks, which take it as their first argument.

    Prefect keeps what it can read of a flow's arguments in its database. Slots leave it nothing to read: it keeps
    ``"<Runtime>"``, and no token of a cluster.

    Args:
        report: Receives the progress of the stages.

    Attributes:
        report: As given.
        settings: The machine's settings.
        cluster: The Ray of this command.
        forward_images: Images that went through the encoder so far.
        manifests: Image sets by URI: each is listed once.
        warned: URIs of the sets whose left-out files were logged.
        opened: References whose sets passed their checks, by `reference_key`.
        references: Built references, by `reference_key`.
        copy_references: What releases are compared with for copies, by the reference and the settings of the score.
        enrolments: What attribution learned, by the digest of the enrolled profiles.
    """

    __slots__ = (
        "_artifacts",
        "_job_clusters",
        "cluster",
        "copy_references",
        "enrolments",
        "forward_images",
        "manifests",
        "opened",
        "references",
        "report",
        "settings",
        "warned",
    )

    def __init__(self, report: Report) -> None:
        self.settings = MachineSettings()
        self.cluster = Cluster(self.settings.cluster_settings())
        self.forward_images = 0
        self.manifests: Once[Manifest] = Once()
        self.warned: set[str] = set()
        self.opened: Once[OpenedReference] = Once()
        self.references: Once[Reference] = Once()
        self.copy_references: Once[CopyReference] = Once()
        self.enrolments: Once[Enrolment] = Once()
        self.report = report
        self._artifacts = ProgressArtifacts()
        self._job_clusters: Once[JobCluster] = Once()

    def listed(self, uri: str) -> Manifest:
        """The manifest of an image set, listed once per command.

        Raises:
            InputError: see `storage.image_sets.open.list_images`.
        """
        return self.manifests.get(uri, lambda: list_images(uri))

    def context(self, spec: AuditSpec) -> StageContext:
        """What the stages of a spec work with."""
        store = open_store(spec.store)
        cluster = self.cluster if spec.cluster is None else self._job_cluster(spec.cluster, store)
        return StageContext(store, cluster, self._report_progress)

    def _job_cluster(self, cluster: ClusterSpec, store: ObjectStore) -> JobCluster:
        from actors.ray_job.client import JobCluster  # its client takes a third of a second to import
        from flows.orchestration.ray_jobs import job_settings

        key = f"{store.uri}\n{cluster.model_dump()}"
        return self._job_clusters.get(key, lambda: JobCluster(job_settings(cluster), store))

    def embed_settings(self, spec: AuditSpec | None = None) -> EmbedSettings:
        """How an embedding process uses the cores and GPUs that it reserves, on the spec's cluster or on ours."""
        elsewhere = spec.cluster if spec else None
        size = elsewhere.embed if elsewhere else self.cluster.size("embed")
        device = "cuda" if size.gpus else "cpu"
        return EmbedSettings(device, max(1, int(size.cpus)), self.settings.readers, self.settings.batch_size)

    def close(self) -> None:
        """End this command's Ray and its Ray jobs."""
        for cluster in self._job_clusters.values():
            cluster.close()
        self.cluster.close()

    def _report_progress(self, progress: Progress) -> None:
        self.report(progress)
        self._artifacts.report(progress)


def _silent(progress: Progress) -> None:
    """Ignore the progress."""


@contextmanager
def running(report: Report = _silent) -> Iterator[Runtime]:
    """A runtime that ends with this block; a command or deployment opens one and hands it on."""
    runtime = Runtime(report)
    try:
        yield runtime
    finally:
        runtime.close()
