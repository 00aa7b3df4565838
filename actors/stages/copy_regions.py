"""The stage that finds the copied regions of a release's copies: of the few that are shown, not of all its images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actors.stages.context import StageContext
from actors.stages.copies import CopiesFound, CopyReference
from actors.workers.copy_region import CopiedImage, CopyRegion, FindRegions, find_regions
from storage.errors import StageError
from storage.vectors.tables import VectorStore

BLOCK = 256
"""Copies of one task: each is compared with `scoring.copies.region.RIVALS` training images, twice."""


def copy_regions(
    context: StageContext, reference: CopyReference, copies: CopiesFound, places: NDArray[np.int64], label: str
) -> list[CopyRegion]:
    """Find the copied regions of some images and of their sources.

    Args:
        context: Store, cluster and progress.
        reference: What the images were compared with.
        copies: Their scores, sources and views.
        places: Places of the images in ``copies.generated``.
        label: Name of the release in progress reports.

    Returns:
        The regions in the order of the places.

    Raises:
        StageError: The token table of the release is gone.
    """
    table = VectorStore(context.store).committed(copies.table)
    if table is None:
        raise StageError(f"the token table {copies.table} is not in the store any more", "run the audit again")
    images, train = copies.generated, reference.train
    copied = [CopiedImage(int(images.rows[at]), int(images.views[at]), int(images.sources[at])) for at in places]
    tasks = [
        FindRegions(
            store=context.store.uri,
            train=(train.name, train.version),
            images=(table.name, table.version),
            views=reference.plan.views,
            dims=reference.plan.dims,
            copies=tuple(copied[start : start + BLOCK]),
        )
        for start in range(0, len(copied), BLOCK)
    ]
    found = context.run("layers", find_regions, tasks, f"regions {label}", unit="blocks")
    return [region for number in range(len(tasks)) for region in found[number]]
