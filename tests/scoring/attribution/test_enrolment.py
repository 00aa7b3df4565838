from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.distance import mahalanobis
from scipy.special import expit, logsumexp
from scipy.stats import chi2

from scoring.attribution import enrolment as enrolment_module
from scoring.attribution.enrolment import enrol, raw_signature_distances
from scoring.attribution.profile import Profile, Run, merged
from scoring.attribution.signature import maker_covariance, shared_shape
from scoring.partition.moments import Moments
from tests.scoring.makers import LAYERS, WIDTH, centres, images, profile_of, run_of

Floats = NDArray[np.float64]


def makers(seed: int, count: int = 6, m: int = 150, apart: float = 0.5, runs: int = 1, shift: float = 0.0) -> list[Run]:
    rng = np.random.default_rng(seed)
    found = []
    for k, centre in enumerate(centres(count, apart, rng)):
        for r in range(runs):
            moved = centre + shift * rng.normal(size=WIDTH) * np.linspace(2, 0.5, WIDTH)
            found.append(run_of(f"maker {k}", images(moved, m, rng), rng, str(r)))
    return found


def plain_raw(x: Profile, sets: list[Profile], shapes: list[Floats]) -> float:
    """Squared distance of mean signatures in units of the variance of one image, written out."""
    maker, total = merged(sets), 0.0
    for layer, shape in enumerate(shapes):
        scatter = sum((one.signature[layer].scatter for one in sets), np.zeros_like(shape))
        own = maker_covariance(scatter, maker.images - len(sets), shape)
        total += mahalanobis(x.signature[layer].mean, maker.signature[layer].mean, np.linalg.inv(own)) ** 2
    return total


def plain_distances(
    x: Profile, sets: list[Profile], shapes: list[Floats], runs: int = 1, spread: Floats | None = None, drift: float = 0
) -> tuple[float, float]:
    """D² and T² of a set from a maker, written out."""
    maker, between = merged(sets), 1 + 1 / runs
    covariance = maker.curve.covariance * (1 + maker.images / x.images) + (0 if spread is None else spread * between)
    step = x.curve.x - maker.curve.x
    d2 = float(step @ np.linalg.inv(covariance + 0.1 * np.diag(np.diag(covariance))) @ step)
    return d2, plain_raw(x, sets, shapes) / (1 / x.images + 1 / maker.images + drift * between)


def shapes_of(runs: list[Run]) -> list[Floats]:
    degrees = [run.whole.images - 1 for run in runs]
    return [shared_shape([run.whole.signature[i].scatter for run in runs], degrees) for i in range(LAYERS)]


def plain_trials(runs: list[Run]) -> tuple[Floats, NDArray[np.intp]]:
    """(2, N, K) D² and T² of the parts of single runs, each left out of its own maker; (N,) the makers."""
    shapes, rows, own = shapes_of(runs), [], []
    for k, run in enumerate(runs):
        for part in run.parts:
            rest = [other for other in run.parts if other is not part]
            sets = [rest if j == k else [other.whole] for j, other in enumerate(runs)]
            rows.append([plain_distances(part, one, shapes) for one in sets])
            own.append(k)
    return np.moveaxis(np.array(rows), 2, 0), np.array(own)


def test_what_is_learnt_from_trials_is_what_plain_loops_and_another_optimiser_find() -> None:
    runs = makers(8, count=4, apart=0.3)
    distances, own = plain_trials(runs)
    found, rows = enrol(runs), np.arange(len(own))

    def loss(logs: Floats, parts: Floats) -> float:
        fused = np.tensordot(np.exp(logs) / LAYERS, parts, 1)
        chances = -0.5 * fused[rows, own] - logsumexp(-0.5 * fused, axis=1)
        return float(-chances.sum() + 0.5 * ((logs / np.log(2)) ** 2).sum())

    def best(parts: Floats) -> Floats:
        options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 2000}
        logs = minimize(loss, np.full(len(parts), 0.3), args=(parts,), method="Nelder-Mead", options=options).x
        weights: Floats = np.exp(logs) / LAYERS
        return weights

    assert found.weights == pytest.approx(best(distances), rel=1e-3)
    assert found.alone == pytest.approx([best(distances[[i]])[0] for i in (0, 1)], rel=1e-3)
    fused = np.tensordot(found.weights, distances, 1)
    assert found.null == pytest.approx(np.sort(fused[rows, own]))
    assert found.right == (fused.argmin(axis=1) == own).sum()


