from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from actors.workers.nearest_table import NearestTable
from actors.workers.release_tests import PERMUTATION_PARTS, PERMUTATIONS, FitLastLayer, Joiner, PermuteLayers, joined
from actors.workers.score import LayerResult, ScoreLayer, Scorer, layer_result
from actors.workers.search import Metric, Searcher, SearchLayer
from scoring.nearest.in_memory import in_cell_nearest
from scoring.partition.fit import fit_partition
from scoring.partition.moments import Moments
from scoring.presets import PRESETS
from scoring.score.conformal import conformal_p
from scoring.score.layer_score import LayerScore, ScoredLayer, score_layer
from storage.vectors.tables import VectorStore, vector_matrix
from tests.actors.conftest import Lab
from tests.scoring import oracle

NOTHING_CONTAMINATED = "scorer/contaminated.json"


def _score(lab: Lab, layer: int, metric: Metric) -> LayerResult:
    """Search both sets and score, all through files."""
    lab.store.put(NOTHING_CONTAMINATED, b"[]")
    keys = {}
    for name in ("held_out", "release"):
        table = lab.tables[name]
        keys[name] = f"scorer/{name}-{layer}-{metric}.parquet"
        Searcher().process(
            SearchLayer(lab.store.uri, table.name, table.version, layer, lab.partition_key(layer), metric, keys[name])
        )
    sizes = [len(lab.arrays[name][layer]) for name in ("held_out", "release")]
    task = ScoreLayer(
        lab.store.uri,
        layer,
        lab.partition_key(layer),
        keys["held_out"],
        keys["release"],
        NOTHING_CONTAMINATED,
        _influence(layer, metric),
        *sizes,
    )
    return Scorer().process(task)


def _influence(layer: int, metric: Metric) -> str:
    return f"scorer/influence-{layer}-{metric}.npz"


def _plain(lab: Lab, layer: int, metric: Metric) -> ScoredLayer:
    """The same by the functions of scoring alone, from the embeddings on."""
    train, held_out, release = (lab.arrays[name][layer] for name in ("train", "held_out", "release"))
    partition = fit_partition(Moments.of(train), train, components=6, cells=3, seed=0)
    projected = [partition.project(x) for x in (train, held_out, release)]
    cells = [partition.assign(x) for x in projected]
    p, q = (in_cell_nearest(projected[i], cells[i], projected[0], cells[0], metric).distance for i in (1, 2))
    return score_layer(layer, p, cells[1], q, cells[2], partition.centroids)


