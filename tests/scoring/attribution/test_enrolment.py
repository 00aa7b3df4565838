from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax
from scipy.stats import chi2

from scoring.attribution.background import Background
from scoring.attribution.enrolment import MOVED, enrol
from scoring.attribution.profile import Profile, Run, merged
from scoring.attribution.signature import shared_shape
from scoring.attribution.unknown import fit_unknown
from scoring.partition.moments import Moments
from tests.scoring.makers import LAYERS, WIDTH, background_of, centres, images, profile_of, run_of

Floats = NDArray[np.float64]
SPREAD = np.linspace(2, 0.5, WIDTH)
STEP = {"jpeg 50": 1.5 * SPREAD, "mirror": -0.8 * SPREAD * np.array([1, -1, 1, -1, 1])}


def makers(
    seed: int,
    count: int = 6,
    m: int = 150,
    apart: float = 0.5,
    runs: int = 1,
    differ: float = 0.0,
    processed: float | None = None,
) -> list[Run]:
    """Runs that `differ`, in standard deviations of one image; each maker's shifts are `processed` off the usual."""
    rng = np.random.default_rng(seed)
    found = []
    for k, centre in enumerate(centres(count, apart, rng)):
        for r in range(runs):
            moved = centre + differ * rng.normal(size=WIDTH) * SPREAD
            shift = (
                {}
                if processed is None
                else {name: step + processed * rng.normal(size=WIDTH) * SPREAD for name, step in STEP.items()}
            )
            found.append(run_of(f"maker {k}", images(moved, m, rng), rng, str(r), shift))
    return found


# -- the rule written out with plain loops ----------------------------------------------------------------------


class Plain:
    """T² and D² of sets from makers, each a list of runs."""

    def __init__(
        self,
        groups: list[list[Run]],
        background: Background | None = None,
        drift: float = 0.0,
        spread: Floats | None = None,
    ) -> None:
        self.groups, self.background, self.drift, self.spread = groups, background, drift, spread
        self.shapes = []
        for i in range(LAYERS):
            scatters = [run.whole.signature[i].scatter for group in groups for run in group]
            degrees = [run.whole.images - 1 for group in groups for run in group]
            if background:
                scatters += [100 * background.layers[i].covariance, 1000 * background.layers[i].processed]
                degrees += [100, 1000]
            self.shapes.append(shared_shape(scatters, degrees))

    def scale(self, k: int, i: int) -> float:
        inverse = np.linalg.inv(self.shapes[i])
        own = sum(np.trace(inverse @ run.whole.signature[i].scatter) for run in self.groups[k]) / WIDTH
        return float((own + 100) / (sum(run.whole.images - 1 for run in self.groups[k]) + 100))

    def shift(self, k: int, name: str, i: int) -> tuple[Floats | None, int]:
        total, count = np.zeros(WIDTH), 0
        for run in self.groups[k]:
            for part in run.shifts:
                if name in part:
                    total += part[name].images * part[name].mean[i]
                    count += part[name].images
        return (total / count if count else None), count

    def doubt(self, k: int, name: str) -> float:
        """Mean square by which the shifts that were tried differ from those of real images."""
        if self.shift(k, name, 0)[0] is not None:
            return 0.0
        off = []
        assert self.background is not None
        for other in range(len(self.groups)):
            for i in range(LAYERS):
                shift = self.shift(other, name, i)[0]
                if shift is not None:
                    step = shift - self.background.layers[i].shifts[name]
                    off.append(step @ np.linalg.inv(self.shapes[i]) @ step / WIDTH)
        return float(np.mean(off)) if off else 0.0

    def t2(self, x: Profile, k: int) -> list[float]:
        """Of each version."""
        maker, runs = merged([run.whole for run in self.groups[k]]), len(self.groups[k])
        found = []
        for name in ("original", *(self.background.processings if self.background else ())):
            total = 0.0
            for i in range(LAYERS):
                mean, doubt, content = maker.signature[i].mean, 0.0, np.zeros((WIDTH, WIDTH))
                if self.background:
                    content = self.background.layers[i].content
                if name != "original":
                    assert self.background is not None
                    shift = self.shift(k, name, i)[0]
                    mean = mean + (self.background.layers[i].shifts[name] if shift is None else shift)
                    doubt = self.doubt(k, name)
                variance = self.scale(k, i) * (1 / x.images + 1 / maker.images + self.drift * (1 + 1 / runs)) + doubt
                step = x.signature[i].mean - mean
                total += float(step @ np.linalg.inv(variance * self.shapes[i] + 0.1 * content) @ step) / WIDTH
            found.append(float(total / LAYERS))
        return found

    def d2(self, x: Profile, k: int, moved: float = 0.0) -> float:
        maker, runs = merged([run.whole for run in self.groups[k]]), len(self.groups[k])
        covariance = maker.curve.covariance * (1 + maker.images / x.images)
        if self.spread is not None:
            covariance = covariance + self.spread * (1 + 1 / runs)
        covariance = covariance + moved**2 * (np.eye(LAYERS) + 1) / 2
        step = x.curve.x - maker.curve.x
        return float(step @ np.linalg.inv(covariance + 0.1 * np.diag(np.diag(covariance))) @ step)

    def penalty(self, k: int) -> float:
        return float(np.mean([np.log(self.scale(k, i)) for i in range(LAYERS)]))


