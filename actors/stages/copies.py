"""The stages of the copy score: tokens of image sets, evidence for every image, scores of a release."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.encoder.config import CopySettings, EncoderConfig, EncoderFacts, ViewName
from actors.stages.context import StageContext
from actors.stages.embed import embed
from actors.workers.copy_evidence import EVIDENCE_SCHEMA, FindCopies, LeftOut, find_copies
from actors.workers.embed import EmbedSettings
from actors.workers.token_space import FitTokenSpace, fit_space
from actors.workers.tokens import FittedSpace, TokenPlan
from scoring.copies.copy_score import CopyScale, leaks
from scoring.copies.evidence import Evidence
from storage import layout
from storage.errors import InputError
from storage.image_sets.manifest import Manifest
from storage.layout import block_key, keys_under
from storage.seal import parse_parquet, read_sealed, sealed_json
from storage.vectors.tables import EmbeddingTable

METHOD = 1
"""Version of the evidence: another one is stored apart."""

FIT_IMAGES, SCALE_IMAGES = 600, 2000
"""Training images that the token space is fitted to; that set the scale of the score."""

BLOCK = 512
"""Images that one task compares with all training images."""


@dataclass(frozen=True, slots=True)
class CopyEncoder:
    """How images become tokens: the encoder, and the settings of the machine."""

    config: EncoderConfig
    facts: EncoderFacts
    settings: EmbedSettings


@dataclass(frozen=True, slots=True)
class CopyReference:
    """What releases are compared with.

    Attributes:
        plan: The tokens of held-out and generated images.
        train: Token table of the training images.
        held_out: Keys of the held-out images' evidence.
        scale: Keys of the evidence of a sample of training images, each against all other pictures.
        sample: Keys of the evidence of the same images, each against all other images.
    """

    plan: TokenPlan
    train: EmbeddingTable
    held_out: tuple[str, ...]
    scale: tuple[str, ...]
    sample: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredImages:
    """Copy scores of the q distinct images of a set; of images with equal content only the first.

    Attributes:
        rows: (q,) int64, their rows in the set's list.
        scores: (q,) float64, see `scoring.copies.copy_score.CopyScale.score`.
        late: (q,) float64, the late interaction ratio.
        votes: (q,) float64, the margin of votes.
        sources: (q,) int64, row of the training image that each is most like.
        parts: (q,) bool, whether the votes of patches, which see parts of images, decided the score.
        views: (q,) int64, the view that matched, a place in `CopiesFound.views`.
        identical: (q,) bool, whether a training image has the same content.
        images: Images with any content, repeated ones included.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    late: NDArray[np.float64]
    votes: NDArray[np.float64]
    sources: NDArray[np.int64]
    parts: NDArray[np.bool_]
    views: NDArray[np.int64]
    identical: NDArray[np.bool_]
    images: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class CopiesFound:
    """The copy scores that a release is judged by.

    Attributes:
        held_out: Held-out images, without those whose content is a training image's.
        generated: The release's images.
        leaks: (n,) bool, the held-out images that look like training images themselves.
        views: Names of the views (`actors.encoder.views`).
        layer: The layer of the patch tokens.
        table: Token table of the release.
    """

    held_out: ScoredImages
    generated: ScoredImages
    leaks: NDArray[np.bool_]
    views: tuple[ViewName, ...]
    layer: int
    table: str


# -- reference -----------------------------------------------------------------------------------------------


def copy_reference(
    context: StageContext, encoder: CopyEncoder, train: Manifest, held_out: Manifest, copies: CopySettings, seed: int
) -> CopyReference:
    """Fit the token space, make the tokens of the reference, and find the evidence for its images.

    Args:
        context: Store, cluster and progress.
        encoder: How images become tokens.
        train: The training images.
        held_out: The held-out images.
        copies: What the score looks at.
        seed: Seed of the samples of training images.

    Raises:
        InputError: The encoder has no such layer, or no training image can be read.
    """
    fitted_to, sampled = (_sample(train, count, seed) for count in (FIT_IMAGES, SCALE_IMAGES))
    plan = _plan(context, encoder, train, fitted_to, copies)
    plan_of_train = replace(plan, views=plan.views[:1])
    of_train = _tokens(context, encoder, train, plan_of_train, "train")
    of_held_out = _tokens(context, encoder, held_out, plan, "held-out")
    of_sample = _tokens(context, encoder, sampled, plan, "train sample")
    (of_unseen,) = _evidence(context, plan, of_train, of_held_out, "held-out")
    scale, sample = _evidence(context, plan, of_train, of_sample, "train sample", ("other pictures", "other images"))
    reference = CopyReference(plan, of_train, of_unseen, scale, sample)
    for name in {of_train.name, of_held_out.name, of_sample.name}:
        key = layout.copy_reference_key(name)
        if not context.store.exists(key):
            context.store.put_if_absent(key, sealed_json(name))
    return reference


def _sample(train: Manifest, count: int, seed: int) -> Manifest:
    """Some images of a set, in its order; all of a small one."""
    if len(train) <= count:
        return train
    rows = np.random.default_rng(seed).choice(len(train), count, replace=False)
    return Manifest(train.uri, train.kind, train.table.take(pa.array(np.sort(rows))))


