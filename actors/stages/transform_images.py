"""The stage that changes the images of a set into a new set within the store."""

from __future__ import annotations

from collections.abc import Sequence

from actors.stages.context import Workbench
from actors.workers.transform_images import CONSTANTS, Perturb, Perturber
from storage.image_sets.manifest import Manifest
from storage.layout import done_key, perturbed_prefix

BLOCK = 200
"""Images of one task."""


def perturb(bench: Workbench, manifest: Manifest, change: str, label: str, rows: Sequence[int] | None = None) -> str:
    """Change the images of a set; a set that was made before is found.

    Args:
        bench: Store, cluster and progress.
        manifest: The set.
        change: A name in `actors.workers.transform_images.CHANGES`.
        label: What progress calls the set.
        rows: Rows of the manifest; None: all.

    Returns:
        The URI of the new set.
    """
    images = [manifest.image(row) for row in (range(len(manifest)) if rows is None else rows)]
    prefix = perturbed_prefix([image.etag for image in images], manifest.uri, change, CONSTANTS)
    if not bench.store.exists(done_key(prefix)):
        tasks = [
            Perturb(bench.store.uri, prefix, change, manifest.uri, manifest.kind, i, tuple(images[i : i + BLOCK]))
            for i in range(0, len(images), BLOCK)
        ]
        bench.run("layers", Perturber(), tasks, f"{change} {label}", unit="blocks")
        bench.store.put_if_absent(done_key(prefix), b"")
    return f"{bench.store.child_uri(prefix)}/"
