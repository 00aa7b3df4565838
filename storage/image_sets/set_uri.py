"""The URI of an image set, taken apart once."""

from __future__ import annotations

from typing import Literal, NamedTuple

from storage.image_sets.file_names import is_parquet, is_shard
from storage.objects.open import open_store

Form = Literal["folder", "tar", "parquet", "array"]
"""A folder or prefix (of image files or tar shards), one tar shard, Parquet files, an array of a ``.npz`` file."""


class SetUri(NamedTuple):
    """The parts of the URI of an image set.

    Args:
        uri: The URI itself.
        form: What it names.
        place: The folder, prefix or file.
        part: The column or the array; empty if the URI names none.
    """

    uri: str
    form: Form
    place: str
    part: str = ""


def parse_set_uri(uri: str) -> SetUri:
    """Take the URI of an image set apart. ``folder#column`` is meant unless a folder has that name.

    >>> parse_set_uri("s3://data/mnist.npz#train")[1:]
    ('array', 's3://data/mnist.npz', 'train')
    >>> parse_set_uri("s3://data/train.parquet#image")[1:]
    ('parquet', 's3://data/train.parquet', 'image')
    >>> parse_set_uri("a/0001.tar").form, parse_set_uri("images/").form
    ('tar', 'folder')
    """
    place, mark, part = uri.rpartition("#") if "#" in uri else (uri, "", "")
    if place.lower().endswith(".npz"):
        return SetUri(uri, "array", place, part)
    if is_parquet(place) or (mark and place and next(iter(open_store(uri).list()), None) is None):
        return SetUri(uri, "parquet", place, part)
    return SetUri(uri, "tar" if is_shard(uri) else "folder", uri)
