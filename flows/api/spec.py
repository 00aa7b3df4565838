"""From the arguments of a Python call to a spec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.spec.fields import explain
from flows.spec.spec import AuditSpec, EncoderSpec, absolute_uri
from flows.text import file_name
from storage.digest import digest, short
from storage.errors import InputError

Place = str | os.PathLike[str]
"""A path or an ``s3://`` URI; a relative path starts at the working folder."""

Encoder = str | Mapping[str, Any] | EncoderSpec
"""A timm model with its published weights, or the fields of a spec's `encoder`."""

Part = Mapping[str, Any] | BaseModel | None
"""A part of a spec as a mapping of its fields or as the model itself; None = its defaults."""

AUDITS = "layerprint-audits"
"""The folder of the stores that a call makes when it names none."""


def absolute(place: Place) -> str:
    """A place as an absolute path or a URI."""
    return str(absolute_uri(os.fspath(place), Path.cwd()))


def reference_name(train: str, held_out: str) -> str:
    """The name of the last folder that holds both sets.

    >>> reference_name("s3://data/cifar10/train/", "s3://data/cifar10/test/"), reference_name("/a", "s3://b")
    ('cifar10', 'reference')
    """
    folders = set(PurePosixPath(held_out).parents)
    shared = next(folder.name for folder in PurePosixPath(train).parents if folder in folders or not folder.name)
    return "reference" if shared in ("", "s3:") else shared


def set_name(images: Place) -> str:
    """The last part of a place, without suffixes and without the name of a column or an array.

    >>> set_name("s3://releases/glow/"), set_name("./samples.npz#images"), set_name("/")
    ('glow', 'samples', 'release')
    """
    return PurePosixPath(os.fspath(images).partition("#")[0]).name.partition(".")[0] or "release"


def default_store(name: str, train: str, held_out: str) -> str:
    """The store of a reference under the working folder: the same reference finds its embeddings again."""
    identity = short(digest(name=name, train=train, held_out=held_out))
    return absolute(f"{AUDITS}/{file_name(name)}-{identity}")


def build_spec(
    function: str,
    *,
    train: Place,
    held_out: Place,
    encoder: Encoder,
    store: Place | None,
    reference: str | None,
    harmonise: str | None,
    releases: list[dict[str, Any]],
    **parts: Part,
) -> AuditSpec:
    """The spec that the arguments of a call make.

    Args:
        function: Name of the called function, for messages.
        train: Training images.
        held_out: Held-out images.
        encoder: See `Encoder`.
        store: None = see `default_store`.
        reference: Name of the reference; None = see `reference_name`.
        harmonise: Takes the place of the encoder's own.
        releases: Fields of the releases.
        parts: Further parts of a spec.

    Raises:
        InputError: names each wrong argument, the value found and what is allowed.
    """
    train, held_out = absolute(train), absolute(held_out)
    name = reference or reference_name(train, held_out)
    content = {
        "store": absolute(store) if store is not None else default_store(name, train, held_out),
        "encoder": _encoder_fields(encoder, harmonise),
        "reference": {"name": name, "train": train, "held_out": held_out},
        "releases": [{**release, "images": absolute(release["images"])} for release in releases],
        **{key: _fields(part) for key, part in parts.items() if part is not None},
    }
    try:
        return AuditSpec.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"layerprint.{function}:\n{explain(error)}", f"correct these arguments; see help(layerprint.{function})"
        ) from None


def _encoder_fields(encoder: Encoder, harmonise: str | None) -> dict[str, Any]:
    fields = {"model": encoder} if isinstance(encoder, str) else _fields(encoder)
    if fields.get("weights", "hub") not in ("hub", "random"):
        fields["weights"] = absolute(fields["weights"])
    return fields if harmonise is None else {**fields, "harmonise": harmonise}


def _fields(part: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    return part.model_dump() if isinstance(part, BaseModel) else dict(part)
