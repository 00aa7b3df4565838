"""The flow `attribute_images`: which enrolled release is nearest to an unlabelled set of images?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import flow

from flows.audit import embed_set, known_reference, list_set, score_release, search_set
from flows.checks import FileFacts, check_counts, check_rejects, check_same_files
from flows.identity import Reference, scoring_digest
from flows.runtime import running
from flows.spec import AuditSpec
from scoring.profile import Match, Profile, nearest_profile
from storage.errors import InputError
from storage.objects import ObjectStore
from storage.results import read_result


@dataclass(frozen=True)
class Attribution:
    """The enrolled releases by the distance of their profile, nearest first.

    ``matches[i].d2`` is the squared Mahalanobis distance D² of METHOD §5, and ``p_value`` the chance that two
    image sets of one maker differ by as much; when even the nearest is small, none of them made the images.
    """

    images_uri: str
    images: int
    matches: list[Match]


@flow(name="attribute_images", persist_result=False, validate_parameters=False)
def attribute_images(spec: AuditSpec, images: str, label: str = "images") -> Attribution:
    """Compare a set of images with every release audited in the spec's store under the same digests.

    Raises:
        InputError: unusable images, or nothing is enrolled to compare with.
    """
    with running() as runtime:
        store = runtime.bench(spec.store).store
        reference = known_reference(spec)
        enrolled = enrolled_profiles(store, spec, reference)
        manifest = list_set(runtime, images)
        check_counts({label: manifest}, spec.scoring.cells)
        table = embed_set(spec, reference.facts, manifest, label)
        check_rejects(table, label, spec.gate.max_rejected)
        check_same_files(FileFacts.of(reference.tables.train), FileFacts.of(table), label)
        nearest = search_set(spec, reference, table, label)
        scored = score_release(spec, reference, table, nearest, label)
        if scored.joined is None:
            raise InputError("no layer of this encoder carries information", "set encoder.pooling: mean")
        return Attribution(images, table.rows, nearest_profile(*scored.joined.profile, enrolled))


def enrolled_profiles(store: ObjectStore, spec: AuditSpec, reference: Reference) -> dict[str, Profile]:
    """The latest profile of every release that was audited under the same reference, encoder and scoring.

    Raises:
        InputError: there is none; the message says what the store holds instead.
    """
    audits = {row["audit_id"]: row for row in read_result(store, "audits").to_pylist()}
    rows = [row for row in read_result(store, "profiles").to_pylist() if row["audit_id"] in audits]
    same = [row for row in rows if _comparable(row, spec, reference)]
    if not same:
        other = len({row["audit_id"] for row in rows})
        raise InputError(
            f"store: {store.uri} has no profile to compare with"
            + (f" ({other} were made under another encoder, reference or scoring)" if other else ""),
            "audit the releases first: layerprint audit SPEC",
        )
    newest = sorted(same, key=lambda row: audits[row["audit_id"]]["created_at"])
    by_release = {(row["release"], row["version"]): row["audit_id"] for row in newest}
    return {
        f"{release}@{version}": _profile([row for row in same if row["audit_id"] == audit_id])
        for (release, version), audit_id in by_release.items()
    }


def _comparable(row: dict[str, Any], spec: AuditSpec, reference: Reference) -> bool:
    return (row["reference_digest"], row["scoring_digest"]) == (reference.digest, scoring_digest(spec))


def _profile(rows: list[dict[str, Any]]) -> Profile:
    ordered = sorted(rows, key=lambda row: row["layer"])
    x: NDArray[np.float64] = np.array([row["logit_a"] for row in ordered])
    return Profile(x, np.array([row["covariance"] for row in ordered]))
