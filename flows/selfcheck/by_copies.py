"""The self-check of audits that are judged by the copy score.

Held-out images are split into two random halves. One serves as unseen images; the other is audited like a release:
as it is, changed as honest images may be (placebos), and with copies of training images planted, kind by kind. Every
altered set goes through the stages of an audit; scores of an image do not depend on the others of its set, so that
releases are put together from scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.encoder.alterations import alteration
from actors.stages.copies import CopyReference, ScoredImages
from actors.stages.transform_images import transform_images
from actors.workers.transform_images import CHANGES, number_of
from flows.audit import built_copy_reference
from flows.inputs import file_facts, list_set, open_reference
from flows.results.identity import OpenedReference
from flows.results.input_checks import check_same_files
from flows.results.kinds_found import KindFound, save_kinds
from flows.runtime.runtime import Runtime
from flows.selfcheck.by_layers import TYPICAL_SIZES
from flows.selfcheck.judged import PLANTED_SHARES, CopiesSelfCheck, Judge, Kind, ScoredSet
from flows.spec.spec import AuditSpec
from flows.tasks import find_copies
from scoring.checks.copies_power import smallest_rate_seen
from scoring.score.cells import MIN_HELD_OUT
from storage.errors import InputError
from storage.image_sets.manifest import Manifest

PLACEBOS = {
    "re-encoded": "reencode",
    "blurred by .6 px of 32": "blur .6",
    "blurred by 1.2 px of 32": "blur 1.2",
    "at half resolution": "half resolution",
}
"""Changes of honest images, by what they are called."""

PLACEBO_IMAGES = 200
"""Most images of a placebo."""

REPEATS = 5
"""How often each image is there in the repeated placebo."""


class _Halves(NamedTuple):
    """Rows of the held-out images, in random order."""

    unseen: NDArray[np.int64]
    release: NDArray[np.int64]


class _Check(NamedTuple):
    """What the steps of a self-check share."""

    runtime: Runtime
    spec: AuditSpec
    opened: OpenedReference
    reference: CopyReference

    def scores(self, uri: str, label: str) -> tuple[ScoredSet, ScoredImages]:
        """The scores of a set of altered images, and those of the held-out images."""
        images = list_set(self.runtime, uri)
        facts = self.opened.facts
        found = find_copies(self.runtime, self.spec, facts, self.reference, images, f"selfcheck {label}")
        numbers = np.array([number_of(image.key) for image in images.images()], np.int64)
        scored = found.generated
        return ScoredSet(numbers[scored.rows], scored.scores, scored.sources), found.held_out

    def altered(
        self,
        images: Manifest,
        change: str,
        label: str,
        rows: NDArray[np.int64],
        canvases: NDArray[np.int64] | None = None,
    ) -> tuple[ScoredSet, ScoredImages]:
        """Alter images, on canvases of the held-out set, and score them."""
        on = None if canvases is None else (self.opened.held_out, canvases.tolist())
        context = self.runtime.context(self.spec)
        return self.scores(transform_images(context, images, change, label, rows.tolist(), on), f"{change} {label}")


def check_copies(runtime: Runtime, spec: AuditSpec, kinds: Sequence[str], copies: int) -> CopiesSelfCheck:
    """Try the spec's reference and encoder on placebos and on every kind of copy.

    Args:
        runtime: The runtime of the command.
        spec: The spec, with a copy score.
        kinds: Names of changes or alterations, see `actors.encoder.alterations.alteration`.
        copies: Copies of each kind.

    Raises:
        InputError: a kind that does not exist, or too few held-out images to split.
    """
    kinds = tuple(dict.fromkeys(kinds))
    _check_kinds(kinds)
    opened = open_reference(runtime, spec)
    of_train, of_held_out = (file_facts(runtime, spec, opened.facts, each) for each in (opened.train, opened.held_out))
    check_same_files(of_train, of_held_out, "reference.held_out")
    halves = _split(opened.held_out, spec.scoring.seed)
    compared = built_copy_reference(runtime, spec)
    if compared is None:
        raise InputError("the spec has no copy score", "remove copies: false and the preset")
    check = _Check(runtime, spec, opened, compared)

    few = halves.release[:PLACEBO_IMAGES]
    placebos = {}
    for name, change in PLACEBOS.items():
        placebos[name], held_out = check.altered(opened.held_out, change, "placebo", few)
    again = np.repeat(few[: max(1, len(few) // REPEATS)], REPEATS)
    repeated, held_out = check.altered(opened.held_out, "reencode", "placebo, repeated", again)

    count = min(copies, len(opened.train), len(halves.release))
    trained = np.random.default_rng([spec.scoring.seed, 1]).choice(len(opened.train), count, replace=False)
    canvases = halves.release[:count]
    scored = {kind: check.altered(opened.train, kind, "copies", trained, canvases)[0] for kind in kinds}

    judge = _judge(spec, held_out, halves)
    trials = [judge.placebo("half as it is", judge.release)]
    trials += [judge.placebo(name, images) for name, images in placebos.items()]
    trials += [judge.placebo(f"each image {REPEATS} times", repeated), judge.classes(_classes(opened, judge.release))]
    mixed = _mixed(list(scored.values()))
    trials += [judge.planted(f"{share:.0%} planted", mixed, canvases, share) for share in PLANTED_SHARES]
    measured = [judge.kind(kind, found, trained, canvases) for kind, found in scored.items()]
    _save(runtime, spec, opened, measured)
    n, limit = len(held_out), spec.gate.max_copy_rate
    return CopiesSelfCheck(
        trials=trials,
        kinds=measured,
        smallest_rate=judge.smallest_rate(mixed),
        detectable={size: smallest_rate_seen(n, size, limit) for size in TYPICAL_SIZES},
        held_out_images=n,
        unseen_images=len(judge.unseen),
        altered_images=len(PLACEBOS) * len(few) + len(again) + count * len(kinds),
        views=len(compared.plan.views),
    )


def _check_kinds(kinds: Sequence[str]) -> None:
    for kind in kinds:
        if kind not in CHANGES:
            try:
                alteration(kind)
            except ValueError as error:
                raise InputError(
                    f"--perturb {kind}: {error}",
                    "give a kind of `layerprint selfcheck --help`, or for example 'crop 50-60' or 'mirrored + jpeg 40'",
                ) from None


def _split(held_out: Manifest, seed: int) -> _Halves:
    count = len(held_out)
    if count < 2 * MIN_HELD_OUT:
        raise InputError(
            f"reference.held_out: {count} images cannot be split in two halves of {MIN_HELD_OUT}",
            "give more held-out images",
        )
    rows = np.random.default_rng(seed).permutation(count)
    return _Halves(rows[: count // 2], rows[count // 2 :])


def _judge(spec: AuditSpec, held_out: ScoredImages, halves: _Halves) -> Judge:
    unseen = held_out.scores[np.isin(held_out.rows, halves.unseen)]
    whole = ScoredSet(held_out.rows, held_out.scores, held_out.sources)
    release = whole.take(np.isin(held_out.rows, halves.release))
    for half in (unseen, release):
        if len(half) < MIN_HELD_OUT:
            raise InputError(
                f"reference.held_out: half of it holds {len(half)} distinct images that are not training images, "
                f"at least {MIN_HELD_OUT} are needed",
                "give more held-out images",
            )
    return Judge(unseen, release, spec.gate, spec.scoring.seed)


def _classes(opened: OpenedReference, release: ScoredSet) -> list[str]:
    """The folder of every image of the release half."""
    keys = opened.held_out.table["key"].take(release.numbers.tolist()).to_pylist()
    return [PurePosixPath(key).parent.name for key in keys]


def _mixed(kinds: list[ScoredSet]) -> ScoredSet:
    """Copies of all kinds in turn: of each training image one."""
    parts = [kind.take(kind.numbers % len(kinds) == at) for at, kind in enumerate(kinds)]
    numbers = np.concatenate([part.numbers for part in parts])
    both = ScoredSet(
        numbers, np.concatenate([part.scores for part in parts]), np.concatenate([part.sources for part in parts])
    )
    return both.take(np.argsort(numbers))


def _save(runtime: Runtime, spec: AuditSpec, opened: OpenedReference, measured: list[Kind]) -> None:
    """Note for audits which copies they would find."""
    found = {kind.name: KindFound(kind.planted, kind.found, kind.source_right) for kind in measured}
    save_kinds(runtime.context(spec).store, spec, opened, found)
