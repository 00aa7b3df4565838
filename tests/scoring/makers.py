"""Simulated makers: hidden vectors seen by several layers, and placements that depend on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.background import Background, Shift, layer_background
from scoring.attribution.profile import Profile, Run, cut, merged
from scoring.partition.moments import Moments

LAYERS, WIDTH = 3, 5


def profile_of(hidden: NDArray[np.float64], rng: np.random.Generator) -> Profile:
    """What layers that see the same images say of them: each adds noise of its own."""
    seen = [hidden + 0.4 * rng.normal(size=hidden.shape) for _ in range(LAYERS)]
    closeness = hidden[:, :1] + 0.7 * rng.normal(size=(len(hidden), LAYERS))
    placed = 1 / (1 + np.exp(-closeness))
    return Profile(Moments.of(placed), tuple(Moments.of(x) for x in seen), placed.mean(axis=0) * 10 - 5)


def images(centre: NDArray[np.float64], m: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hidden vectors (m, WIDTH) of one maker, coordinates of unequal spread."""
    drawn: NDArray[np.float64] = centre + rng.normal(size=(m, WIDTH)) * np.linspace(2, 0.5, WIDTH)
    return drawn


def centres(makers: int, apart: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the makers lie, (makers, WIDTH); `apart` in standard deviations of one image."""
    drawn: NDArray[np.float64] = apart * rng.normal(size=(makers, WIDTH)) * np.linspace(2, 0.5, WIDTH)
    return drawn


def run_of(
    maker: str,
    hidden: NDArray[np.float64],
    rng: np.random.Generator,
    name: str = "1",
    shift: Mapping[str, NDArray[np.float64]] | None = None,
) -> Run:
    """An enrolled run, cut into parts; `shift` says how far each processing moves all of its hidden vectors."""
    part = cut(len(hidden), seed=0)
    parts = tuple(profile_of(hidden[part == i], rng) for i in range(int(part.max()) + 1))
    moved = tuple(
        {processing: Shift(one.images, (step,) * LAYERS) for processing, step in (shift or {}).items()} for one in parts
    )
    return Run(maker, name, merged(parts), parts, moved if shift else ())


def background_of(
    rng: np.random.Generator,
    shift: Mapping[str, NDArray[np.float64]],
    contents: NDArray[np.float64] | None = None,
    n: int = 600,
) -> Background:
    """Real images of `contents` (c, WIDTH) in equal parts; `shift` moves them all."""
    where = np.zeros((1, WIDTH)) if contents is None else contents
    cell = np.arange(n) % len(where)
    hidden = where[cell] + images(np.zeros(WIDTH), n, rng)
    layers = []
    for _ in range(LAYERS):
        seen = hidden + 0.4 * rng.normal(size=hidden.shape)
        layers.append(layer_background(seen, cell, seen, {name: seen + step for name, step in shift.items()}))
    return Background(tuple(layers), tuple(shift))
