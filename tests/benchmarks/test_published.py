"""The published algorithm as the benchmark runs it, against nested loops and against our stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from actors.ray_cluster.local import Cluster
from actors.stages.context import StageContext
from benchmarks.published import Cells, Sets, published_score, published_statistic
from benchmarks.scoring import SAME, both_scores, build, of_layer, scored_release, write_tables
from storage.objects.open import open_store
from tests.scoring import oracle


def sets(copied: int) -> Sets:
    """Correlated vectors; some of the generated ones are train vectors, nearly."""
    rng = np.random.default_rng(4)
    raw = (rng.normal(size=(440, 9)) * np.linspace(3, 0.5, 9) + 1).astype(np.float32)
    train, held_out, generated = raw[:200], raw[200:300], raw[300:]
    generated[:copied] = train[:copied] + np.float32(0.01)
    return Sets(train, held_out, generated)


@pytest.mark.parametrize("copied", [0, 30])
def test_the_whole_of_it_is_nested_loops_on_the_same_partition(copied: int) -> None:
    found = sets(copied)
    train = found.train.astype(np.float64)
    pca = PCA(4, random_state=1).fit(train)
    t, p, q = (pca.transform(x.astype(np.float64)) for x in found)
    centroids = KMeans(3, n_init=10, random_state=1).fit(t).cluster_centers_
    loops = oracle.c_t(t.tolist(), p.tolist(), q.tolist(), centroids.tolist(), "abs_cosine")
    assert published_score(found, seed=1, components=4, cells=3) == pytest.approx(loops, abs=1e-9)


def test_copies_lower_it() -> None:
    honest, copying = (published_score(sets(copied), seed=1, components=4, cells=3) for copied in (0, 30))
    assert copying < honest - 1


def test_cells_with_few_generated_images_do_not_count() -> None:
    found = sets(0)
    zeros = Cells(*(np.zeros(len(x), int) for x in found))
    whole = published_statistic(found, zeros)
    few = found.generated[:20]
    more = Sets(*(np.concatenate([x, y]) for x, y in zip(found, (found.train, found.held_out, few), strict=True)))
    cells = Cells(*(np.repeat([0, 1], [len(x), n]) for x, n in zip(found, (200, 100, 20), strict=True)))
    assert published_statistic(more, cells) == pytest.approx(whole)
    with pytest.raises(ValueError, match="more than 20"):
        published_statistic(found._replace(generated=few), zeros._replace(generated=np.zeros(20, int)))


def test_our_stages_give_the_same_on_the_same_partition(cluster: Cluster, tmp_path: Path) -> None:
    context = StageContext(open_store(str(tmp_path)), cluster, lambda _: None)
    tables = write_tables(context, layers=2, dims=80, train=1500, images=600)
    reference, seconds = build(context, tables, 2, "abs_cosine")
    pairs = list(both_scores(context, tables, reference))
    assert len(pairs) == 2
    assert max(abs(ours - theirs) for ours, theirs in pairs) <= SAME
    assert len(of_layer(context, tables, 1).train) == 1500
    release = scored_release(context, reference, tables.further)
    assert seconds > 0
    assert release.seconds == pytest.approx(release.search + release.score + release.profile)