def grouped(runs: list[Run]) -> list[list[Run]]:
    return [[run for run in runs if run.maker == name] for name in sorted({run.maker for run in runs})]


def plain_trials(
    runs: list[Run], background: Background | None = None, drift: float = 0.0, spread: Floats | None = None
) -> tuple[Floats, Floats, Floats, NDArray[np.intp]]:
    """(N, K, V) T², (N, K) D² and D² if processed of trial sets, each left out of its own maker; (N,) the makers."""
    groups, t2, d2, moved, own = grouped(runs), [], [], [], []

    def compare(plain: Plain, k: int, suspect: Profile) -> None:
        t2.append([plain.t2(suspect, j) for j in range(len(groups))])
        d2.append([plain.d2(suspect, j) for j in range(len(groups))])
        moved.append([plain.d2(suspect, j, MOVED) for j in range(len(groups))])
        own.append(k)

    for r in range(max(len(group) for group in groups)):
        rest = [[one for i, one in enumerate(group) if i != r or len(group) == 1] for group in groups]
        for k, group in enumerate(groups):
            if len(group) > 1 and r < len(group):
                for suspect in (group[r].whole, *group[r].parts):
                    compare(Plain(rest, background, drift, spread), k, suspect)
    for part in range(5):
        rest = []
        for group in groups:
            kept = [i for i in range(len(group[0].parts)) if i != part]
            parts = tuple(group[0].parts[i] for i in kept)
            shifts = tuple(group[0].shifts[i] for i in kept) if group[0].shifts else ()
            less = [Run(group[0].maker, group[0].name, merged(parts), parts, shifts)]
            rest.append(less if len(group) == 1 and part < len(group[0].parts) else group)
        for k, group in enumerate(groups):
            if len(group) == 1 and part < len(group[0].parts):
                compare(Plain(rest, background), k, group[0].parts[part])
    return np.array(t2), np.array(d2), np.array(moved), np.array(own)


@pytest.mark.parametrize("case", ["alone", "content", "processed", "processed in part", "runs"])
def test_distances_are_what_plain_loops_find(case: str) -> None:
    rng = np.random.default_rng(30)
    runs = makers(31, count=3, m=100, processed=0.1 if case.startswith("processed") else None)
    background = None if case in ("alone", "runs") else background_of(rng, STEP, centres(6, 1.0, rng))
    if case == "processed in part":  # one maker was never tried
        runs[1] = Run(runs[1].maker, runs[1].name, runs[1].whole, runs[1].parts)
    if case == "runs":
        runs = [*makers(31, count=2, m=100, runs=3, differ=0.5), *makers(31, count=3, m=120)[2:]]
    enrolment = enrol(runs, background)
    spread = None if enrolment.spread is None else enrolment.spread.covariance
    assert (spread is not None and enrolment.rule.drift > 0.01) == (case == "runs")
    plain = Plain(grouped(runs), background, enrolment.rule.drift, spread)
    sets = [profile_of(images(step, 40, rng), rng) for step in (np.zeros(WIDTH), SPREAD, STEP["jpeg 50"])]
    t2 = np.array([[plain.t2(one, k) for k in range(3)] for one in sets])
    d2 = np.array([[plain.d2(one, k) for k in range(3)] for one in sets])
    found = enrolment.distances(sets)
    assert enrolment.rule.distances(sets) == pytest.approx(t2)
    assert found.curve == pytest.approx(d2)
    moved = np.array([[plain.d2(one, k, MOVED) for k in range(3)] for one in sets])
    weighed = t2 + enrolment.curve_weight * (enrolment.curve_typical + moved)[:, :, None]
    weighed[:, :, 0] = t2[:, :, 0] + enrolment.curve_weight * d2
    assert found.fused == pytest.approx(weighed.min(axis=2))
    assert found.version.tolist() == weighed.argmin(axis=2).tolist()
    assert found.signature == pytest.approx(np.take_along_axis(t2, weighed.argmin(axis=2)[:, :, None], 2)[:, :, 0])
    penalty = np.array([plain.penalty(k) for k in range(3)])
    assert enrolment.log_likelihood(found.fused) == pytest.approx(-0.5 * enrolment.weight * (found.fused + penalty))


