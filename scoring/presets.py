"""The scoring presets and their distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Preset:
    """A named way of scoring.

    Attributes:
        name: Name in the spec.
        metric: Metric of the nearest distances.
    """

    name: str
    metric: Metric


PRESETS: dict[str, Preset] = {
    "paper": Preset("paper", "abs_cosine"),
    "meehan": Preset("meehan", "euclidean"),
    "default": Preset("default", "euclidean"),
}
"""``paper`` reproduces He et al. 2024, ``meehan`` Meehan et al. 2020; ``default`` is read by Â rather than by C_T."""


Metric = Literal["euclidean", "abs_cosine"]