def test_several_runs_stand_trial_whole_and_show_how_runs_differ() -> None:
    """Makers with three, two and one run, by plain loops."""
    rng, runs = np.random.default_rng(20), []
    for k, centre in enumerate(centres(3, 0.6, rng)):
        for r in range(3 - k):
            moved = centre + 0.8 * rng.normal(size=WIDTH)
            runs.append(run_of(f"maker {k}", images(moved, 100 + 30 * r, rng), rng, str(r)))
    found, shapes = enrol(runs), shapes_of(runs)
    groups = [[run.whole for run in runs if run.maker == f"maker {k}"] for k in range(3)]
    excess, weight = 0.0, 0.0
    for group in groups[:2]:
        for one in group:
            rest = [other for other in group if other is not one]
            raw = plain_raw(one, rest, shapes) / (WIDTH * LAYERS)
            excess += raw - 1 / one.images - 1 / sum(other.images for other in rest)
            weight += 1 + 1 / len(rest)
    assert found.drift == pytest.approx(excess / weight)

    assert found.spread is not None
    assert found.spread.variance > 0.01
    spread = found.spread.covariance
    rows, own = [], []
    for k, sets in enumerate([*groups[:2], list(runs[-1].parts)]):
        for one in sets:
            rest = [other for other in sets if other is not one]
            against = [rest if j == k else group for j, group in enumerate(groups)]
            known = [max(1, len(group) - (j == k)) for j, group in enumerate(groups)]
            pairs = zip(against, known, strict=True)
            rows.append([plain_distances(one, group, shapes, count, spread, found.drift) for group, count in pairs])
            own.append(k)
    fused = np.tensordot(found.weights, np.moveaxis(np.array(rows), 2, 0), 1)
    assert found.trials == len(own) == 9
    assert found.null == pytest.approx(np.sort(fused[np.arange(9), own]))
    assert found.right == (fused.argmin(axis=1) == own).sum()


def test_the_odds_of_a_stranger_are_a_logistic_regression_on_the_log_of_the_nearest_distance() -> None:
    runs = makers(9, count=4, apart=0.3)
    distances, own = plain_trials(runs)
    found, rows = enrol(runs), np.arange(len(own))
    fused = np.tensordot(found.weights, distances, 1)
    others = np.where(np.arange(4) == own[:, None], np.inf, fused)
    x, n = np.log(np.concatenate([fused.min(axis=1), others.min(axis=1)])), len(rows)
    y = np.repeat([1 / (n + 2), (n + 1) / (n + 2)], n)

    def loss(at: Floats) -> float:
        p = expit(at[0] * x + at[1])
        return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).sum())

    assert found.unknown == pytest.approx(minimize(loss, np.array([1.0, -1.0]), method="BFGS").x, rel=0.01)


def test_trial_sets_lie_as_far_from_their_own_maker_as_sampling_says() -> None:
    """T²/(k·L) is 1 on average, though the parts of a run share all the others."""
    ratios = []
    for seed in range(12):
        distances, own = plain_trials(makers(100 + seed, count=4))
        ratios.append(distances[1, np.arange(20), own].mean() / (WIDTH * LAYERS))
    assert np.mean(ratios) == pytest.approx(1, abs=0.05 + 3 * np.std(ratios) / 12**0.5)


def test_distance_never_speaks_against_a_stranger() -> None:
    """Nor do weights leave the positive numbers, where makers are the same."""
    for seed in range(8):
        found = enrol(makers(200 + seed, count=3, m=100, apart=0.0))
        assert found.unknown is not None
        assert found.unknown[0] >= 0
        assert (found.weights > 0).all()
        assert (found.alone > 0).all()


def test_the_best_layer_is_the_one_that_tells_makers_apart() -> None:
    rng = np.random.default_rng(10)
    for best in range(LAYERS):
        runs = []
        for k, centre in enumerate(centres(5, 0.6, rng)):
            hidden = images(centre, 150, rng)
            parts = []
            for i in range(5):
                seen, blind = profile_of(hidden[i::5], rng), profile_of(images(np.zeros(WIDTH), 30, rng), rng)
                signature = [(seen if layer == best else blind).signature[layer] for layer in range(LAYERS)]
                parts.append(Profile(blind.placed, tuple(signature), blind.c_t))
            runs.append(Run(f"maker {k}", "1", merged(parts), tuple(parts)))
        assert enrol(runs).best_layer == best


def test_more_trials_than_allowed_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = makers(11, count=6)
    every = enrol(runs)
    monkeypatch.setattr(enrolment_module, "MOST_TRIALS", 10)
    some = enrol(runs)
    assert (every.trials, some.trials) == (30, 10)
    assert len(some.null) == 10


def test_the_order_of_runs_does_not_matter() -> None:
    runs = makers(0, runs=2)
    first, second = enrol(runs), enrol(runs[::-1])
    assert [maker.name for maker in first.makers] == [maker.name for maker in second.makers]
    assert first.weights == pytest.approx(second.weights, rel=1e-4)
    assert first.null == pytest.approx(second.null, rel=1e-4)
    assert first.drift == pytest.approx(second.drift)
    assert (first.best_layer, first.right) == (second.best_layer, second.right)


