"""Whether two sets of files have the same kinds (codec, quality, size), chance allowed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scoring.checks.check import Check

TOLERANCE = 0.05
"""Share of a set's files that may be of another kind."""

ERROR = 0.01
"""Probability that two random parts of one set fail at tolerance 0."""

_DRAWS = 4_000
_FILES_PER_KIND = 100


def parity(
    reference: Mapping[str, int],
    other: Mapping[str, int],
    *,
    what: str = "codec",
    tolerance: float = TOLERANCE,
    error: float = ERROR,
    seed: int = 0,
) -> Check:
    """Check whether the kinds of files of two sets differ by more than a tolerated share, chance allowed for.

    The distance is the total variation: the share of files that would have to change kind. Between two samples of one
    mixture it is not 0 (half of all files when there are as many sizes as images). The check therefore subtracts the
    (1 - ``error``) quantile of the distance between two random parts of the pooled files, and fails when the rest
    exceeds ``tolerance``. One rule thus serves 16 files and a million: few files fail only on strong evidence.

    Args:
        reference: Kind → number of training files.
        other: Kind → number of files of the other set.
        what: Name of the property in the sentence.
        tolerance: Share that may differ.
        error: Probability that two parts of one set fail at tolerance 0.
        seed: Seed of the random parts.

    Raises:
        ValueError: A negative count.

    >>> parity({"PNG": 500}, {"PNG": 98, "JPEG q95": 2}).passed
    True
    >>> parity({"PNG": 16}, {"JPEG q75": 16}).sentence
    'codec differs in 100 % of files: PNG (100 %) in the reference, JPEG q75 (100 %) here'
    """
    kinds = sorted(set(reference) | set(other))
    ours, theirs = _counts(reference, kinds), _counts(other, kinds)
    if not ours.sum() or not theirs.sum():
        return Check(f"{what} parity", True, None, tolerance, f"{what}: no files to compare")
    distance = float(_distance(ours, theirs))
    chance = _by_chance(ours, theirs, error, seed)
    passed = distance - chance <= tolerance
    here = f"{_shares(reference)} in the reference, {_shares(other)} here"
    sentence = f"{what} {'agrees but' if passed and distance else 'differs' if not passed else 'agrees'}"
    sentence += f" in {_percent(distance)} % of files: {here}" if distance else f": {_shares(reference)}"
    remedy = "" if passed else "store all sets alike (format, quality, subsampling, native size), or harmonise them"
    return Check(f"{what} parity", passed, distance, tolerance + chance, sentence, remedy)


def total_variation(reference: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Compute half the sum of the absolute differences of the shares; 0 when a set is empty.

    >>> total_variation({"png": 8}, {"png": 2, "jpg": 2})
    0.5
    """
    kinds = sorted(set(reference) | set(other))
    ours, theirs = _counts(reference, kinds), _counts(other, kinds)
    return float(_distance(ours, theirs)) if ours.sum() and theirs.sum() else 0.0


def _by_chance(ours: NDArray[np.int64], theirs: NDArray[np.int64], error: float, seed: int) -> float:
    """The (1 - error) quantile of the distance between random parts of the pooled files, as large as the two sets."""
    pooled = ours + theirs
    rng = np.random.default_rng(seed)
    method: Literal["count", "marginals"] = "count" if pooled.sum() < _FILES_PER_KIND * pooled.size else "marginals"
    part = rng.multivariate_hypergeometric(pooled, int(theirs.sum()), size=_DRAWS, method=method)
    return float(np.quantile(_distance(pooled - part, part), 1 - error, method="higher"))


def _distance(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.float64]:
    shares = ours / ours.sum(axis=-1, keepdims=True) - theirs / theirs.sum(axis=-1, keepdims=True)
    half: NDArray[np.float64] = 0.5 * np.abs(shares).sum(axis=-1)
    return half


def _counts(counts: Mapping[str, int], kinds: Sequence[str]) -> NDArray[np.int64]:
    if any(count < 0 for count in counts.values()):
        raise ValueError(f"counts must not be negative, got {dict(counts)}")
    return np.array([counts.get(kind, 0) for kind in kinds], np.int64)


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = [f"{kind} ({_percent(count / total)} %)" for kind, count in ranked[:3]]
    return ", ".join(shown) + (", …" if len(ranked) > 3 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"
