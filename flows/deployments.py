"""The flows to deploy: `layerprint serve` and ``deploy/prefect.yaml`` run them by schedule or on demand.

Their parameters are plain JSON: a spec is the path or ``s3://`` URI of its file, a release its ``NAME[@VERSION]``. They
return the URIs of what they wrote; the message of their final state is the result in words. Tasks that embed have the
tag ``layerprint-embed``: after ``prefect concurrency-limit create layerprint-embed 1`` one runs at a time, in all flow
runs together.
"""

from __future__ import annotations

import warnings
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import attribute as attribution, audit as audits, sweep as sweeps
from flows.maintain import maintain
from flows.orchestration.ray_jobs import reap_jobs
from flows.report.publish import publish
from flows.results.audit_result import NO_COPYING
from flows.runtime.runtime import running
from flows.spec.live_spec import load_live_spec
from flows.sweep import SETTLE_S, SweepReport
from storage.objects.open import open_store
from storage.results.tables import result_key

for library in ("lance is not fork-safe", "lancedb fork support"):
    warnings.filterwarnings("ignore", message=library)  # a fork that becomes Ray at once is harmless


@flow(name="sweep_releases", persist_result=False)
def sweep_releases(spec: str, settle_seconds: float = SETTLE_S) -> State[SweepReport]:
    """Audit every release of a spec that is new, changed or stale; one that fails does not stop the others.

    Args:
        spec: Path or s3:// URI of the spec.
        settle_seconds: A release that changes within so many seconds is left to the next sweep.
    """
    with running() as runtime:
        return sweeps.sweep_releases.fn(runtime, spec, settle_seconds)


@flow(name="audit_release", persist_result=False)
def audit_release(spec: str, release: str, gate: bool = False) -> State[str]:
    """Audit one release of a spec by its name; returns the URI of its row in `audits`.

    Args:
        spec: Path or s3:// URI of the spec.
        release: NAME or NAME@VERSION.
        gate: End as failed unless the release is judged and free of copying.
    """
    loaded = load_live_spec(spec).spec
    chosen = loaded.release(release)
    with running() as runtime:
        outcome = audits.audit_release.fn(runtime, loaded, chosen)
        missing = publish(loaded, chosen, outcome)
    uri = open_store(loaded.store).child_uri(result_key("audits", outcome.audit_id))
    message = "; ".join([f"{outcome.label}: {outcome.verdict}", *missing])
    if gate and outcome.verdict != NO_COPYING:
        return Failed(message=message)
    return Completed(message=message, data=uri)


@flow(name="build_reference", persist_result=False)
def build_reference(spec: str) -> State[str]:
    """Build the reference of a spec: embed train and held-out images, fit partitions; returns their URI.

    Args:
        spec: Path or s3:// URI of the spec.
    """
    loaded = load_live_spec(spec).spec
    with running() as runtime:
        built = audits.build_reference.fn(runtime, loaded)
        audits.built_copy_reference(runtime, loaded)
    uri = open_store(loaded.store).child_uri(built.tables.partition)
    return Completed(message=f"{built.tables.train.rows} train and {built.tables.held_out_images} held-out", data=uri)


@flow(name="attribute_images", persist_result=False)
def attribute_images(spec: str, images: str, reject: float = 0.05, unknown: float = 0.5) -> State[dict[str, Any]]:
    """Attribute a set of images to an enrolled release; writes the rows of `attributions` and returns the answer.

    Args:
        spec: Path or s3:// URI of the spec.
        images: A set of images, as in the spec.
        reject: Level at which a maker is refused.
        unknown: Prior probability that the maker is not enrolled.
    """
    loaded = load_live_spec(spec).spec
    with running() as runtime:
        result = attribution.attribute_images.fn(runtime, loaded, images, reject=reject, unknown=unknown)
    return Completed(message=result.answer.sentence, data=result.to_json())


@flow(name="maintain_store", persist_result=False)
def maintain_store(spec: str, keep_days: float = 30.0, dry_run: bool = False) -> State[dict[str, Any]]:
    """Remove from a spec's store what nothing refers to; stop Ray jobs whose flow run has ended.

    Results and tagged versions always stay.

    Args:
        spec: Path or s3:// URI of the spec.
        keep_days: Anything younger stays, since a running stage may need it.
        dry_run: Only report what would be removed.
    """
    loaded = load_live_spec(spec).spec
    jobs = reap_jobs(loaded.cluster, dry_run) if loaded.cluster else []
    done = maintain(loaded.store, keep_days, dry_run)
    stopped = f"; {'would stop' if dry_run else 'stopped'} {len(jobs)} Ray jobs" if jobs else ""
    return Completed(message=done.sentence + stopped, data={**done.to_json(), "jobs": jobs})
