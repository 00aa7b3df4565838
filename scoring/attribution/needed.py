"""How many images an attribution takes, by simulation from the enrolled moments."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.enrolment import Enrolment

Floats = NDArray[np.float64]

LIKELY = 0.8
"""Probability with which the images needed are attributed."""

SETS, SEED = 200, 0
"""Simulated sets, and their seed."""

MOST_IMAGES = 100_000


class Needed:
    """Simulated sets of one enrolled maker, as images of it that were not processed.

    The distances between enrolled means are first reduced by what their own errors add. A simulated set then differs
    from its maker by the errors of both means, each layer's partly the same as the others': as much as makes log T²
    vary as it does between the trial sets. Where more images are needed than are enrolled, the errors of the enrolled
    means decide, which are drawn here and fixed in truth: the number is then often wrong by more than a factor of 2.

    Args:
        enrolment: The enrolled releases.
        maker: The position of the maker.
        answer: Fused distances (K,) → the position of the maker named alone, or None.
    """

    def __init__(self, enrolment: Enrolment, maker: int, answer: Callable[[Floats], int | None]) -> None:
        self.enrolment, self.maker, self.answer = enrolment, maker, answer

    def chance(self, images: int) -> float:
        """Probability that so many images of the maker are attributed to it."""
        return float(np.mean([self.answer(row) == self.maker for row in self.fused(images)]))

    def images(self) -> int | None:
        """Fewest images whose chance is `LIKELY`, within a tenth; None when `MOST_IMAGES` are not enough."""
        low, high = 2, MOST_IMAGES
        if self.chance(high) < LIKELY:
            return None
        while high > max(1.1 * low, low + 1):
            middle = min(max(round((low * high) ** 0.5), low + 1), high - 1)
            low, high = (low, middle) if self.chance(middle) >= LIKELY else (middle, high)
        return high

    def fused(self, images: int) -> Floats:
        """(`SETS`, K) float64, fused distances of simulated sets."""
        rule = self.enrolment.rule
        total = np.zeros((SETS, len(rule.makers)))
        for i, (layer, (drawn, errors)) in enumerate(zip(rule.layers, self._noise, strict=True)):
            scale, of_set = rule.scale[:, i], 1 / images + rule.drift
            own, others = scale[self.maker] * of_set, scale * rule.errors
            steps = self._apart[i] + np.sqrt(own) * drawn[:, None] + np.sqrt(others)[:, None] * errors
            total += layer.whitened_squares(steps, scale * (of_set + rule.errors))
        return total / len(rule.layers) + self.enrolment.curve_weight * self.enrolment.curve_typical

    @cached_property
    def _apart(self) -> list[Floats]:
        """For each layer (K, k), how far the maker's mean lies from the others', less what errors of means add."""
        rule, makers, k = self.enrolment.rule, self.enrolment.makers, self.maker
        steps = []
        for i, layer in enumerate(rule.layers):
            means = np.stack([maker.profile.signature[i].mean for maker in makers])
            steps.append((means[k] - means) @ layer.whiten)
        squares = np.mean([np.square(step).mean(axis=1) for step in steps], axis=0)
        error = rule.scale.mean(axis=1) * rule.errors
        true = np.maximum(0.0, 1 - (error + error[k]) / np.where(squares > 0, squares, np.inf))
        return [np.sqrt(true)[:, None] * step for step in steps]

    @cached_property
    def _noise(self) -> list[tuple[Floats, Floats]]:
        """For each layer the errors of the sets' means, (S, k), and of the makers' means, (S, K, k)."""
        rng = np.random.default_rng(SEED)
        widths = [len(layer.content) for layer in self.enrolment.rule.layers]
        common = rng.normal(size=(SETS, 1 + len(self.enrolment.makers), max(widths)))
        drawn = [
            np.sqrt(self._shared) * common[:, :, :width]
            + np.sqrt(1 - self._shared) * rng.normal(size=(*common.shape[:2], width))
            for width in widths
        ]
        return [(one[:, 0], one[:, 1:]) for one in drawn]

    @cached_property
    def _shared(self) -> float:
        """Share of a layer's error that is common to all layers, from how much the distances of trial sets vary.

        With it the variance of T² is 2/k · [1/L + (1 - 1/L) share²] of its square.
        """
        null = self.enrolment.null[self.enrolment.null > 0]
        layers = self.enrolment.rule.layers
        if len(null) < 3 or len(layers) < 2:
            return 0.5
        seen = float(np.log(null).var(ddof=1)) * np.mean([len(layer.content) for layer in layers]) / 2
        share = (seen - 1 / len(layers)) / (1 - 1 / len(layers))
        return float(np.sqrt(np.clip(share, 0.0, 1.0)))
