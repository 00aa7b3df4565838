"""Weights by URI: an s3:// state dict is fetched once per machine, and cached under the digest of its content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from storage.digest import short
from storage.errors import InputError
from storage.objects.open import open_store


def local_weights(weights: str) -> str:
    """A local path for weights given as ``s3://…``; anything else is returned unchanged.

    The file is kept under the cache folder (``LAYERPRINT_CACHE``, else ``~/.cache/layerprint``).

    Raises:
        StoreError: The object cannot be read.
    """
    if not weights.startswith("s3://"):
        return weights
    parent, _, name = weights.rpartition("/")
    content = open_store(parent).get(name)
    folder = _cache_folder()
    target = folder / (hashlib.sha256(content).hexdigest() + PurePosixPath(name).suffix)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        os.replace(file.name, target)
    return str(target)


def weights_identity(weights: str) -> str:
    """The digest of the weights' content, or ``hub`` and ``random`` themselves.

    Raises:
        InputError: There is no such file.
    """
    if weights in ("hub", "random"):
        return weights
    path = Path(local_weights(weights))
    if not path.is_file():
        raise InputError(
            f"encoder.weights: there is no file {weights}",
            "give a .safetensors or .pth file, an s3:// URI, hub or random",
        )
    with path.open("rb") as file:
        return short(hashlib.file_digest(file, "sha256").hexdigest())


def _cache_folder() -> Path:
    base = os.environ.get("LAYERPRINT_CACHE") or Path.home() / ".cache" / "layerprint"
    return Path(base) / "weights"