def _plan(
    context: StageContext, encoder: CopyEncoder, train: Manifest, sample: Manifest, copies: CopySettings
) -> TokenPlan:
    """The tokens, by the space that is fitted once."""
    key = layout.token_space_key(encoder.facts.digest, train.digest, copies.layer)
    if not context.store.exists(key):
        task = FitTokenSpace(
            store=context.store.uri,
            key=key,
            set_uri=sample.uri,
            kind=sample.kind,
            images=tuple(sample.images()),
            config=encoder.config,
            layer=copies.layer,
            settings=encoder.settings,
        )
        context.run("embed", fit_space, [task], "tokens fit", unit="fits")
    fitted = FittedSpace.read(context.store, key)
    return TokenPlan(key, fitted.digest, encoder.facts.digest, fitted.layer, fitted.side, fitted.dims, copies.views)


def _tokens(
    context: StageContext, encoder: CopyEncoder, manifest: Manifest, plan: TokenPlan, label: str
) -> EmbeddingTable:
    """The token table of an image set."""
    return embed(context, encoder.config, encoder.facts, manifest, encoder.settings, label, plan).table


def _evidence(
    context: StageContext,
    plan: TokenPlan,
    train: EmbeddingTable,
    images: EmbeddingTable,
    label: str,
    compared_with: tuple[LeftOut | None, ...] = (None,),
) -> list[tuple[str, ...]]:
    """Find the evidence for every image of a token table, block by block; returns the keys in order, for each sort."""
    prefixes = {
        left_out: layout.copies_prefix(images.name, train.name, left_out=left_out, method=METHOD)
        for left_out in compared_with
    }
    existing = set().union(*(keys_under(context.store, prefix) for prefix in prefixes.values()))
    blocks = [(start, min(start + BLOCK, images.rows)) for start in range(0, images.rows, BLOCK)]
    tasks = [
        FindCopies(
            store=context.store.uri,
            train=(train.name, train.version),
            images=(images.name, images.version),
            views=len(plan.views),
            dims=plan.dims,
            start=start,
            stop=stop,
            keys=tuple((left_out, block_key(prefix, start, stop)) for left_out, prefix in prefixes.items()),
        )
        for start, stop in blocks
    ]
    missing = [task for task in tasks if not {key for _, key in task.keys} <= existing]
    context.run("layers", find_copies, missing, f"copies {label}", len(tasks) - len(missing), "blocks")
    return [tuple(block_key(prefix, start, stop) for start, stop in blocks) for prefix in prefixes.values()]


# -- release -------------------------------------------------------------------------------------------------


def find_release_copies(
    context: StageContext, encoder: CopyEncoder, reference: CopyReference, manifest: Manifest, label: str
) -> CopiesFound:
    """Score the images of a release.

    Args:
        context: Store, cluster and progress.
        encoder: How images become tokens.
        reference: What they are compared with.
        manifest: The release's images.
        label: Its name in progress reports.

    Raises:
        InputError: No held-out image is left: all are training images.
    """
    table = _tokens(context, encoder, manifest, reference.plan, label)
    (of_release,) = _evidence(context, reference.plan, reference.train, table, label)
    scale = CopyScale.of(_as_evidence(_read(context, reference.scale)))
    held_out = _scored(_read(context, reference.held_out), scale, without_identical=True)
    if not len(held_out):
        raise InputError(
            "reference.held_out: every image is also a training image", "give images that were never trained on"
        )
    return CopiesFound(
        held_out=held_out,
        generated=_scored(_read(context, of_release), scale),
        leaks=leaks(held_out.scores, scale.score(_as_evidence(_read(context, reference.sample)))),
        views=reference.plan.views,
        layer=reference.plan.layer,
        table=table.name,
    )


def _read(context: StageContext, keys: tuple[str, ...]) -> pa.Table:
    """The evidence of a set, in the order of its rows."""
    blocks = [read_sealed(context.store, key, parse_parquet) for key in keys]
    return pa.concat_tables([EVIDENCE_SCHEMA.empty_table(), *blocks]).combine_chunks()


def _scored(found: pa.Table, scale: CopyScale, *, without_identical: bool = False) -> ScoredImages:
    """The scores of the distinct images of a set."""
    images = len(found)
    if without_identical:
        found = found.filter(pa.compute.invert(found["identical"]))
    contents = np.array(found["sha256"].to_pylist(), "S64")
    _, first = np.unique(contents, return_index=True)
    found = found.take(pa.array(np.sort(first)))
    evidence = _as_evidence(found)
    return ScoredImages(
        rows=found["row"].to_numpy(),
        scores=scale.score(evidence),
        late=evidence.late,
        votes=evidence.votes,
        sources=scale.sources(evidence),
        parts=scale.parts(evidence),
        views=scale.views(evidence),
        identical=np.array(found["identical"].to_pylist(), np.bool_),
        images=images,
    )


def _as_evidence(found: pa.Table) -> Evidence:
    return Evidence(*(found[name].to_numpy() for name in EVIDENCE_SCHEMA.names[3:]))
