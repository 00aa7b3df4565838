from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import betabinom

from scoring.score.copy_rate import chance_at_least, copy_rate, copy_rate_bounds
from scoring.score.layer_score import LayerScore
from scoring.verdict.copying import CopyingVerdict, copying_verdict, smallest_detectable_rate


def layer(number: int, below: int, *, n: int = 999, m: int = 500, zeros: int = 0) -> LayerScore:
    """A layer with ``below`` generated images under every held-out one, the others above them all."""
    p = np.linspace(1.0, 2.0, n)
    p[:zeros] = 0.0
    q = np.repeat([0.5, 3.0], [below, m - below])
    return LayerScore(number, n, m, copy=copy_rate(p, q))


def test_copying_is_called_with_the_numbers_of_its_strongest_layer() -> None:
    verdict = copying_verdict([layer(0, 5), layer(1, 40), layer(2, 50), layer(3, 50)], 0.01)
    low, high = copy_rate_bounds(50, 500, 10, 999, 0.95)
    assert (verdict.copying, verdict.layer, verdict.low, verdict.high) == (True, 2, low, high)
    assert verdict.rate == pytest.approx((0.1 - 0.01) / 0.99)
    assert verdict.sentence == (
        "copying: at layer 2, 50 of 500 images lie closer to a training image than 99 % of unseen real "
        "images do; copy rate 9.1 % (95 % interval 6.5–12.1 %), above the allowed 1 %"
    )


def test_the_bound_is_simultaneous_over_the_layers_that_measure() -> None:
    error_of = {k: chance_at_least(k, 500, 10, 999, 0.01) for k in range(10, 60)}
    k = next(k for k, error in error_of.items() if error < 0.05)
    assert error_of[k] > 0.05 / 12
    silent = LayerScore(0, 999, 500)
    assert copying_verdict([layer(1, k), silent], 0.01).copying
    assert not copying_verdict([layer(1, k - 1), silent], 0.01).copying
    assert not copying_verdict([layer(number, k if number == 4 else 0) for number in range(12)], 0.01).copying


def test_no_copying_says_what_could_have_been_seen() -> None:
    verdict = copying_verdict([layer(0, 3), layer(1, 8)], 0.01)
    assert (verdict.copying, verdict.layer) == (False, 1)
    seen = smallest_detectable_rate(999, 500, 2, 0.01)
    assert seen is not None
    assert verdict.sentence.startswith("no copying above the allowed 1 % seen: highest at layer 1, where 8 of 500")
    assert verdict.sentence.endswith(f"rate of {100 * seen:.2g} % would have been called copying with 80 % probability")


def test_what_cannot_be_measured_is_said() -> None:
    for scores in ([], [LayerScore(0, 999, 500)], [layer(1, 30, n=90)]):
        verdict = copying_verdict(scores, 0.01)
        assert (verdict.copying, verdict.layer, verdict.rate) == (False, None, None)
        assert verdict.sentence.startswith("copying cannot be judged: no layer can measure the 1 % tail")
    hidden = copying_verdict([layer(1, 30, zeros=10)], 0.01)
    assert "at least 10 of 999 held-out images are identical to training images" in hidden.sentence
    assert "no copy rate could have been called copying" in copying_verdict([layer(1, 0, m=1)], 0.5).sentence


def test_family_error_is_kept_over_independent_honest_layers() -> None:
    rng = np.random.default_rng(0)
    bound = {k: copy_rate_bounds(k, 300, 5, 499, 1 - 0.1 / 6).low > 0.0 for k in range(60)}
    draws = rng.binomial(300, rng.beta(5, 495, (4000, 6)))
    assert 0.01 < np.mean([any(bound[k] for k in row) for row in draws.tolist()]) <= 0.055


@pytest.mark.parametrize("power", [0.5, 0.8])
def test_smallest_detectable_rate_is_called_with_its_power(power: float) -> None:
    rate = smallest_detectable_rate(999, 500, 4, 0.01, power)
    assert rate is not None
    rng = np.random.default_rng(1)
    draws = rng.binomial(500, rate + (1 - rate) * rng.beta(10, 990, 4000))
    called = {k: copying_verdict([layer(i, k if i == 0 else 0) for i in range(4)], 0.01).copying for k in {*draws}}
    assert np.mean([called[k] for k in draws.tolist()]) == pytest.approx(power, abs=0.03)


def test_more_images_detect_smaller_rates() -> None:
    rates = [smallest_detectable_rate(n, n, 12, 0.01) for n in (200, 1000, 5000, 20_000)]
    numbers = [rate for rate in rates if rate is not None]
    assert len(numbers) == 4
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[-1] > 0.01
    assert smallest_detectable_rate(98, 500, 12, 0.01) is None


def test_zero_tolerance_is_the_beta_binomial_test() -> None:
    k = next(k for k in range(100) if betabinom.sf(k - 1, 500, 10, 990) < 0.05)
    assert copying_verdict([layer(0, k)], 0.0).copying
    assert not copying_verdict([layer(0, k - 1)], 0.0).copying
    with pytest.raises(ValueError, match="max_copy_rate"):
        copying_verdict([], 1.0)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(0, 3))
def test_planted_copies_only_strengthen_the_verdict_and_duplicate_layers_only_weaken_it(
    seed: int, copies: int, repeated: int
) -> None:
    rng = np.random.default_rng(seed)
    p, q = 1 + rng.random(400), 1 + rng.random(200)
    planted = q.copy()
    planted[:copies] = 0.1

    def judged(images: np.ndarray, layers: int) -> CopyingVerdict:
        score = LayerScore(0, 400, 200, copy=copy_rate(p, images))
        return copying_verdict([dataclasses.replace(score, layer=i) for i in range(layers)], 0.0)

    honest, copied, more = judged(q, 1), judged(planted, 1), judged(rng.permutation(planted), 1 + repeated)
    assert copied.copying >= honest.copying
    assert (copied.rate or 0.0) >= (honest.rate or 0.0)
    assert (copied.low or 0.0) >= (honest.low or 0.0)
    assert more.copying <= copied.copying
    assert (more.layer, more.rate, more.low, more.high) == (0, copied.rate, copied.low, copied.high)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_interval_of_the_copy_rate_shrinks_with_images(share: float) -> None:
    widths = []
    for m in (200, 1000, 5000):
        low, high = copy_rate_bounds(round(m * (share + 0.01)), m, m // 100, m - 1, 0.95)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
