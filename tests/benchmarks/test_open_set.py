from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from benchmarks.open_set import auroc, oscr, reliability, wilson

RNG = np.random.default_rng(0)
KNOWN, UNKNOWN = RNG.normal(1, 1, 200).round(1), RNG.normal(0, 1, 150).round(1)
RIGHT = RNG.random(200) < 0.8


def test_wilson_by_its_formula() -> None:
    z, n, p = 1.959964, 40, 0.9
    centre, reach = p + z**2 / 2 / n, z * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5
    found = wilson(36, 40)
    assert found == pytest.approx((p, (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)), abs=1e-6)


def test_auroc_counts_pairs() -> None:
    pairs = [(k > u) + 0.5 * (k == u) for k in KNOWN for u in UNKNOWN]
    assert auroc(KNOWN, UNKNOWN) == pytest.approx(np.mean(pairs))


def test_oscr_is_the_area_under_its_curve() -> None:
    """By the trapezoid rule over thresholds, as Dhamija et al. draw it."""
    thresholds = np.concatenate([[-np.inf], np.unique(np.concatenate([KNOWN, UNKNOWN])), [np.inf]])
    ccr = np.array([(RIGHT & (t <= KNOWN)).mean() for t in thresholds])
    fpr = np.array([(t <= UNKNOWN).mean() for t in thresholds])
    assert oscr(KNOWN, RIGHT, UNKNOWN) == pytest.approx(float(np.trapezoid(ccr[::-1], fpr[::-1])))
    assert oscr(KNOWN, RIGHT, UNKNOWN) <= RIGHT.mean()
    assert oscr(KNOWN, np.ones(200, bool), UNKNOWN) == pytest.approx(auroc(KNOWN, UNKNOWN))


def test_reliability_agrees_with_scikit_learn() -> None:
    confidence = RNG.uniform(0.2, 1, 300)
    right = RNG.random(300) < confidence**2
    found = reliability(confidence, right, 10)
    accuracy, stated = calibration_curve(right, confidence, n_bins=10, strategy="quantile")
    assert found.accuracy == pytest.approx(accuracy, abs=0.04)
    assert found.confidence == pytest.approx(stated, abs=0.01)
    assert found.ece == pytest.approx(np.mean(confidence - confidence**2), abs=0.05)


def test_an_honest_method_has_a_small_error() -> None:
    confidence = RNG.uniform(0.2, 1, 20_000)
    assert reliability(confidence, RNG.random(20_000) < confidence).ece < 0.015
