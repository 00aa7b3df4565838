"""Checks before any work: within seconds they refuse what makes an audit impossible or its numbers meaningless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from actors.encoder.decode import DecodedImage, UnreadableImageError, decode, harmonised
from scoring.checks.check import Check
from scoring.checks.parity import parity
from scoring.score.cells import MIN_HELD_OUT, MIN_RELEASE
from storage.errors import InputError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import open_reader
from storage.vectors.tables import EmbeddingTable

SNIFFED = 16


class FileFacts(NamedTuple):
    """How the images of a set are stored: counts by codec ("JPEG q75 4:2:0") and by native size ("32×32")."""

    codecs: Counter[str]
    sizes: Counter[str]

    @classmethod
    def of_images(cls, images: Iterable[DecodedImage]) -> FileFacts:
        """Count decoded images."""
        facts = cls(Counter(), Counter())
        for image in images:
            facts.codecs[image.codec] += 1
            facts.sizes[f"{image.width}×{image.height}"] += 1
        return facts

    @classmethod
    def of(cls, table: EmbeddingTable) -> FileFacts:
        return cls(Counter(table.codecs), Counter(table.sizes))


def check_counts(sets: Mapping[str, Manifest], cells: int) -> None:
    """Refuse sets that are too small for one cell.

    Args:
        sets: ``reference.train``, ``reference.held_out`` and each release's label → its manifest.
        cells: Cells of the partition.
    """
    needs = {
        "reference.train": (cells * 2, f"{cells} cells"),
        "reference.held_out": (MIN_HELD_OUT, "ranking"),
    }
    for name, manifest in sets.items():
        least, reason = needs.get(name, (MIN_RELEASE, "ranking"))
        if len(manifest) < least:
            raise InputError(
                f"{name}: {manifest.uri} has {len(manifest)} images, {reason} needs at least {least}",
                "give more images" + (", or lower scoring.cells" if name == "reference.train" else ""),
            )


def check_held_out(train: Manifest, held_out: Manifest) -> None:
    """Refuse a held-out set that is the training set under another name.

    A few images in both are another matter (contamination).
    """
    inside = pc.sum(pc.is_in(held_out.table["etag"], value_set=train.table["etag"])).as_py()
    if inside > len(held_out) / 2:
        raise InputError(
            f"reference.held_out: {inside} of {len(held_out)} images of {held_out.uri} are in reference.train too",
            "give images from the same distribution that were never trained on",
        )


def sniff(manifest: Manifest, quality: int | None = None, seed: int = 0) -> FileFacts:
    """Read a few images of a set, drawn with the seed. Unreadable ones are left to the embedding stage.

    Args:
        manifest: The set.
        quality: JPEG quality of the spec's ``harmonise``, if any.
        seed: Seed of the draw.
    """
    reader = open_reader(manifest.uri, manifest.kind)
    rows = np.random.default_rng(seed).permutation(len(manifest))[:SNIFFED]

    def readable() -> Iterator[DecodedImage]:
        for row in rows.tolist():
            with suppress(UnreadableImageError):
                yield harmonised(decode(reader.read(manifest.image(row))), quality)

    return FileFacts.of_images(readable())


def parity_checks(reference: FileFacts, other: FileFacts, name: str) -> list[Check]:
    """Whether a set's files have the codecs and native sizes of the training images.

    Raw PNGs against JPEG-75 reals moved C_T by up to +11 (docs/method.md: "What makes an audit valid"): early layers
    see the file, not the model. Sizes are compared only when all training images share one.
    """
    codec = parity(reference.codecs, other.codecs, what="codec")
    checks = [replace(codec, name=f"{name}: codec", remedy=codec.remedy and _HARMONISE)]
    if len(reference.sizes) == 1:
        size = parity(reference.sizes, other.sizes, what="native size")
        checks.append(replace(size, name=f"{name}: native size", remedy=size.remedy and _RESIZE))
    return checks


_HARMONISE = "re-encode all sets alike: layerprint audit --harmonise jpeg:75, or do it beforehand"
_RESIZE = "resize all sets alike with one filter, then encode them alike"


def check_same_files(reference: FileFacts, other: FileFacts, name: str) -> None:
    """Refuse sets whose files differ in kind, before the long work.

    Raises:
        InputError: names both kinds, and how to make them the same.
    """
    for check in parity_checks(reference, other, name):
        if not check.passed:
            raise InputError(f"{check.name}: {check.sentence}", check.remedy)


def check_rejects(table: EmbeddingTable, name: str, most: float) -> None:
    """Refuse a set with too many unreadable images."""
    total = table.rows + len(table.rejects)
    if len(table.rejects) > most * total:
        first = table.rejects[0]
        raise InputError(
            f"{name}: {len(table.rejects)} of {total} images could not be read, more than the allowed "
            f"{most:.0%}; the first is {first['key']}: {first['reason']}",
            "fix or remove these files, or raise gate.max_rejected",
        )
