"""An audit whose nearest train images are searched among all, by an index."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from actors.stages import embed as embed_stage
from actors.workers.partition import StoredPartition
from flows.attribute import attribute_images
from flows.audit import audit, built_reference
from flows.inputs import list_set
from flows.results.audit_result import COPYING, INVALID, NO_COPYING
from flows.results.audit_rows import judge
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, load_spec
from scoring.checks.search_error import Recall, SearchError, search_check
from scoring.score.cells import merge_small_cells
from scoring.verdict.copying import CopyingVerdict
from storage.errors import InputError
from storage.layout import layer_key
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore, layer_column, vector_matrix
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN, Write


@pytest.fixture
def spec(write_spec: Write) -> AuditSpec:
    """The laboratory's spec, searched among all train images."""
    return load_spec(write_spec(scoring={"cells": 2, "components": 16, "search": "global"}))


def _exact_a_hat(runtime: Runtime, spec: AuditSpec, label: str, layer: int) -> float:
    """Â of the nearest train images by brute force, and by another library's area under the curve."""
    reference = built_reference(runtime, spec)
    store = open_store(spec.store)
    vectors = VectorStore(store)
    partition = StoredPartition.load(store, layer_key(reference.tables.partition, layer, "npz")).partition
    manifest = list_set(runtime, spec.release(label).images)
    release = vectors.committed(embed_stage.table_name(reference.facts, manifest))
    assert release is not None
    projected: list[NDArray[np.float32]] = []
    for table in (reference.tables.train, reference.tables.held_out, release):
        column = layer_column(layer)
        x = vectors.dataset(table.name, table.version).to_table(columns=[column])
        projected.append(partition.project(vector_matrix(x[column])))
    train, p, q = projected
    distance_p, distance_q = (cdist(x, train).min(axis=1) for x in (p, q))
    cells = [cdist(x, partition.centroids).argmin(axis=1) for x in (p, q)]
    groups = merge_small_cells(partition.centroids, *(np.bincount(cell, minlength=2) for cell in cells))
    total = 0.0
    for group in range(groups.max() + 1):
        inside = [
            distance[groups[cell] == group] for distance, cell in zip((distance_p, distance_q), cells, strict=True)
        ]
        labels = np.repeat([0, 1], [len(one) for one in inside])
        total += len(inside[0]) * roc_auc_score(labels, np.concatenate(inside))
    return total / len(p)


def test_it_agrees_with_the_exact_search_within_its_bound(
    runtime: Runtime, spec: AuditSpec, write_spec: Write, lab: str
) -> None:
    copies, unseen = audit(runtime, spec).outcomes
    assert (copies.verdict, unseen.verdict) == (COPYING, NO_COPYING)
    for outcome in (copies, unseen):
        assert outcome.audit["search"] == "global"
        check = next(check for check in outcome.checks if check["name"] == "search")
        assert check["passed"]
        assert "nearest of all training images" in check["sentence"]
        for row in outcome.scores:
            exact = _exact_a_hat(runtime, spec, outcome.label, row["layer"])
            assert abs(row["a_hat"] - exact) <= row["search_bound"] + 1e-9
            assert row["search_bound"] <= check["value"] * max(row["se"], 0.05)
            assert min(row["recall"], row["recall_held_out"]) >= 0.999
            assert min(row["probes"], row["probes_held_out"]) >= 1
            assert row["index_version"] >= 1
            assert row["index_table"].startswith("train-")

    # the same reference under the other quantity is another reference
    in_cell = load_spec(write_spec(store=spec.store, scoring={"cells": 2, "components": 16}))
    with pytest.raises(InputError, match="2 profiles were made with another reference"):
        attribute_images(runtime, in_cell, f"{lab}/fresh/")
    other = audit(runtime, in_cell, [in_cell.release("copies")]).outcomes[0]
    assert runtime.forward_images == TRAIN + HELD_OUT + COPIES + UNSEEN  # the embeddings serve both
    assert other.audit["search"] == "in_cell"
    assert other.audit["reference_digest"] != copies.audit["reference_digest"]
    assert other.scores[0]["recall"] is None


def test_a_loose_search_makes_an_audit_invalid() -> None:
    exact = Recall(1000, 0, 1.0, 0.996, 1.0)
    poor = SearchError(exact, Recall(1000, 60, 0.94, 0.92, 0.95), 0.009, 0.01)
    seen = CopyingVerdict(True, 3, 0.4, 0.3, 0.5, "copying")
    assert judge(seen, [search_check({3: poor})]) == INVALID
    assert judge(seen, [search_check({3: SearchError(exact, exact, 0.001, 0.01)})]) == COPYING
