from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from actors.workers.nearest_table import NearestTable
from actors.workers.profile import JoinProfile, LayerProfile, ProfileLayer, SetProfile, join_profile, profile_layer
from actors.workers.search import SearchLayer, search_layer
from scoring.partition.fit import Moments, Partition, fit_partition
from tests.actors.conftest import Lab

NOTHING_CONTAMINATED = "profiler/contaminated.json"
LAYERS = (0, 1, 2)
"""Layer 0 is constant."""


def _make(lab: Lab, layer: int) -> str:
    lab.store.put(NOTHING_CONTAMINATED, b"[]")
    keys = {}
    for name in ("held_out", "release"):
        table, keys[name] = lab.tables[name], f"profiler/{name}-{layer}.parquet"
        key = lab.partition_key(layer)
        search_layer(SearchLayer(lab.store.uri, table.name, table.version, layer, key, "euclidean", keys[name]))
    release, key = lab.tables["release"], f"profiler/layer-{layer}.npz"
    task = ProfileLayer(
        store=lab.store.uri,
        table=release.name,
        version=release.version,
        layer=layer,
        partition_key=lab.partition_key(layer),
        held_out_key=keys["held_out"],
        release_key=keys["release"],
        contaminated_key=NOTHING_CONTAMINATED,
        seed=0,
        key=key,
    )
    profile_layer(task)
    assert not profile_layer(task)  # it is there
    return key


@pytest.fixture
def joined(lab: Lab) -> SetProfile:
    keys = tuple(_make(lab, layer) for layer in LAYERS)
    profile = join_profile(JoinProfile(lab.store.uri, LAYERS, keys))
    assert profile is not None
    return profile


def _partition(lab: Lab, layer: int) -> Partition:
    train = lab.arrays["train"][layer]
    return fit_partition(Moments.of(train), train, components=6, cells=3, seed=0)


def _placement(lab: Lab, layer: int) -> NDArray[np.float64]:
    """By plain loops: the share of held-out images that are nearer; all cells of the lab are one group or enough."""
    held_out, release = (
        NearestTable.load(lab.store, f"profiler/{name}-{layer}.parquet") for name in ("held_out", "release")
    )
    counts = np.bincount(held_out.cell, minlength=3)
    one_group = counts.min() < 50
    shares = []
    for distance, cell in zip(release.distance, release.cell, strict=True):
        others = held_out.distance if one_group else held_out.distance[held_out.cell == cell]
        shares.append(((others < distance).sum() + 0.5 * (others == distance).sum()) / len(others))
    return np.array(shares)


def test_constant_layers_are_left_out(joined: SetProfile) -> None:
    assert joined.layers == (1, 2)
    assert joined.curve.x.shape == (2,)


def test_the_curve_is_the_mean_share_of_nearer_held_out_images(lab: Lab, joined: SetProfile) -> None:
    placement = np.stack([_placement(lab, layer) for layer in (1, 2)], axis=1)
    assert joined.whole.placed.mean == pytest.approx(placement.mean(axis=0))
    assert joined.whole.placed.covariance == pytest.approx(np.cov(placement.T))
    assert expit(joined.curve.x) == pytest.approx(placement.mean(axis=0))


def test_the_signature_is_that_of_the_projected_embeddings(lab: Lab, joined: SetProfile) -> None:
    for i, layer in enumerate((1, 2)):
        z = _partition(lab, layer).project(lab.arrays["release"][layer])
        assert joined.whole.signature[i].mean == pytest.approx(z.mean(axis=0), abs=1e-4)
        assert joined.whole.signature[i].covariance == pytest.approx(np.cov(z.T), abs=1e-3)


def test_the_parts_are_the_whole(lab: Lab, joined: SetProfile) -> None:
    sizes = [part.images for part in joined.parts]
    assert sum(sizes) == joined.whole.images == len(lab.arrays["release"][1])
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 25
    weighted = sum(part.images * part.placed.mean for part in joined.parts) / sum(sizes)
    assert weighted == pytest.approx(joined.whole.placed.mean)


def test_held_out_images_add_to_the_uncertainty(joined: SetProfile) -> None:
    assert (np.diag(joined.curve.covariance) > np.diag(joined.whole.curve.covariance)).all()


def test_no_informative_layer_gives_no_profile(lab: Lab) -> None:
    key = _make(lab, 0)
    assert len(LayerProfile.load(lab.store, key).count) == 0
    assert join_profile(JoinProfile(lab.store.uri, (0,), (key,))) is None
