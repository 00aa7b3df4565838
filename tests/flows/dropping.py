"""Releases dropped into a bucket, as their makers do it."""

from __future__ import annotations

from typing import Any

import yaml

from storage.objects.open import ObjectStore, open_store
from tests.flows.conftest import LAB


def drop(bucket: ObjectStore, folder: str, source: str, **fields: Any) -> None:
    """Copy a set of the laboratory, then write its release.yaml.

    Args:
        bucket: Where releases are.
        folder: The release's folder, and its name.
        source: A set of the laboratory.
        fields: More of its release.yaml.
    """
    lab = open_store(LAB)
    for info in lab.list(f"{source}/"):
        bucket.put(f"{folder}/{info.key.rpartition('/')[2]}", lab.get(info.key))
    bucket.put(f"{folder}/release.yaml", yaml.safe_dump({"name": folder, **fields}).encode())
