"""Checks before any work: what would make an audit impossible or its numbers meaningless is said in seconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from actors.decode import UnreadableImageError, decode
from flows.spec import AuditSpec
from storage.errors import InputError
from storage.image_sets import Manifest, open_reader
from storage.objects import ObjectStore
from storage.vectors import EmbeddingTable

MIN_HELD_OUT = 50
MIN_RELEASE = 20
SNIFFED = 16
CODEC_TOLERANCE = 0.05
"""Share of a set's images that may differ from the reference in codec before the comparison is refused."""

OWNER_KEY = "layerprint.json"


class FileFacts(NamedTuple):
    """How the images of a set are stored: counts by codec ("JPEG q75 4:2:0") and by native size ("32×32")."""

    codecs: Counter[str]
    sizes: Counter[str]

    @classmethod
    def of(cls, table: EmbeddingTable) -> FileFacts:
        return cls(Counter(table.codecs), Counter(table.sizes))


def claim_store(store: ObjectStore, spec: AuditSpec, train: Manifest, held_out: Manifest) -> None:
    """Mark the store as this reference's, or check that it is: profiles of two references never mix.

    The reference is the same when its name and either the places or the contents of its sets are.

    Raises:
        InputError: the store belongs to another reference, or holds something else.
    """
    places = {"train": spec.reference.train, "held_out": spec.reference.held_out}
    contents = {"train": train.digest, "held_out": held_out.digest}
    ours = {"format": 1, "name": spec.reference.name, "places": places, "contents": contents}
    if store.put_if_absent(OWNER_KEY, json.dumps(ours, indent=1).encode()):
        return
    try:
        owner = json.loads(store.get(OWNER_KEY))
        known = (owner["name"], owner["places"], owner["contents"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"store: {store.uri} holds a {OWNER_KEY} that is not ours", "give an empty store") from error
    if known[0] != spec.reference.name or (known[1] != places and known[2] != contents):
        raise InputError(
            f"store: {store.uri} belongs to the reference {known[0]} (train {known[1].get('train')}, held-out "
            f"{known[1].get('held_out')}); this spec's is {spec.reference.name} (train {places['train']}, held-out "
            f"{places['held_out']})",
            "give this spec a store of its own",
        )


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
    """Refuse a held-out set that is the train set, whatever it is called.

    A few images that stand in both are another matter (contamination).
    """
    shared = set(train.table["etag"].to_pylist()) & set(held_out.table["etag"].to_pylist())
    inside = sum(tag in shared for tag in held_out.table["etag"].to_pylist())
    if inside > len(held_out) / 2:
        raise InputError(
            f"reference.held_out: {inside} of {len(held_out)} images of {held_out.uri} are in reference.train too",
            "give images from the same distribution that were never trained on",
        )


def sniff(manifest: Manifest, seed: int = 0) -> FileFacts:
    """Look at a few images of a set, drawn with the seed. Unreadable ones are left to the embedding stage."""
    reader = open_reader(manifest.uri, manifest.kind)
    rows = np.random.default_rng(seed).permutation(len(manifest))[:SNIFFED]
    keys = manifest.table["key"].take(rows).to_pylist()
    facts = FileFacts(Counter(), Counter())
    for key in keys:
        try:
            image = decode(reader.read(key))
        except UnreadableImageError:
            continue
        facts.codecs[image.codec] += 1
        facts.sizes[f"{image.width}×{image.height}"] += 1
    return facts


def check_same_files(reference: FileFacts, other: FileFacts, name: str) -> None:
    """Refuse sets whose files differ in kind: raw PNGs against JPEG-75 reals moved C_T by up to +11 (METHOD §3).

    Sizes are compared only when all reference images share one size. A few images say little about a mixed set, so
    where either set was only sniffed at, it must have nothing in common with the other to be refused.

    Raises:
        InputError: names both kinds, and how to make them alike.
    """
    few = min(reference.codecs.total(), other.codecs.total()) <= SNIFFED
    tolerance = 1 - 1e-9 if few else CODEC_TOLERANCE
    if share_outside(reference.codecs, other.codecs) > tolerance:
        raise InputError(
            f"{name}: images are {_kinds(other.codecs)}, the train images are {_kinds(reference.codecs)}; "
            "early layers would see the file format, not the model",
            "re-encode all sets alike (same format, JPEG quality and subsampling) and run again",
        )
    if len(reference.sizes) == 1 and share_outside(reference.sizes, other.sizes) > tolerance:
        raise InputError(
            f"{name}: images are {_kinds(other.sizes)} pixels, the train images are {_kinds(reference.sizes)}",
            "resize all sets alike with one filter, then encode them alike, and run again",
        )


def share_outside(reference: Counter[str], other: Counter[str]) -> float:
    """Share of the other set that exceeds what the reference has of each kind (total variation distance).

    >>> share_outside(Counter(png=8), Counter(png=2, jpg=2))
    0.5
    """
    all_reference, all_other = reference.total(), other.total()
    if not all_reference or not all_other:
        return 0.0
    return sum(max(0.0, other[k] / all_other - reference[k] / all_reference) for k in other)


def check_rejects(table: EmbeddingTable, name: str, most: float) -> None:
    """Refuse a set of which too many images could not be read."""
    total = table.rows + len(table.rejects)
    if len(table.rejects) > most * total:
        first = table.rejects[0]
        raise InputError(
            f"{name}: {len(table.rejects)} of {total} images could not be read, more than the allowed "
            f"{most:.0%}; the first is {first['key']}: {first['reason']}",
            "mend or remove these files, or raise gate.max_rejected",
        )


def _kinds(counts: Counter[str]) -> str:
    shown = [f"{kind} ({count / counts.total():.0%})" for kind, count in counts.most_common(3)]
    return ", ".join(shown) + (", …" if len(counts) > 3 else "")
