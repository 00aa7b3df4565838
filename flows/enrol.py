"""The flow `enrol`: stores profiles of releases whose maker is known, for attribution; it gives no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from prefect import flow

from flows.audit import built_reference
from flows.inputs import check_release, list_set
from flows.results.input_checks import check_rejects
from flows.results.profile_rows import save_profile
from flows.runtime.repairs import repairing
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.tasks import embed_set, process_release, profile_set, search_set
from storage.errors import InputError


@dataclass(frozen=True)
class EnrolledRelease:
    """A run that attribution can name from now on."""

    release: str
    run: str
    images: int
    parts: int
    layers: int
    profile_id: str


@flow(name="enrol", persist_result=False, validate_parameters=False)
@repairing
def enrol_releases(runtime: Runtime, spec: AuditSpec, releases: Sequence[ReleaseSpec]) -> list[EnrolledRelease]:
    """Profile every release and store the profiles; what was enrolled or audited before is not computed again.

    Raises:
        InputError: images that cannot be compared with the reference, or no layer that carries information.
    """
    store = runtime.context(spec).store
    manifests = [check_release(runtime, spec, release) for release in releases]
    reference = built_reference(runtime, spec)
    enrolled = []
    for release, manifest in zip(releases, manifests, strict=True):
        table = embed_set(runtime, spec, reference.facts, manifest, release.label)
        check_rejects(table, release.label, spec.gate.max_rejected)
        nearest = search_set(runtime, spec, reference, table, release.label)
        profile = profile_set(runtime, spec, reference, table, nearest, release.label)
        profile_id = save_profile(store, spec, release, reference, table, profile)
        if profile is None or profile_id is None:
            raise InputError("no layer of this encoder carries information", "set encoder.pooling: mean")
        process_release(
            runtime, spec, reference, table, nearest, partial(list_set, runtime, release.images), release.label
        )
        counts = (table.rows, len(profile.parts), len(profile.layers))
        enrolled.append(EnrolledRelease(release.maker, release.run, *counts, profile_id))
    return enrolled
