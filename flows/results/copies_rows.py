"""What the copy scores of a release say, as columns and rows of the result tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.stages.copies import CopiesFound
from flows.results.audit_result import INCONCLUSIVE, INVALID, NO_COPYING
from scoring.checks.check import Check, failed
from scoring.checks.repetition import Repetition
from scoring.verdict.copies import CopiesVerdict
from scoring.verdict.fit import CLOSER
from storage.objects.open import ObjectStore
from storage.vectors.tables import EmbeddingTable, VectorStore


def judge_copies(found: CopiesVerdict, checks: Sequence[Check], fit: str) -> tuple[str, str]:
    """The verdict of an audit and its sentence.

    A failed check makes it invalid. "No copying seen" becomes inconclusive by a check that failed for lack of power,
    and for a release that is closer to the training images than unseen ones are: its copies may be of a kind that the
    score does not find.
    """
    if failed(checks, "invalid"):
        return INVALID, found.sentence
    if found.verdict != NO_COPYING:
        return found.verdict, found.sentence
    reasons = [check.sentence for check in failed(checks, "inconclusive")]
    if fit == CLOSER:
        reasons.append(
            "but the release is closer to the training images than unseen ones are, without a copy as reason"
        )
    if not reasons:
        return NO_COPYING, found.sentence
    return INCONCLUSIVE, "; ".join([f"{INCONCLUSIVE}: {found.sentence.removeprefix(f'{NO_COPYING}: ')}", *reasons])


def copies_columns(copies: CopiesFound, found: CopiesVerdict, sentence: str, images: int) -> dict[str, Any]:
    """The columns of `audits`.

    Args:
        copies: The scores.
        found: Their verdict.
        sentence: The verdict of the audit in words.
        images: Images of the release, repeated ones included.
    """
    counts, repeats = found.counts, repetition(copies)[0]
    if counts.m < images:
        sentence += _judged_on(counts.m, images, len(copies.generated))
    if counts.at_least and found.files_at_least > counts.at_least:
        sentence += f"; their pictures are {found.files_at_least:,} of the files at least"
    if often := _often_in_training(copies, found):
        sentence += f"; {often}"
    return {
        "sentence": sentence,
        "smallest_detectable_rate": found.smallest_seen,
        "copies_at_least": found.counts.at_least,
        "copies_low": found.counts.low,
        "copies_high": found.high,
        "copies_p": found.counts.p_value,
        "copies_listed": int(found.listed.sum()),
        "distinct_images": len(copies.generated),
        "distinct_held_out": len(copies.held_out),
        "held_out_leaks": int(copies.leaks.sum()),
        "units": counts.m,
        "held_out_units": counts.n,
        "copied_files_at_least": found.files_at_least,
        "pictures": repeats.pictures,
        "repeated_images": repeats.repeated,
        "repeated_pictures": repeats.cliques,
        "most_repeated": repeats.largest,
        "copies_layer": copies.layer,
        "tokens": copies.table,
    }


def repetition(copies: CopiesFound) -> tuple[Repetition, Repetition]:
    """How often the release and the held-out images repeat themselves."""
    of_release, of_held_out = (Repetition.of(one.pictures, one.files) for one in (copies.generated, copies.held_out))
    return of_release, of_held_out


def _judged_on(units: int, images: int, distinct: int) -> str:
    if units == distinct:
        return f"; the release's {images:,} files hold {distinct:,} distinct images, which are what is judged"
    return (
        f"; the release's {images:,} files are {units:,} groups of images that belong together, one of each of which "
        f"is judged"
    )


def _often_in_training(copies: CopiesFound, found: CopiesVerdict) -> str:
    """How often the training images that listed images copy occur in the training set; empty if each occurs once.

    Only images of the same content count: what is merely alike (`train_alike`) may be two pictures of one kind.
    """
    images = copies.generated
    sources, first = np.unique(images.sources[found.listed], return_index=True)
    times = images.train_files[found.listed][first]
    often = times[times > 1]
    if not len(often):
        return ""
    low, high = int(often.min()), int(often.max())
    span = f"{low:,} times" if low == high else f"{low:,} to {high:,} times"
    occur = f"{len(often):,} of the {len(sources):,} training images that are copied"
    return f"{occur} {'occurs' if len(often) == 1 else 'occur'} {span} in the training set: what to deduplicate"


def shown_copies(copies: CopiesFound, found: CopiesVerdict) -> NDArray[np.int64]:
    """Places of the images that are listed or score higher than every held-out image, the strongest first."""
    images = copies.generated
    shown = np.flatnonzero(found.listed | (images.scores > copies.held_out.scores.max()))
    return shown[np.lexsort((images.rows[shown], -images.scores[shown]))]


def copies_rows(
    store: ObjectStore,
    who: Mapping[str, Any],
    copies: CopiesFound,
    found: CopiesVerdict,
    shown: NDArray[np.int64],
    tables: tuple[EmbeddingTable, EmbeddingTable],
) -> list[dict[str, Any]]:
    """The rows of `copies`.

    Args:
        store: The store of the audits.
        who: The columns that every result table begins with.
        copies: The scores.
        found: Their verdict.
        shown: Places of the images, see `shown_copies`.
        tables: The embedding tables of the release and of the training images.
    """
    images, picture_files = copies.generated, copies.generated.picture_files
    vectors, (release, train) = VectorStore(store), tables
    names = vectors.identities(release, set(images.rows[shown].tolist()))
    sources = vectors.identities(train, set(images.sources[shown].tolist()))
    return [
        {
            **who,
            "rank": rank,
            "image_key": names[int(images.rows[at])].key,
            "train_key": sources[int(images.sources[at])].key,
            "score": float(images.scores[at]),
            "p_value": float(found.p_values[at]),
            "late": float(images.late[at]),
            "votes": float(images.votes[at]),
            "part": bool(images.parts[at]),
            "listed": bool(found.listed[at]),
            "identical": bool(images.identical[at]),
            "view": copies.views[int(images.views[at])],
            "picture": int(images.pictures[at]),
            "picture_files": int(picture_files[at]),
            "train_files": int(images.train_files[at]),
            "train_alike": int(images.train_alike[at]),
        }
        for rank, at in enumerate(shown, start=1)
    ]
