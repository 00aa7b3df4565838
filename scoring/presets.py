"""The scoring presets, and the distances they use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Preset:
    """A named way of scoring.

    Attributes:
        name: Its name.
        metric: Metric of the nearest distances.
    """

    name: str
    metric: Metric


PRESETS: dict[str, Preset] = {
    "paper": Preset("paper", "abs_cosine"),
    "meehan": Preset("meehan", "euclidean"),
    "default": Preset("default", "euclidean"),
}
"""``paper`` reproduces He et al. 2024, ``meehan`` Meehan et al. 2020; ``default`` reads Â before C_T."""


Metric = Literal["euclidean", "abs_cosine"]
