"""The closest pairs as small pictures, re-encoded from their pixels, so that no byte of an untrusted file is passed on.

An image that is missing, has changed or cannot be read is replaced by a sentence.
"""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops

from actors.encoder.decode import UnreadableImageError, decode
from flows.report.facts import Row, decisive_layer
from flows.results.audit_result import AuditResult
from storage.errors import LayerprintError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images, open_reader
from storage.layout import manifest_key
from storage.objects.base import ObjectMissingError
from storage.objects.open import ObjectStore
from storage.seal import read_sealed, unless_broken

SIDE = 160
"""Longest side of a picture, in pixels."""

KEPT = 500
"""Images of a set kept in memory for other pairs."""

PAIRS, PAIRS_ELSEWHERE = 8, 4
"""Pairs shown for the decisive layer, and for an early and a late one."""

ROLES = {"decides": "on which the verdict rests", "early": "early: pixels and texture", "late": "late: meaning"}
"""Why a layer is shown."""

STRONGEST = "where the closest images are closest"
"""Why the first layer is shown where none decides."""


class Picture(NamedTuple):
    """An image as a data URI; a `small` one is enlarged without smoothing."""

    uri: str
    width: int
    height: int
    small: bool


class Elsewhere(NamedTuple):
    """The nearest training image at another layer; `row` is None if the pair is not among that layer's closest."""

    role: str
    layer: int
    row: Row | None
    same: bool
    train: Picture | None


class PairView(NamedTuple):
    """A generated image beside its nearest training image: a row of `evidence` and its images.

    `apart` is the mean difference of pixel values, out of 255; None if the shapes of the two differ.
    """

    row: Row
    image: Picture | None
    train: Picture | None
    difference: Picture | None
    apart: float | None
    missing: str
    elsewhere: list[Elsewhere]


class PairGroup(NamedTuple):
    """Pairs of one layer; `described` if the verdict rests on copies, so that no layer decides."""

    role: str
    layer: int
    pairs: list[PairView]
    described: bool = False

    @property
    def heading(self) -> str:
        """The layer and why it is shown."""
        return f"Layer {self.layer}, {STRONGEST if self.described and self.role == 'decides' else ROLES[self.role]}"


class ImageSet:
    """The images of a set by key, as the audit listed them.

    Args:
        store: The store of the audits, which keeps the manifests.
        uri: The set, as the spec names it: rows of the store do not decide what is read.
        digest: Digest of its manifest; if it is None or not in the store, the set is listed again.
    """

    def __init__(self, store: ObjectStore, uri: str, digest: str | None) -> None:
        self.uri = uri
        self._images: dict[str, Image.Image | str] = {}
        self._manifest: Manifest | str
        try:
            self._manifest = _stored(store, digest) or list_images(uri)
            self._reader = open_reader(uri, self._manifest.kind)
        except (LayerprintError, OSError) as error:
            self._manifest = f"{uri} cannot be listed: {_reason(error)}"

    def image(self, key: str) -> Image.Image | str:
        """The image, RGB, at most `SIDE` wide and high; a sentence if it cannot be read."""
        if key not in self._images:
            if len(self._images) >= KEPT:
                self._images.clear()
            self._images[key] = self._read(key)
        return self._images[key]

    def _read(self, key: str) -> Image.Image | str:
        if isinstance(self._manifest, str):
            return self._manifest
        try:
            image = decode(self._reader.read(self._manifest.find(key))).rgb
        except (LayerprintError, UnreadableImageError, OSError) as error:
            return _reason(error)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return image


def _stored(store: ObjectStore, digest: str | None) -> Manifest | None:
    if not digest:
        return None
    try:
        read = partial(read_sealed, store, manifest_key(digest), Manifest.from_bytes)
        return unless_broken(read, "the images are listed again")
    except ObjectMissingError:
        return None


def _reason(error: Exception) -> str:
    return error.found if isinstance(error, LayerprintError) else str(error)


def pair_groups(outcome: AuditResult, evidence: Sequence[Row], release: ImageSet, train: ImageSet) -> list[PairGroup]:
    """The pairs of the decisive layer, then further pairs of an early and a late layer.

    Args:
        outcome: The audit.
        evidence: Its closest pairs, by layer and rank.
        release: The generated images.
        train: The training images.
    """
    layers = [int(row["layer"]) for row in outcome.informative]
    decisive = decisive_layer(outcome)
    if decisive is None:
        return []
    roles = {decisive: "decides"}
    roles.setdefault(layers[0], "early")
    roles.setdefault(layers[-1], "late")
    ends = {"early": layers[0], "late": layers[-1]}
    by_layer: dict[int, dict[str, Row]] = defaultdict(dict)
    for row in evidence:
        by_layer[row["layer"]].setdefault(row["image_key"], row)
    shown: set[str] = set()
    groups = []
    for layer, role in roles.items():
        fresh = [row for key, row in by_layer[layer].items() if key not in shown]
        chosen = fresh[: PAIRS if role == "decides" else PAIRS_ELSEWHERE]
        shown |= {row["image_key"] for row in chosen}
        pairs = [_pair(row, by_layer, ends, release, train) for row in chosen]
        if pairs:
            groups.append(PairGroup(role, layer, pairs, outcome.by_copies))
    return groups


def _pair(
    row: Row, by_layer: dict[int, dict[str, Row]], ends: dict[str, int], release: ImageSet, train: ImageSet
) -> PairView:
    image, nearest = release.image(row["image_key"]), train.image(row["train_key"])
    elsewhere = []
    for role, layer in ends.items():
        other = by_layer[layer].get(row["image_key"])
        same = other is not None and other["train_key"] == row["train_key"]
        other_image = train.image(other["train_key"]) if other is not None and not same else None
        elsewhere.append(Elsewhere(role, layer, other, same, picture(other_image)))
    both = (image, nearest) if isinstance(image, Image.Image) and isinstance(nearest, Image.Image) else None
    difference = _difference(*both) if both else None
    apart = None if difference is None else float(np.asarray(difference, np.float64).mean())
    return PairView(
        row, picture(image), picture(nearest), picture(difference), apart, not_shown(image, nearest), elsewhere
    )


def _difference(image: Image.Image, train: Image.Image) -> Image.Image | None:
    """The absolute difference of two images, black where they agree; None if their shapes differ by over 2 %."""
    if abs(image.width * train.height - image.height * train.width) > 0.02 * image.width * train.height:
        return None
    return ImageChops.difference(image, train.resize(image.size, Image.Resampling.LANCZOS))


def not_shown(image: Image.Image | str, train: Image.Image | str) -> str:
    """Why an image of a pair is not shown; nothing if both are."""
    return " ".join(
        f"The {kind} image is not shown: {reason}."
        for kind, reason in (("generated", image), ("training", train))
        if isinstance(reason, str)
    )


def picture(image: Image.Image | str | None) -> Picture | None:
    """An image to show; None where it could not be read."""
    if not isinstance(image, Image.Image):
        return None
    small = max(image.size) <= SIDE // 2
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=small, quality=80, exif=b"", icc_profile=b"")
    uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(uri, image.width, image.height, small)
