from __future__ import annotations

import numpy as np
import pytest

from scoring.nearest.in_memory import in_cell_nearest
from scoring.partition.fit import Moments, fit_partition
from scoring.presets import PRESETS
from scoring.score.c_t import published_ct
from tests.scoring import oracle


@pytest.mark.parametrize("preset", ["paper", "meehan"])
@pytest.mark.parametrize("copied", [0, 30])
def test_the_whole_published_algorithm_agrees_with_nested_loops(preset: str, copied: int) -> None:
    rng = np.random.default_rng(4)
    raw = (rng.normal(size=(420, 9)) * np.linspace(3, 0.5, 9) + 1).astype(np.float32)
    train, held_out, generated = raw[:200], raw[200:290], raw[290:]
    generated[:copied] = train[:copied] + np.float32(0.01)
    partition = fit_partition(Moments.of(train), train, components=4, cells=4, seed=0)
    t, p, q = (partition.project(x) for x in (train, held_out, generated))
    cell_t, cell_p, cell_q = (partition.assign(x) for x in (t, p, q))
    metric = PRESETS[preset].metric
    near_p, near_q = (in_cell_nearest(x, c, t, cell_t, metric) for x, c in ((p, cell_p), (q, cell_q)))
    ours = published_ct(near_p.distance, cell_p, near_q.distance, cell_q)
    loops = oracle.c_t(t.tolist(), p.tolist(), q.tolist(), partition.centroids.tolist(), metric)
    assert loops is not None
    assert ours == pytest.approx(loops, abs=1e-9)


def test_a_cell_needs_more_than_twenty_generated_images() -> None:
    p, q = np.linspace(0.5, 79.5, 80), np.linspace(0.0, 80.0, 41)
    cell_p, cell_q = np.repeat([0, 1], 40), np.repeat([0, 1], [20, 21])
    kept_alone = published_ct(p[40:], cell_p[40:], q[20:], cell_q[20:])
    assert published_ct(p, cell_p, q, cell_q) == kept_alone
    assert published_ct(p, cell_p, q, cell_q, min_generated=21) is None


def test_a_kept_cell_without_held_out_images_has_no_weight() -> None:
    p, q = np.linspace(0.0, 29.0, 30), np.linspace(0.0, 59.0, 60)
    zeros = np.zeros(30, int)
    assert published_ct(p, zeros, q, np.repeat([0, 1], 30)) == published_ct(p, zeros, q[:30], zeros)


def test_null_spread_of_ten_equal_cells_is_a_third_not_one() -> None:
    rng = np.random.default_rng(1)
    nulls = [
        published_ct(rng.random(1000), np.arange(1000) % 10, rng.random(1000), np.arange(1000) % 10) for _ in range(200)
    ]
    assert np.std(np.array(nulls, float)) == pytest.approx(1 / np.sqrt(10), rel=0.15)
