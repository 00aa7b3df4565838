"""The stage that transforms the images of a set into a new set within the store."""

from __future__ import annotations

from collections.abc import Sequence

from actors.stages.context import StageContext
from actors.workers.transform_images import CONSTANTS, TransformBlock, transform_block
from storage.image_sets.manifest import Manifest
from storage.layout import done_key, perturbed_prefix

BLOCK = 200
"""Images of one task."""


def transform_images(
    context: StageContext, manifest: Manifest, change: str, label: str, rows: Sequence[int] | None = None
) -> str:
    """Transform the images of a set; one that was made before is reused.

    Args:
        context: Store, cluster and progress.
        manifest: The set.
        change: A name in `actors.workers.transform_images.CHANGES`.
        label: The set's name in progress reports.
        rows: Rows of the manifest; None: all.

    Returns:
        The URI of the new set.
    """
    images = [manifest.image(row) for row in (range(len(manifest)) if rows is None else rows)]
    prefix = perturbed_prefix([image.etag for image in images], manifest.uri, change, CONSTANTS)
    if not context.store.exists(done_key(prefix)):
        tasks = [
            TransformBlock(
                context.store.uri, prefix, change, manifest.uri, manifest.kind, i, tuple(images[i : i + BLOCK])
            )
            for i in range(0, len(images), BLOCK)
        ]
        context.run("layers", transform_block, tasks, f"{change} {label}", unit="blocks")
        context.store.put_if_absent(done_key(prefix), b"")
    return f"{context.store.child_uri(prefix)}/"
