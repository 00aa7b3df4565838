"""The Parquet rows of profiles: audits and enrolment write them, attribution reads them."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.workers.profile import SetProfile
from flows.results.identity import Reference, profile_identity, scoring_digest
from flows.spec.spec import AuditSpec, ReleaseSpec
from scoring.attribution.profile import Profile, Run, merged
from scoring.partition.moments import Moments
from storage.errors import InputError
from storage.objects.open import ObjectStore
from storage.results.tables import read_result, write_result
from storage.vectors.tables import EmbeddingTable

Row = dict[str, Any]


class Enrolled(NamedTuple):
    """An enrolled run, where its embeddings are, (table, version), and where its images were."""

    run: Run
    table: tuple[str, int]
    profile_id: str
    images_uri: str


def save_profile(
    store: ObjectStore,
    spec: AuditSpec,
    release: ReleaseSpec,
    reference: Reference,
    table: EmbeddingTable,
    profile: SetProfile | None,
) -> str | None:
    """Write the rows of one profile; returns its name, or None when no layer is informative."""
    if profile is None:
        return None
    profile_id = profile_identity(spec, release, reference, table.name)
    common = {
        "profile_id": profile_id,
        "release": release.name,
        "version": release.version,
        "run": release.run,
        "family": release.family or "",
        "n": reference.tables.held_out_images,
        "seed": reference.tables.seed,
        "table": table.name,
        "table_version": table.version,
        "images_uri": release.images,
        "reference_digest": reference.digest,
        "encoder_digest": reference.facts.digest,
        "scoring_digest": scoring_digest(spec),
        "created_at": dt.datetime.now(dt.UTC),
    }
    sets = [profile.whole, *profile.parts]
    rows = [
        {**common, **_layer_row(profile, images, part, i)}
        for part, images in enumerate(sets)
        for i in range(len(profile.layers))
    ]
    write_result(store, "profiles", profile_id, rows)
    return profile_id


def _layer_row(profile: SetProfile, images: Profile, part: int, i: int) -> Row:
    row = {"part": part, "layer": profile.layers[i], "m": images.images, "c_t": float(images.c_t[i])}
    row["placement"] = float(images.placed.mean[i])
    if part == 0:
        x, covariance = profile.curve
        return row | {
            "logit_a": float(x[i]),
            "variance": float(covariance[i, i]),
            "covariance": covariance[i].tolist(),
        }
    return row | {
        "logit_a": float(images.curve.x[i]),
        "placement_scatter": images.placed.scatter[i].tolist(),
        "mean": images.signature[i].mean.tolist(),
        "scatter": packed(images.signature[i].scatter).tolist(),
    }


def packed(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower triangle of a symmetric matrix, row by row.

    >>> packed(np.array([[1.0, 2.0], [2.0, 3.0]])).tolist()
    [1.0, 2.0, 3.0]
    """
    triangle: NDArray[np.float64] = matrix[np.tril_indices(len(matrix))]
    return triangle


def unpacked(triangle: Sequence[float]) -> NDArray[np.float64]:
    """The inverse of `packed`.

    >>> unpacked([1.0, 2.0, 3.0]).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    size = int((np.sqrt(8 * len(triangle) + 1) - 1) / 2)
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size)] = triangle
    return matrix + np.tril(matrix, -1).T


def enrolled_runs(store: ObjectStore, spec: AuditSpec, reference: Reference) -> list[Enrolled]:
    """The latest profile of every run that was enrolled under the spec's reference, encoder and scoring.

    Raises:
        InputError: There is none; the message names what differs from the stored profiles.
    """
    rows = [row for row in read_result(store, "profiles").to_pylist() if row["profile_id"]]
    digests = {
        "encoder_digest": reference.facts.digest,
        "reference_digest": reference.digest,
        "scoring_digest": scoring_digest(spec),
    }
    same = [row for row in rows if all(row[name] == value for name, value in digests.items())]
    if not same:
        raise InputError(
            f"store: {store.uri} has no profile to compare with{_difference(rows, digests)}",
            "enrol releases under this spec first: layerprint enrol SPEC, or layerprint audit SPEC",
        )
    profiles: dict[str, list[Row]] = defaultdict(list)
    for row in same:
        profiles[row["profile_id"]].append(row)
    latest: dict[tuple[str, str, str], list[Row]] = {}
    for profile in sorted(profiles.values(), key=lambda profile: (profile[0]["created_at"], profile[0]["profile_id"])):
        latest[profile[0]["release"], profile[0]["version"], profile[0]["run"]] = profile
    return [_enrolled(profile) for _, profile in sorted(latest.items())]


def _difference(rows: Sequence[Row], digests: Mapping[str, str]) -> str:
    """The part of the set-up in which the stored profiles differ, the widest first."""
    if not rows:
        return ""
    meaning = {
        "encoder_digest": "encoder (model, weights, image size, pooling, layers, harmonise or precision)",
        "scoring_digest": "scoring (preset, components, cells or seed) or method version",
        "reference_digest": "reference (its images, or scoring.search)",
    }
    count = len({row["profile_id"] for row in rows})
    for name, what in meaning.items():
        if all(row[name] != digests[name] for row in rows):
            return f": its {count} profile{'s' * (count > 1)} were made with another {what}"
    return f": its {count} profiles each differ from this spec in encoder, reference or scoring"


def _enrolled(rows: Sequence[Row]) -> Enrolled:
    by_part: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["layer"]):
        by_part[row["part"]].append(row)
    parts = tuple(_profile(rows_of_part) for part, rows_of_part in sorted(by_part.items()) if part > 0)
    whole = merged(parts)
    c_t = np.array([np.nan if row["c_t"] is None else row["c_t"] for row in by_part[0]])
    first = rows[0]
    run = Run(
        f"{first['release']}@{first['version']}", first["run"], Profile(whole.placed, whole.signature, c_t), parts
    )
    return Enrolled(run, (first["table"], first["table_version"]), first["profile_id"], first["images_uri"])


def _profile(rows: Sequence[Row]) -> Profile:
    images = rows[0]["m"]
    placed = Moments(
        images,
        np.array([row["placement"] for row in rows]),
        np.array([row["placement_scatter"] for row in rows]),
    )
    signature = tuple(Moments(images, np.array(row["mean"]), unpacked(row["scatter"])) for row in rows)
    return Profile(placed, signature, np.array([np.nan if row["c_t"] is None else row["c_t"] for row in rows]))