@pytest.mark.parametrize("processed", [False, True])
def test_what_is_learnt_from_trials_is_what_plain_loops_and_another_optimiser_find(processed: bool) -> None:
    runs = makers(8, count=4, apart=0.3, processed=0.1 if processed else None)
    background = (
        background_of(np.random.default_rng(1), STEP, centres(6, 0.5, np.random.default_rng(2))) if processed else None
    )
    found = enrol(runs, background)
    t2, d2, moved, own = plain_trials(runs, background)
    plain, rows = Plain(grouped(runs), background), np.arange(len(own))
    penalty = np.array([plain.penalty(k) for k in range(4)])
    typical = d2[rows, own].mean()

    def fused(curve_weight: float) -> Floats:
        every = t2 + curve_weight * (typical + moved)[:, :, None]
        every[:, :, 0] = t2[:, :, 0] + curve_weight * d2
        least: Floats = every.min(axis=2)
        return least

    def best(distances: Floats, centre: float) -> tuple[float, float]:
        def loss(log: Floats) -> float:
            likelihood = -0.5 * centre * np.exp(log[0]) * distances
            chances = likelihood[rows, own] - logsumexp(likelihood, axis=1)
            return float(-chances.sum() + 0.5 * (log[0] / np.log(4)) ** 2)

        at = minimize(loss, [0.2], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
        return float(centre * np.exp(at.x[0])), float(-at.fun)

    centre = WIDTH / 2  # .5 for each coordinate of a layer
    gains = {
        share: best(fused(share / LAYERS) + penalty, centre)[1] for share in (0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4)
    }
    chosen, gain = 0.0, gains[0]
    for share in list(gains)[1:]:
        if gains[share] > gain + (2.0 if chosen == 0 else 0.0):
            chosen, gain = share, gains[share]
    assert found.curve_weight == pytest.approx(chosen / LAYERS)
    assert found.curve_typical == pytest.approx(typical)
    distances = fused(found.curve_weight)
    assert found.weight == pytest.approx(best(distances + penalty, centre)[0], rel=1e-3)
    assert found.curve_alone == pytest.approx(best(d2, 1 / LAYERS)[0], rel=1e-3)
    assert found.null == pytest.approx(np.sort(distances[rows, own]))
    assert found.trials == len(own) == 20
    assert found.right == ((distances + penalty).argmin(axis=1) == own).sum()
    closed = softmax(-0.5 * found.weight * (distances + penalty), axis=1)
    assert found.unknown == pytest.approx(fit_unknown(distances, own, closed), rel=1e-3)


def test_several_runs_add_trials_and_show_how_runs_differ() -> None:
    """Makers with three, two and one run, by plain loops: 3·6 + 2·6 + 5 trial sets."""
    rng, runs = np.random.default_rng(20), []
    for k, centre in enumerate(centres(3, 0.6, rng)):
        for r in range(3 - k):
            moved = centre + 0.8 * rng.normal(size=WIDTH)
            runs.append(run_of(f"maker {k}", images(moved, 125 + 30 * r, rng), rng, str(r)))
    found, plain = enrol(runs), Plain(grouped(runs))
    excess, weight = 0.0, 0.0
    for k, group in enumerate(plain.groups[:2]):
        for one in group:
            rest = merged([other.whole for other in group if other is not one])
            raw = 0.0
            for i, shape in enumerate(plain.shapes):
                step = one.whole.signature[i].mean - rest.signature[i].mean
                raw += float(step @ np.linalg.inv(shape) @ step) / WIDTH / plain.scale(k, i) / LAYERS
            excess += raw - 1 / one.whole.images - 1 / rest.images
            weight += 1 + 1 / (len(group) - 1)
    assert found.rule.drift == pytest.approx(excess / weight)
    assert found.spread is not None
    assert min(found.spread.variance, found.rule.drift) > 0.01
    t2, d2, moved, own = plain_trials(runs, None, found.rule.drift, found.spread.covariance)
    distances = t2[:, :, 0] + found.curve_weight * d2
    assert found.trials == len(own) == 35
    assert found.null == pytest.approx(np.sort(distances[np.arange(35), own]))
    single = enrol([run for run in runs if run.name == "0"])
    assert single.trials == 15


def test_trial_sets_lie_as_far_from_their_own_maker_as_sampling_says() -> None:
    """T² is 1 on average, though the parts of a run share all the others; so it is of runs that differ."""
    for runs, differ in ((1, 0.0), (3, 0.4)):
        ratios = []
        for seed in range(8):
            enrolment = enrol(makers(100 + seed, count=4, runs=runs, differ=differ))
            typical = enrolment.curve_weight * enrolment.curve_typical
            ratios.append(enrolment.null.mean() - typical)
        assert np.mean(ratios) == pytest.approx(1, abs=0.1 + 3 * np.std(ratios) / 8**0.5)


def test_sets_lie_as_far_from_their_own_maker_as_sampling_says() -> None:
    """T² has the mean 1, D² of L layers less than L (for the ridge)."""
    rng = np.random.default_rng(1)
    centre = np.zeros(WIDTH)
    enrolment = enrol([run_of("one", images(centre, 400, rng), rng), run_of("two", images(centre + 1, 400, rng), rng)])
    found = enrolment.distances([profile_of(images(centre, 80, rng), rng) for _ in range(300)])
    assert found.signature[:, 0].mean() == pytest.approx(1, rel=0.12)
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


def test_a_p_value_counts_the_trials_at_least_as_far_and_the_set_itself() -> None:
    enrolment = enrol(makers(2, count=3))
    assert (enrolment.trials, len(enrolment.null)) == (15, 15)
    for fused in (0.0, float(enrolment.null[4]), float(enrolment.null[-1]), 1e9):
        as_far = sum(other >= fused for other in enrolment.null)
        assert enrolment.p_values(np.array([fused]))[0] == (1 + as_far) / 16


def test_drift_between_runs_is_measured_where_there_are_several() -> None:
    """A shift of s standard deviations in every hidden coordinate is s²/(1 + noise) of a layer's variance."""
    found = enrol(makers(3, count=12, m=300, runs=3, differ=0.4))
    spread = SPREAD**2
    assert found.rule.drift == pytest.approx(0.16 * float((spread / (spread + 0.16)).mean()), rel=0.25)
    assert found.spread is not None
    assert enrol(makers(3, count=12, m=300, runs=3)).rule.drift < 0.005
    alone = enrol(makers(3, count=4))
    assert (alone.rule.drift, alone.spread) == (0.0, None)


def test_a_curve_that_tells_makers_apart_where_signatures_do_not_has_weight() -> None:
    """And one that follows from the signature has none; the makers differ in their placements alone."""
    rng, runs = np.random.default_rng(40), []
    for k in range(4):
        parts = []
        for _ in range(5):
            hidden = images(np.zeros(WIDTH), 40, rng)
            placed = expit(hidden[:, :1] * 0.2 + 0.7 * rng.normal(size=(40, LAYERS)) + 1.2 * k)
            one = profile_of(hidden, rng)
            parts.append(Profile(Moments.of(placed), one.signature, one.c_t))
        runs.append(Run(f"maker {k}", "1", merged(parts), tuple(parts)))
    found = enrol(runs)
    assert found.curve_weight > 0
    assert found.right >= 18
    assert enrol(makers(41, apart=1.0)).curve_weight == 0


def test_a_set_processed_in_a_known_way_is_near_its_own_maker_in_that_version() -> None:
    rng = np.random.default_rng(50)
    runs, background = makers(51, apart=1.0, processed=0.05), background_of(rng, STEP, centres(6, 0.3, rng))
    known, blind = enrol(runs, background), enrol(runs)
    assert known.rule.versions == ("original", "jpeg 50", "mirror")
    assert known.trials == blind.trials == 30
    for name, step in {"original": np.zeros(WIDTH), **STEP}.items():
        where = centres(6, 1.0, np.random.default_rng(51))[0]
        found = known.distances([profile_of(images(where + step, 60, rng), rng) for _ in range(20)])
        assert (found.fused.argmin(axis=1) == 0).all()
        assert np.mean([known.rule.versions[v] == name for v in found.version[:, 0]]) > 0.9
        assert known.p_values(found.fused[:, 0]).mean() > 0.2
        if name != "original":
            moved = blind.distances([profile_of(images(where + step, 60, rng), rng)])
            assert blind.p_values(moved.fused[0, :1])[0] == 1 / 31


def test_a_set_of_a_third_of_the_contents_is_no_stranger_where_content_is_known() -> None:
    """Makers of 6 contents in equal parts, which differ along one coordinate, asked with each two of them."""
    rng = np.random.default_rng(60)
    contents = np.outer(np.linspace(-3, 3, 6), [1, 0, 0, 0, 0])
    cells = np.arange(600) % 6
    real = background_of(rng, {"none": np.zeros(WIDTH)}, contents)
    makers_at = centres(5, 2.0, rng)
    middle = contents.mean(axis=0)
    runs = [
        run_of(f"maker {k}", images(at, 200, rng) + contents[rng.permutation(cells[:200])] - middle, rng)
        for k, at in enumerate(makers_at)
    ]
    with_content, without = enrol(runs, real), enrol(runs)
    pairs = [np.resize(pair, 42) for pair in combinations(range(6), 2)]
    sets = [
        profile_of(images(makers_at[k], 42, rng) + contents[pair] - middle, rng) for k in range(5) for pair in pairs
    ]
    own, rows = np.repeat(np.arange(5), len(pairs)), np.arange(len(sets))
    blind, seeing = (
        (one.p_values(one.distances(sets).fused[rows, own]) <= 0.05).mean() for one in (without, with_content)
    )
    assert blind > 0.3
    assert seeing < 0.7 * blind
    assert (with_content.distances(sets).fused.argmin(axis=1) == own).all()


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


def test_the_order_of_runs_does_not_matter() -> None:
    runs = makers(0, runs=2, differ=0.2, processed=0.1)
    background = background_of(np.random.default_rng(0), STEP)
    first, second = enrol(runs, background), enrol(runs[::-1], background)
    assert [maker.name for maker in first.makers] == [maker.name for maker in second.makers]
    assert first.weight == second.weight
    assert first.null.tolist() == second.null.tolist()
    assert (first.rule.drift, first.unknown) == (second.rule.drift, second.unknown)
    assert (first.best_layer, first.right) == (second.best_layer, second.right)


def test_far_makers_are_told_apart_and_distance_speaks_for_a_stranger() -> None:
    enrolment = enrol(makers(4, apart=2.0))
    assert enrolment.right == enrolment.trials == 30
    assert enrolment.unknown.near > 0
    assert 0 <= enrolment.best_layer < LAYERS


def test_makers_that_are_the_same_leave_the_weight_near_its_prior() -> None:
    for seed in range(4):
        assert 0 < enrol(makers(200 + seed, count=3, m=100, apart=0.0)).weight < WIDTH * LAYERS / 2


def test_small_sets_and_a_single_maker_teach_nothing_but_are_enrolled() -> None:
    small = enrol(makers(5, count=3, m=30))
    assert (small.trials, small.weight, small.curve_weight) == (0, WIDTH / 2, 0.0)
    assert small.p_values(np.array([1.0, 100.0])).tolist() == [1.0, 1.0]
    single = enrol(makers(6, count=1))
    assert (single.trials, single.right) == (5, 5)


def test_layers_of_unequal_width_are_enrolled_and_each_counts_alike() -> None:
    def narrow(profile: Profile) -> Profile:
        a, b, c = profile.signature
        return Profile(profile.placed, (a, Moments(b.n, b.mean[:2], b.scatter[:2, :2]), c), profile.c_t)

    runs = []
    for run in makers(70, apart=1.0):
        parts = tuple(narrow(part) for part in run.parts)
        runs.append(Run(run.maker, run.name, merged(parts), parts))
    found = enrol(runs)
    assert found.right == 30
    assert found.null.mean() == pytest.approx(1, abs=0.4)


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


def test_a_processing_does_not_explain_away_another_curve() -> None:
    """Two makers of the same embeddings, one of which lies far closer to the training images: only curves tell."""
    rng = np.random.default_rng(40)
    runs = []
    for name, power in (("far", 1.0), ("near", 6.0)):
        drawn = images(np.zeros(WIDTH), 300, rng)
        parts = []
        for rows in np.array_split(drawn, 5):
            seen = profile_of(rows, rng)
            placed = (1 / (1 + np.exp(-rows[:, :1] - 0.7 * rng.normal(size=(len(rows), LAYERS))))) ** power
            parts.append(Profile(Moments.of(placed), seen.signature, seen.c_t))
        runs.append(Run(name, "0", merged(parts), tuple(parts)))
    still = {name: 0.01 * step for name, step in STEP.items()}
    background = background_of(rng, still, centres(6, 0.5, rng))
    found = enrol(runs, background)
    assert found.curve_weight > 0
    assert (found.right, found.trials) == (10, 10)
