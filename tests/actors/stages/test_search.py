"""The search stage on a real Ray: blocks, what was there before, and the mode of a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.ray_cluster.local import Cluster
from actors.stages import reference as reference_stage, search as search_stage
from actors.stages.context import Progress, StageContext
from actors.stages.reference import PartitionSettings, settled_search
from actors.workers.nearest_table import read_nearest, search_facts, write_nearest
from scoring.nearest import search_plan
from storage.layout import keys_under, layer_key
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable
from tests.actors.conftest import embedding_table

LAYERS = [0, 1, 2]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


@pytest.fixture
def tables(store: ObjectStore) -> dict[str, EmbeddingTable]:
    """Train and release; layer 0 is constant."""
    rng = np.random.default_rng(0)
    places = rng.normal(scale=3, size=(8, 10))
    made = {}
    for name, n in {"train": 1200, "release": 250}.items():
        layers = {k: (places[rng.integers(0, 8, n)] + rng.normal(size=(n, 10))).astype(np.float32) for k in (1, 2)}
        made[name] = embedding_table(store, name, {0: np.ones((n, 3), np.float32), **layers})
    return made


def _search(store: ObjectStore, cluster: Cluster, tables: dict[str, EmbeddingTable]) -> tuple[str, list[Progress]]:
    reports: list[Progress] = []
    context = StageContext(store, cluster, reports.append)
    settings = PartitionSettings(6, 3, 0, "global")
    partition = reference_stage.fit_partitions(context, tables["train"], LAYERS, settings)
    prefix = search_stage.search(context, tables["release"], LAYERS, partition, "euclidean", "global", "release")
    return prefix, [report for report in reports if not report.stage.startswith("partition")]


def test_blocks_give_the_same_and_one_that_is_there_is_left_alone(
    store: ObjectStore, tables: dict[str, EmbeddingTable], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, reports = _search(store, cluster, tables)
    assert [report.stage for report in reports] == ["sample release"] * 4 + ["search release"] * 4
    whole = {layer: read_nearest(store, layer_key(prefix, layer, "parquet")) for layer in LAYERS}
    assert [table.num_rows for table in whole.values()] == [0, 250, 250]
    for layer in LAYERS:
        store.delete(layer_key(prefix, layer, "parquet"))
    begun = f"{prefix}/layer_02/000000084-000000168.parquet"
    marked = whole[2].slice(84, 84)
    marked = marked.set_column(3, marked.field("train_row"), [[-7] * 84])
    write_nearest(store, begun, marked, search_facts(whole[2]))

    monkeypatch.setattr(search_stage, "BLOCK_IMAGES", 100)
    again, reports = _search(store, cluster, tables)
    assert again == prefix
    assert [(report.stage, report.unit, report.done, report.total) for report in reports] == [
        ("sample release", "layers", 3, 3),
        *[("search release", "blocks", done, 9) for done in range(1, 10)],
        *[("merge release", "layers", done, 3) for done in range(4)],
    ]
    joined = {layer: read_nearest(store, layer_key(prefix, layer, "parquet")) for layer in LAYERS}
    assert joined[1].equals(whole[1], check_metadata=True)
    assert joined[0].num_rows == 0
    rows = joined[2]["train_row"].to_numpy()
    assert (rows[84:168] == -7).all()
    assert (np.delete(rows, np.s_[84:168]) == np.delete(whole[2]["train_row"].to_numpy(), np.s_[84:168])).all()
    assert len(keys_under(store, prefix)) == 6  # tables and samples; the blocks are gone


def test_auto_is_decided_once(
    store: ObjectStore, tables: dict[str, EmbeddingTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, held_out = tables["train"], tables["release"]
    assert settled_search(store, train, held_out, "auto", "default", 6, 3) == "in_cell"
    monkeypatch.setattr(search_plan, "PATIENCE_SECONDS", -1e9)
    assert settled_search(store, train, held_out, "auto", "default", 6, 3) == "in_cell"  # as it was
    assert settled_search(store, tables["release"], held_out, "auto", "default", 6, 3) == "global"
    assert settled_search(store, tables["release"], held_out, "auto", "meehan", 6, 3) == "in_cell"
    assert settled_search(store, train, held_out, "global", "default", 6, 3) == "global"  # asked for


def test_modes_do_not_share_a_partition(tables: dict[str, EmbeddingTable]) -> None:
    prefixes = {
        reference_stage.partition_prefix(tables["train"], PartitionSettings(6, 3, 0, mode))
        for mode in ("in_cell", "global")
    }
    assert len(prefixes) == 2
