"""The copied regions as columns of the table `copies`."""

from __future__ import annotations

from typing import Any

from actors.workers.copy_region import CopyRegion
from scoring.copies.region import Mask, bounding_box, to_hex

_ENDS = ("left", "top", "right", "bottom")


def region_columns(region: CopyRegion, size: int) -> dict[str, Any]:
    """The columns of one copy; boxes of an empty region are null.

    Args:
        region: The region in the image and in its source.
        size: Side of the embedded square in pixels.
    """
    return {**_columns("region", region.image, size), **_columns("train_region", region.source, size)}


def _columns(name: str, mask: Mask, size: int) -> dict[str, Any]:
    box = bounding_box(mask, size) or (None,) * len(_ENDS)
    ends = dict(zip((f"{name}_{end}" for end in _ENDS), box, strict=True))
    return {name: to_hex(mask), f"{name}_share": float(mask.mean()), **ends}