def _close(found: LayerScore, expected: LayerScore) -> bool:
    def numbers(score: LayerScore) -> dict[str, Any]:
        fields = asdict(score)
        for name in ("effect", "copy", "copy_001"):
            fields |= {f"{name}.{key}": value for key, value in (fields.pop(name) or {}).items()}
        return fields

    return numbers(found) == pytest.approx(numbers(expected), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("metric", ["euclidean", "abs_cosine"])
def test_through_files_it_is_the_plain_computation(lab: Lab, layer: int, metric: Metric) -> None:
    result, expected = _score(lab, layer, metric), _plain(lab, layer, metric)
    assert _close(result.score, expected.score)
    assert result.score.effect is not None
    assert result.score.effect.a_hat < 0.45  # the release has copies
    with np.load(f"{lab.store.uri}/{_influence(layer, metric)}") as influence:
        assert np.allclose(influence["held_out"], expected.influence.p, atol=1e-12)
        assert np.allclose(influence["release"], expected.influence.q, atol=1e-12)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("preset", ["paper", "meehan"])
def test_c_t_is_the_oracle_s(lab: Lab, layer: int, preset: str) -> None:
    stored, metric = lab.stored(layer), PRESETS[preset].metric
    index = VectorStore(lab.store).dataset(stored.index_table, stored.index_version).to_table()
    train = vector_matrix(index["vector"]).astype(float).tolist()
    held_out, release = (
        stored.partition.project(lab.arrays[name][layer]).astype(float).tolist() for name in ("held_out", "release")
    )
    expected = oracle.c_t(train, held_out, release, stored.partition.centroids.astype(float).tolist(), metric)
    assert expected is not None
    assert _score(lab, layer, metric).score.c_t == pytest.approx(expected, abs=1e-9)


def test_a_constant_layer_says_nothing(lab: Lab) -> None:
    result = _score(lab, 0, "euclidean")
    assert result.pairs == []
    assert (result.score.informative, result.score.n, result.score.m) == (False, 120, 110)
    assert (result.score.effect, result.score.c_t) == (None, None)
    assert not lab.store.exists(_influence(0, "euclidean"))


def test_pairs_are_the_closest_first(lab: Lab) -> None:
    result = _score(lab, 1, "euclidean")
    found = NearestTable.load(lab.store, "scorer/release-1-euclidean.parquet")
    assert [pair.rank for pair in result.pairs] == list(range(1, 21))
    assert [pair.distance for pair in result.pairs] == sorted(found.distance)[:20]
    assert [pair.image_row for pair in result.pairs[:5]] == [0, 1, 2, 3, 4]  # copies, in the order of the manifest
    assert all(pair.train_row == pair.image_row for pair in result.pairs)
    assert result.pairs[0].p_value == pytest.approx(1 / 121)  # no held-out image is as close
    unseen = NearestTable.load(lab.store, "scorer/held_out-1-euclidean.parquet").distance
    expected = conformal_p(unseen, found.distance)[np.argsort(found.row)]
    assert all(pair.p_value == expected[pair.image_row] for pair in result.pairs)


def test_equal_distances_are_in_the_order_of_the_manifest() -> None:
    row, nothing = np.array([7, 3, 9, 1]), np.full(4, np.nan)
    table = NearestTable(
        row, np.zeros(4, np.int32), np.array([0.5, 0.5, 0.1, 0.5]), row * 10, nothing, nothing, nothing, nothing
    )
    pairs = layer_result(LayerScore(0, 4, 4), table, table, np.arange(1, 5) / 10).pairs
    assert [(pair.rank, pair.image_row, pair.train_row, pair.p_value) for pair in pairs] == [
        (1, 9, 90, 0.3), (2, 1, 10, 0.4), (3, 3, 30, 0.2), (4, 7, 70, 0.1),
    ]  # fmt: skip
    assert {(pair.ratio, pair.ratio_p, pair.near_duplicate) for pair in pairs} == {(None, None, False)}


def test_layers_are_tested_together(lab: Lab) -> None:
    for layer in (1, 2):
        _score(lab, layer, "euclidean")
    expected = [_plain(lab, layer, "euclidean") for layer in (1, 2)]
    keys = tuple(_influence(layer, "euclidean") for layer in (1, 2))
    nearest = {
        name: tuple(f"scorer/{name}-{layer}-euclidean.parquet" for layer in (1, 2)) for name in ("held_out", "release")
    }
    permutations = [
        PermuteLayers(
            store=lab.store.uri,
            held_out_keys=nearest["held_out"],
            release_keys=nearest["release"],
            influence_keys=keys,
            contaminated_key=NOTHING_CONTAMINATED,
            seed=0,
            part=part,
        )
        for part in range(PERMUTATION_PARTS)
    ]
    tables = tuple((lab.tables[name].name, lab.tables[name].version) for name in ("train", "held_out", "release"))
    last = FitLastLayer(lab.store.uri, 2, NOTHING_CONTAMINATED, lab.partition_key(2), tables, seed=0)
    tasks: list[PermuteLayers | FitLastLayer] = [*permutations, last]
    permutation, frechet = joined([Joiner().process(task) for task in tasks])
    assert permutation.permutations == PERMUTATIONS
    z_s = [scored.score.effect.z_s for scored in expected if scored.score.effect]
    assert permutation.z == pytest.approx(np.array(z_s))
    assert (permutation.p_adjusted < 0.01).all()
    assert frechet.low <= max(0.0, frechet.distance) <= frechet.high
