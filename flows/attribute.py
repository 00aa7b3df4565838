"""The flow `attribute_images`: finds which enrolled release made an unlabelled set of images, if any."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from prefect import flow

from actors.workers.linear_probe import Probe, probe_suspect
from actors.workers.profile import SetProfile
from flows.audit import built_reference
from flows.inputs import check_images, open_reference
from flows.results.identity import Reference, scoring_digest
from flows.results.input_checks import FileFacts, check_rejects, check_same_files
from flows.results.profile_rows import Enrolled, enrolled_runs
from flows.runtime.repairs import repairing
from flows.runtime.runtime import Runtime
from flows.shifts import with_shifts
from flows.spec.spec import AuditSpec
from flows.tasks import embed_set, process_reference, profile_set, search_set
from scoring.attribution.attribute import REJECT, UNKNOWN, Attribution, attribute
from scoring.attribution.baselines import frechet_rule, mean_rule, published_rule
from scoring.attribution.enrolment import Enrolment, enrol
from storage.digest import digest, short
from storage.errors import InputError
from storage.layout import layer_key
from storage.objects.open import ObjectStore
from storage.results.tables import write_result
from storage.vectors.tables import EmbeddingTable

AS_THEY_ARE = ""
"""The perturbation of images that were not perturbed."""


@dataclass(frozen=True)
class Baselines:
    """The answers of simpler rules: release → similarity. Each rule names the release with the highest.

    Attributes:
        published_similarity: He et al. 2024, of C_T curves.
        frechet: Minus one Fréchet distance, of the last layer.
        mean_distance: Minus the distance of mean embeddings, of the last layer.
        probe_log_p: Log-probability by a linear probe on single images of layer ``probe_layer``; empty with fewer than
            two releases, or when the embeddings of ``probe_missing`` are gone.
        probe_layer: The layer whose signature alone attributed the most trial sets correctly.
    """

    published_similarity: dict[str, float]
    frechet: dict[str, float]
    mean_distance: dict[str, float]
    probe_log_p: dict[str, float]
    probe_layer: int
    probe_missing: list[str]


@dataclass(frozen=True)
class AttributedImages:
    """The answer for one set of images.

    Attributes:
        images_uri: The set.
        images: Its images that could be read.
        answer: See :class:`scoring.attribution.attribute.Attribution`.
        baselines: See `Baselines`.
        trials: Held-back sets of the enrolled releases that were attributed as a test.
        trials_right: How many of them were attributed correctly.
        enrolled_as: Releases that were enrolled with these very images, so that naming them is no evidence.
        runs_compared: Whether between-run variation could be measured.
    """

    images_uri: str
    images: int
    answer: Attribution
    baselines: Baselines
    trials: int
    trials_right: int
    enrolled_as: list[str]
    runs_compared: bool

    def to_json(self) -> dict[str, Any]:
        """The answer as plain values."""
        plain = asdict(self)
        return {**plain.pop("answer"), **plain}


@dataclass(frozen=True, eq=False)
class OpenAttribution:
    """The enrolled releases that every set of a command is compared with."""

    spec: AuditSpec
    reference: Reference
    runs: list[Enrolled]
    enrolment: Enrolment
    reject: float
    unknown: float


@flow(name="attribute_images", persist_result=False, validate_parameters=False)
@repairing
def attribute_images(
    runtime: Runtime,
    spec: AuditSpec,
    images: str,
    label: str = "images",
    *,
    reject: float = REJECT,
    unknown: float = UNKNOWN,
) -> AttributedImages:
    """Compare a set of images with every release enrolled in the spec's store, and write the result.

    Args:
        runtime: The runtime of the command.
        spec: Reference, encoder, scoring and store.
        images: The set.
        label: Its name in the progress.
        reject: Level at which a maker is refused.
        unknown: Prior probability that the maker is not enrolled.

    Raises:
        InputError: unusable images, or nothing is enrolled to compare with.
    """
    opened = open_attribution(runtime, spec, reject, unknown)
    table = embed_suspect(runtime, opened, images, label)
    return answer(runtime, opened, images, table, label)


def open_attribution(runtime: Runtime, spec: AuditSpec, reject: float, unknown: float) -> OpenAttribution:
    """Read the enrolled profiles and learn from them, once per command."""
    store = runtime.context(spec).store
    reference = built_reference(runtime, spec)
    runs = enrolled_runs(store, spec, reference)
    key = digest(profiles=[run.profile_id for run in runs])

    def learnt() -> Enrolment:
        background = process_reference(runtime, spec, reference, open_reference(runtime, spec).held_out)
        return enrol([with_shifts(runtime, spec, reference, enrolled) for enrolled in runs], background)

    enrolment = runtime.enrolments.get(key, learnt)
    return OpenAttribution(spec, reference, runs, enrolment, reject, unknown)


def embed_suspect(runtime: Runtime, opened: OpenAttribution, images: str, label: str) -> EmbeddingTable:
    """List, check and embed the images.

    Raises:
        InputError: too few or unreadable images, or files of another kind than the training images.
    """
    spec, reference = opened.spec, opened.reference
    manifest = check_images(runtime, spec, images, label)
    table = embed_set(runtime, spec, reference.facts, manifest, label)
    check_rejects(table, label, spec.gate.max_rejected)
    check_same_files(FileFacts.of(reference.tables.train), FileFacts.of(table), label)
    return table


def answer(
    runtime: Runtime,
    opened: OpenAttribution,
    images: str,
    table: EmbeddingTable,
    label: str,
    perturbation: str = AS_THEY_ARE,
) -> AttributedImages:
    """Profile an embedded set, compare it, and write the rows of `attributions`."""
    spec, reference, enrolment = opened.spec, opened.reference, opened.enrolment
    nearest = search_set(runtime, spec, reference, table, label)
    made = profile_set(runtime, spec, reference, table, nearest, label)
    if made is None:
        raise InputError("no layer of this encoder carries information", "set encoder.pooling: mean")
    attribution = attribute(made.whole, enrolment, reject=opened.reject, unknown=opened.unknown)
    result = AttributedImages(
        images_uri=images,
        images=table.rows,
        answer=attribution,
        baselines=_baselines(runtime, opened, made, table),
        trials=enrolment.trials,
        trials_right=enrolment.right,
        enrolled_as=[enrolled.run.maker for enrolled in opened.runs if enrolled.table[0] == table.name],
        runs_compared=enrolment.spread is not None,
    )
    _save(runtime.context(spec).store, opened, table, result, perturbation)
    return result


def _baselines(runtime: Runtime, opened: OpenAttribution, made: SetProfile, table: EmbeddingTable) -> Baselines:
    runs = [enrolled.run for enrolled in opened.runs]
    layer = made.layers[opened.enrolment.best_layer]
    tables: dict[str, list[tuple[str, int]]] = {}
    for enrolled in opened.runs:
        tables.setdefault(enrolled.run.maker, []).append(enrolled.table)
    probe = Probe(
        store=opened.spec.store,
        layer=layer,
        partition_key=layer_key(opened.reference.tables.partition, layer, "npz"),
        enrolled=tuple((maker, tuple(versions)) for maker, versions in tables.items()),
        suspect=(table.name, table.version),
    )
    probed = runtime.context(opened.spec).run_one(probe_suspect, probe)
    return Baselines(
        published_similarity=published_rule(made.whole, runs),
        frechet=frechet_rule(made.whole, runs),
        mean_distance=mean_rule(made.whole, runs),
        probe_log_p=probed.scores,
        probe_layer=layer,
        probe_missing=probed.missing,
    )


def _save(
    store: ObjectStore, opened: OpenAttribution, table: EmbeddingTable, result: AttributedImages, perturbation: str
) -> None:
    attribution = result.answer
    common = {
        "images_uri": result.images_uri,
        "images_digest": table.name,
        "perturbation": perturbation,
        "images": result.images,
        "verdict": attribution.verdict,
        "sentence": attribution.sentence,
        "unknown": attribution.unknown,
        "reject": opened.reject,
        "unknown_prior": opened.unknown,
        "curve_weight": attribution.curve_weight,
        "chance": attribution.chance,
        "needed": attribution.needed,
        "trials": result.trials,
        "trials_right": result.trials_right,
        "reference_digest": opened.reference.digest,
        "encoder_digest": opened.reference.facts.digest,
        "scoring_digest": scoring_digest(opened.spec),
        "layerprint_version": version("layerprint"),
    }
    code = digest(**common, profiles=[run.profile_id for run in opened.runs])
    common |= {"attribution_id": short(code), "created_at": dt.datetime.now(dt.UTC)}
    simpler = {name: value for name, value in asdict(result.baselines).items() if isinstance(value, dict)}
    rows = [
        {
            **common,
            "rank": rank,
            **asdict(candidate),
            **{name: similarity.get(candidate.maker) for name, similarity in simpler.items()},
        }
        for rank, candidate in enumerate(attribution.candidates, start=1)
    ]
    write_result(store, "attributions", short(code), rows)
