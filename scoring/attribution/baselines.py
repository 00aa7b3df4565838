"""Baseline rules of attribution: each scores every enrolled release, higher = more alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoring.attribution.profile import Profile, Run, merged
from scoring.score.frechet import frechet_distance

PROBE_PENALTY = 0.1
"""C of the linear probe: the best of .01, .1 and 1 on batches of 30 CIFAR-10 images."""


def published_similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Compute ½·cos(a, b) + ½/(1 + ‖a - b‖₂) between two C_T curves; cos is 0 when a curve is all zero.

    Args:
        a: (L,) C_T of each layer.
        b: (L,) the other's.

    Source:
        He et al. 2024 (similarity of C_T curves).

    >>> published_similarity(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    1.0
    >>> published_similarity(np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    0.25
    """
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths > 0 else 0.0
    return 0.5 * cosine + 0.5 / (1 + float(np.linalg.norm(a - b)))


def published_rule(suspect: Profile, runs: Sequence[Run]) -> dict[str, float]:
    """Similarity of the suspect's C_T curve to the most similar curve of each release (He et al. 2024).

    Layers where either curve is NaN do not count; no common layer gives 0.
    """
    best: dict[str, float] = {}
    for run in runs:
        both = np.isfinite(suspect.c_t) & np.isfinite(run.whole.c_t)
        alike = published_similarity(suspect.c_t[both], run.whole.c_t[both]) if both.any() else 0.0
        best[run.maker] = max(best.get(run.maker, -1.0), alike)
    return best


def frechet_rule(suspect: Profile, runs: Sequence[Run]) -> dict[str, float]:
    """Minus the Fréchet distance of the last layer's projected embeddings, not bias-corrected."""
    return {
        maker: -frechet_distance(suspect.signature[-1], whole.signature[-1]) for maker, whole in _by_maker(runs).items()
    }


def mean_rule(suspect: Profile, runs: Sequence[Run]) -> dict[str, float]:
    """Minus the Euclidean distance of the last layer's mean embeddings."""
    mine = suspect.signature[-1].mean
    return {maker: -float(np.linalg.norm(mine - whole.signature[-1].mean)) for maker, whole in _by_maker(runs).items()}


def _by_maker(runs: Sequence[Run]) -> dict[str, Profile]:
    groups: dict[str, list[Profile]] = {}
    for run in runs:
        groups.setdefault(run.maker, []).append(run.whole)
    return {maker: merged(wholes) for maker, wholes in groups.items()}


def linear_probe(
    enrolled: Mapping[str, NDArray[np.float32]], suspects: Sequence[NDArray[np.float32]]
) -> list[dict[str, float]]:
    """Log-probability of each release, summed over a suspect's images, by logistic regression on single images.

    The probe needs all images of every release, while the other rules need only profiles.

    Args:
        enrolled: Release → (n, k) float32, one layer's projected embeddings.
        suspects: For each suspect (m, k) float32, of the same layer.

    Raises:
        ValueError: Fewer than 2 releases.

    >>> rng = np.random.default_rng(0)
    >>> far, near = rng.normal(3, 1, (50, 2)).astype(np.float32), rng.normal(0, 1, (50, 2)).astype(np.float32)
    >>> (scores,) = linear_probe({"far": far, "near": near}, [near[:9] + 0.1])
    >>> max(scores, key=scores.get)
    'near'
    """
    if len(enrolled) < 2:
        raise ValueError(f"a probe needs at least 2 releases, got {len(enrolled)}")
    names = list(enrolled)
    labels = np.repeat(np.arange(len(names)), [len(x) for x in enrolled.values()])
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=PROBE_PENALTY, class_weight="balanced", max_iter=500)
    )
    classifier.fit(np.concatenate(list(enrolled.values())), labels)
    sums = [classifier.predict_log_proba(x).sum(axis=0) for x in suspects]
    return [dict(zip(names, map(float, total), strict=True)) for total in sums]
