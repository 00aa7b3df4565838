"""The stages of the copy score: tokens of image sets, evidence for every image, scores of a release."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.encoder.config import CopySettings, EncoderConfig, EncoderFacts, ViewName
from actors.stages.context import StageContext
from actors.stages.embed import embed
from actors.workers.copy_evidence import (
    FindCopies,
    LeftOut,
    as_evidence,
    distinct_images,
    find_copies,
    read_evidence,
)
from actors.workers.embed import EmbedSettings
from actors.workers.groups import FindGroups, find_groups
from actors.workers.token_space import FitTokenSpace, fit_space
from actors.workers.tokens import FittedSpace, TokenPlan
from scoring.copies.copy_score import CopyScale, leaks
from scoring.copies.groups import joined, sizes
from scoring.copies.units import Units
from storage import layout
from storage.digest import digest
from storage.errors import InputError
from storage.image_sets.key_groups import key_groups
from storage.image_sets.manifest import Manifest
from storage.layout import block_key, keys_under
from storage.objects.base import ObjectStore
from storage.seal import parse_parquet, read_sealed, sealed_json
from storage.vectors.tables import EmbeddingTable

METHOD = 2
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


@dataclass(frozen=True, slots=True, eq=False)
class CopyReference:
    """What releases are compared with.

    Attributes:
        plan: The tokens of held-out and generated images.
        train: Token table of the training images.
        unseen: Token table of the held-out images.
        held_out: Keys of the held-out images' evidence.
        groups: Key of their near-duplicates.
        named: The groups (rows of the set's list,) that their keys name; None where they name none.
        scale: Keys of the evidence of a sample of training images, each against all other pictures.
        sample: Keys of the evidence of the same images, each against all other images.
    """

    plan: TokenPlan
    train: EmbeddingTable
    unseen: EmbeddingTable
    held_out: tuple[str, ...]
    groups: str
    named: NDArray[np.int64] | None
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
        files: (q,) int64, images of the set with the content of each.
        pictures: (q,) int64, equal for images that are the same picture, nearly.
        train_files: (q,) int64, training images with the content of the source of each.
        train_alike: (q,) int64, contents of training images that are the same picture as the source, itself included.
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
    files: NDArray[np.int64]
    pictures: NDArray[np.int64]
    train_files: NDArray[np.int64]
    train_alike: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def picture_files(self) -> NDArray[np.int64]:
        """Images of the set that are the same picture as each, itself included, (q,) int64."""
        return sizes(self.pictures, self.files)


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
        units: The groups by which the release is judged: those that keys name, and near-duplicates.
    """

    held_out: ScoredImages
    generated: ScoredImages
    leaks: NDArray[np.bool_]
    views: tuple[ViewName, ...]
    layer: int
    table: str
    units: Units


# -- reference -----------------------------------------------------------------------------------------------


def copy_reference(
    context: StageContext,
    encoder: CopyEncoder,
    train: Manifest,
    held_out: Manifest,
    copies: CopySettings,
    seed: int,
    groups: str | None = None,
) -> CopyReference:
    """Fit the token space, make the tokens of the reference, and find the evidence for its images.

    Args:
        context: Store, cluster and progress.
        encoder: How images become tokens.
        train: The training images.
        held_out: The held-out images.
        copies: What the score looks at.
        seed: Seed of the samples of training images.
        groups: How keys of held-out images name their groups, see `key_groups`.

    Raises:
        InputError: The encoder has no such layer, no training image can be read, or no key names a group.
    """
    named = None if groups is None else key_groups(held_out.table["key"], groups, "reference.held_out_groups")
    fitted_to, sampled = (_sample(train, count, seed) for count in (FIT_IMAGES, SCALE_IMAGES))
    plan = _plan(context, encoder, train, fitted_to, copies)
    plan_of_train = replace(plan, views=plan.views[:1])
    of_train = _tokens(context, encoder, train, plan_of_train, "train")
    of_held_out = _tokens(context, encoder, held_out, plan, "held-out")
    of_sample = _tokens(context, encoder, sampled, plan, "train sample")
    (of_unseen,) = _evidence(context, plan, of_train, of_held_out, "held-out")
    scale, sample = _evidence(context, plan, of_train, of_sample, "train sample", ("other pictures", "other images"))
    alike = _groups(context, plan, of_train, (of_held_out, of_unseen), (of_held_out, of_unseen), "held-out")
    reference = CopyReference(plan, of_train, of_held_out, of_unseen, alike, named, scale, sample)
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


def _groups(
    context: StageContext,
    plan: TokenPlan,
    train: EmbeddingTable,
    images: tuple[EmbeddingTable, tuple[str, ...]],
    held_out: tuple[EmbeddingTable, tuple[str, ...]],
    label: str,
) -> str:
    """Find the near-duplicates of a set, given as its token table and the keys of its evidence; returns their key."""
    key = layout.groups_key(images[0].name, train.name, held_out[0].name, method=METHOD)
    task = FindGroups(
        store=context.store.uri,
        train=(train.name, train.version),
        images=(images[0].name, images[0].version),
        dims=plan.dims,
        evidence=images[1],
        held_out=held_out[1],
        key=key,
    )
    missing = [] if context.store.exists(key) else [task]
    context.run("layers", find_groups, missing, f"groups {label}", 1 - len(missing), "sets")
    return key


# -- release -------------------------------------------------------------------------------------------------


def find_release_copies(
    context: StageContext,
    encoder: CopyEncoder,
    reference: CopyReference,
    manifest: Manifest,
    label: str,
    groups: str | None = None,
) -> CopiesFound:
    """Score the images of a release.

    Args:
        context: Store, cluster and progress.
        encoder: How images become tokens.
        reference: What they are compared with.
        manifest: The release's images.
        label: Its name in progress reports.
        groups: How keys of its images name their groups, see `key_groups`.

    Raises:
        InputError: No held-out image is left: all are training images; or no key names a group.
    """
    named = None if groups is None else key_groups(manifest.table["key"], groups, f"groups of {label}")
    table = _tokens(context, encoder, manifest, reference.plan, label)
    (of_release,) = _evidence(context, reference.plan, reference.train, table, label)
    of_unseen = (reference.unseen, reference.held_out)
    alike = _groups(context, reference.plan, reference.train, (table, of_release), of_unseen, label)
    store = context.store
    scale = CopyScale.of(as_evidence(read_evidence(store, reference.scale)))
    held_out = _scored(store, reference.held_out, reference.groups, scale, without_identical=True)
    if not len(held_out):
        raise InputError(
            "reference.held_out: every image is also a training image", "give images that were never trained on"
        )
    generated = _scored(store, of_release, alike, scale)
    return CopiesFound(
        held_out=held_out,
        generated=generated,
        leaks=leaks(held_out.scores, scale.score(as_evidence(read_evidence(store, reference.sample)))),
        views=reference.plan.views,
        layer=reference.plan.layer,
        table=table.name,
        units=Units(
            _with_names(held_out, reference.named),
            _with_names(generated, named),
            generated.picture_files,
            int(digest(held_out=reference.unseen.name, release=table.name)[:15], 16),
        ),
    )


def _with_names(images: ScoredImages, named: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The groups of images: near-duplicates, and those that keys name."""
    return images.pictures if named is None else joined(images.pictures, named[images.rows])


def _scored(
    store: ObjectStore, keys: tuple[str, ...], groups: str, scale: CopyScale, *, without_identical: bool = False
) -> ScoredImages:
    """The scores of the distinct images of a set."""
    found = read_evidence(store, keys)
    found = found.append_column("group", read_sealed(store, groups, parse_parquet)["group"])
    images = len(found)
    if without_identical:
        found = found.filter(pa.compute.invert(found["identical"]))
    first, files = np.unique(distinct_images(found), return_counts=True)
    found = found.take(pa.array(first))
    evidence = as_evidence(found)
    parts = scale.parts(evidence)
    return ScoredImages(
        rows=found["row"].to_numpy(),
        scores=scale.score(evidence),
        late=evidence.late,
        votes=evidence.votes,
        sources=scale.sources(evidence),
        parts=parts,
        views=scale.views(evidence),
        identical=np.array(found["identical"].to_pylist(), np.bool_),
        images=images,
        files=files,
        pictures=found["group"].to_numpy(),
        train_files=np.where(parts, found["votes_files"].to_numpy(), found["late_files"].to_numpy()),
        train_alike=scale.alike(evidence),
    )
