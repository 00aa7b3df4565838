"""The stage that transforms the images of a set into a new set within the store."""

from __future__ import annotations

from collections.abc import Sequence

from actors.encoder.alterations import VERSION
from actors.stages.context import StageContext
from actors.workers.transform_images import CHANGES, CONSTANTS, LARGEST_SIDE, TransformBlock, transform_block
from storage.image_sets.image_ref import ImageRef
from storage.image_sets.manifest import Manifest
from storage.layout import done_key, perturbed_prefix

BLOCK = 200
"""Images of one task."""


def transform_images(
    context: StageContext,
    manifest: Manifest,
    change: str,
    label: str,
    rows: Sequence[int] | None = None,
    canvases: tuple[Manifest, Sequence[int]] | None = None,
) -> str:
    """Transform the images of a set; one that was made before is reused.

    Args:
        context: Store, cluster and progress.
        manifest: The set.
        change: A name in `actors.workers.transform_images.CHANGES`, or an alteration.
        label: The set's name in progress reports.
        rows: Rows of the manifest; None: all.
        canvases: What altered images are put on: a set, and a row of it for each image; None: themselves.

    Returns:
        The URI of the new set.
    """
    images = _images(manifest, rows)
    on = [] if canvases is None else _images(*canvases)
    constants = CONSTANTS if change in CHANGES else (VERSION, LARGEST_SIDE, [image.etag for image in on])
    prefix = perturbed_prefix([image.etag for image in images], manifest.uri, change, constants)
    if not context.store.exists(done_key(prefix)):
        tasks = [
            TransformBlock(
                store=context.store.uri,
                prefix=prefix,
                change=change,
                set_uri=manifest.uri,
                kind=manifest.kind,
                first=i,
                images=tuple(images[i : i + BLOCK]),
                canvas_uri=None if canvases is None else canvases[0].uri,
                canvas_kind="objects" if canvases is None else canvases[0].kind,
                canvases=tuple(on[i : i + BLOCK]),
            )
            for i in range(0, len(images), BLOCK)
        ]
        context.run("layers", transform_block, tasks, f"{change} {label}", unit="blocks")
        context.store.put_if_absent(done_key(prefix), b"")
    return f"{context.store.child_uri(prefix)}/"


def _images(manifest: Manifest, rows: Sequence[int] | None) -> list[ImageRef]:
    return manifest.images() if rows is None else [manifest.image(row) for row in rows]