def test_sets_lie_as_far_from_their_own_maker_as_sampling_says() -> None:
    """T² of k coordinates and L layers has the mean k·L, D² of L layers less than L (for the ridge)."""
    rng = np.random.default_rng(1)
    centre = np.zeros(WIDTH)
    enrolment = enrol([run_of("one", images(centre, 400, rng), rng), run_of("two", images(centre + 1, 400, rng), rng)])
    found = enrolment.distances([profile_of(images(centre, 80, rng), rng) for _ in range(300)])
    assert found.signature[:, 0].mean() == pytest.approx(WIDTH * LAYERS, rel=0.12)
    assert 0.75 * LAYERS < found.curve[:, 0].mean() < 1.1 * LAYERS


def test_a_small_set_near_the_edge_is_no_stranger_to_its_own_maker_by_its_curve() -> None:
    """25 images, 12 layers, Â about .05: the covariance that 25 such images show of themselves is far too small."""
    rng = np.random.default_rng(8)

    def seen(m: int) -> Profile:
        placed = expit(2 * rng.normal(size=(m, 1)) + rng.normal(size=(m, 12)) - 5)
        return Profile(Moments.of(placed), (Moments.of(rng.normal(size=(m, 2))),), np.zeros(12))

    enrolment = enrol([Run(name, "1", whole := seen(500), (whole,)) for name in ("one", "two")])
    found = enrolment.distances([seen(25) for _ in range(400)])
    assert (chi2.sf(found.curve[:, 0], 12) < 0.05).mean() < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


def test_the_trials_leave_each_set_out_of_its_maker() -> None:
    runs = makers(2, count=3)
    enrolment = enrol(runs)
    assert (enrolment.trials, len(enrolment.null)) == (15, 15)
    within = raw_signature_distances([part for run in runs for part in run.parts], enrolment.makers)
    nearest = within[np.arange(15), np.repeat(np.arange(3), 5)] / (1 / 30 + 1 / 150)
    assert enrolment.null.mean() > 1.3 * (enrolment.weights[1] * nearest).mean()


def test_drift_between_runs_is_measured_where_there_are_several() -> None:
    """A shift of s standard deviations in every hidden coordinate is s²/(1 + noise) of a layer's variance."""
    found = enrol(makers(3, count=12, m=300, runs=3, shift=0.4))
    spread = np.linspace(2, 0.5, WIDTH) ** 2
    assert found.drift == pytest.approx(0.16 * float((spread / (spread + 0.16)).mean()), rel=0.25)
    assert found.spread is not None
    assert enrol(makers(3, count=12, m=300, runs=3)).drift < 0.005
    alone = enrol(makers(3, count=4))
    assert (alone.drift, alone.spread) == (0.0, None)


def test_far_makers_are_told_apart_and_distance_speaks_for_a_stranger() -> None:
    enrolment = enrol(makers(4, apart=2.0))
    assert enrolment.right == enrolment.trials == 30
    assert enrolment.unknown is not None
    assert enrolment.unknown[0] > 0
    assert (enrolment.weights > 0).all()
    assert 0 <= enrolment.best_layer < LAYERS


def test_small_sets_and_a_single_maker_teach_nothing_but_are_enrolled() -> None:
    small = enrol(makers(5, count=3, m=30))
    assert (small.trials, small.unknown) == (0, None)
    single = enrol(makers(6, count=1))
    assert single.unknown is None
    assert single.trials == 5


def test_runs_that_do_not_fit_together_are_refused() -> None:
    runs = makers(7, count=2)
    whole = runs[0].whole
    odd = Run("odd", "1", type(whole)(whole.placed, whole.signature[:-1], whole.c_t), ())
    with pytest.raises(ValueError, match="the same layers"):
        enrol([*runs, odd])
    with pytest.raises(ValueError, match="at least one run"):
        enrol([])
    with pytest.raises(ValueError, match="other layers"):
        enrol(runs).distances([odd.whole])


@pytest.mark.parametrize("value", [0.5, 0.1], ids=["exact", "rounded"])
def test_a_release_whose_images_are_all_the_same_does_not_stop_the_others(value: float) -> None:
    same = [Moments.of(np.full((30, width), value)) for width in (LAYERS, WIDTH)]
    part = Profile(same[0], (same[1],) * LAYERS, np.zeros(LAYERS))
    constant = Run("constant", "1", merged([part] * 5), (part,) * 5)
    found = enrol([*makers(12, count=3, apart=1.0), constant])
    assert (found.trials, found.right) == (20, 20)
    assert np.isfinite(found.null).all()
    near = found.distances([part])
    assert near.signature[0].argmin() == 0  # "constant" is the first by name
    assert near.signature[0, 0] == pytest.approx(0, abs=1e-3)
