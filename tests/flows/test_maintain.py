"""Upkeep: what goes, what stays, and that no number changes by it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from flows.audit import audit_release
from flows.maintain import maintain
from flows.runtime.runtime import Runtime, running
from flows.spec.spec import AuditSpec, ReleaseSpec
from storage.layout import name_of
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore
from tests.flows.conftest import COPIES, TRAIN

KEEP_DAYS = 30.0

TABLES = 3 + 4
"""Embeddings of train, held-out and a release; tokens of these and of the sample of train, which has all views."""


@pytest.fixture(scope="module")
def audited_once() -> list[Path]:
    """The store of the first `audited`, as it was then."""
    return []


@pytest.fixture
def audited(
    runtime: Runtime,
    spec: AuditSpec,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    audited_once: list[Path],
) -> AuditSpec:
    """A spec whose store is a folder, with one audit: made once, copied for each test."""
    local = spec.model_copy(update={"store": str(tmp_path / "audits")})
    if audited_once:
        shutil.copytree(audited_once[0], local.store)
        return local
    audit_release(runtime, local, local.release("copies"))
    audited_once.append(tmp_path_factory.mktemp("audited") / "audits")
    shutil.copytree(local.store, audited_once[0])
    return local


def age(store_uri: str, days: float = 40.0) -> None:
    """Make everything in a store so much older."""
    when = time.time() - days * 24 * 3600
    for folder, _, names in os.walk(store_uri):
        for name in names:
            os.utime(f"{folder}/{name}", (when, when))


def keys(store: ObjectStore, prefix: str = "") -> set[str]:
    return {info.key for info in store.list(prefix)}


def some_table(store: ObjectStore) -> tuple[str, pa.Table]:
    """The name and the rows of a committed table, as every reader opens it."""
    vectors = VectorStore(store)
    name = min(keys(store, "tables/")).removeprefix("tables/").removesuffix(".json")
    table = vectors.committed(name)
    assert table is not None
    return name, vectors.dataset(name, table.version).to_table()


def again(spec: AuditSpec) -> list[dict[str, object]]:
    """The scores of the audit when its results are computed again from what the store holds."""
    store = open_store(spec.store)
    for prefix in ("results/", "nearest/", "influence/", "profiles/", "copies/"):
        for key in keys(store, prefix):
            store.delete(key)
    with running() as fresh:
        scores = audit_release(fresh, spec, spec.release("copies")).scores
    assert fresh.forward_images == 0
    return scores


def test_what_is_young_stays(audited: AuditSpec) -> None:
    store = open_store(audited.store)
    before = keys(store)
    assert maintain(audited.store, KEEP_DAYS).sentence == "nothing to remove"
    assert keys(store) == before


def test_receipts_and_versions_go_and_no_number_changes(runtime: Runtime, audited: AuditSpec) -> None:
    store = open_store(audited.store)
    before = again(audited)
    age(audited.store)
    planned = maintain(audited.store, KEEP_DAYS, dry_run=True)
    everything = keys(store)
    assert planned.receipts == TABLES
    assert planned.sentence.startswith(f"would remove {TABLES} receipts")
    done = maintain(audited.store, KEEP_DAYS)
    assert (done.receipts, done.tables, done.unfinished) == (TABLES, [], [])
    assert done.bytes_freed == planned.bytes_freed > 0
    gone = everything - keys(store)
    assert {key.split("/")[0] for key in gone} <= {"receipts", "vectors"}
    assert maintain(audited.store, KEEP_DAYS).sentence == "nothing to remove"
    assert again(audited) == before


def test_files_of_workers_that_lost_go_and_those_of_a_running_stage_stay(runtime: Runtime, audited: AuditSpec) -> None:
    store, vectors = open_store(audited.store), VectorStore(open_store(audited.store))
    name, rows = some_table(store)
    vectors.write_shard(name, rows)  # of a worker whose receipt came second
    running = "images-running"
    vectors.create(running, rows.schema)
    vectors.write_shard(running, rows)
    age(audited.store)
    store.put(f"receipts/{running}/256/shard-000000.json", b"{}")  # its last sign of life is young
    before = keys(store, f"vectors/{running}.lance/")
    done = maintain(audited.store, KEEP_DAYS)
    assert done.files == 1
    assert keys(store, f"vectors/{running}.lance/") == before
    assert some_table(store) == (name, rows)


def test_the_version_of_a_marker_stays_whatever_came_after_it(runtime: Runtime, audited: AuditSpec) -> None:
    store, vectors = open_store(audited.store), VectorStore(open_store(audited.store))
    before = again(audited)
    name, rows = some_table(store)
    for _ in range(2):
        lance.write_dataset(rows.slice(0, 1), vectors.table_uri(name), mode="overwrite")
    time.sleep(1.0)
    done = maintain(audited.store, 1e-6)
    assert done.versions == TABLES + 1  # the empty first version of every table, and the last but one of this
    assert some_table(store) == (name, rows)
    assert again(audited) == before


def test_embeddings_that_nothing_refers_to_go(runtime: Runtime, audited: AuditSpec, lab: str) -> None:
    store = open_store(audited.store)
    known = keys(store, "tables/")
    gone = ReleaseSpec(name="gone", images=f"{lab}/fresh/")
    audit_release(runtime, audited, gone)
    added = {name_of(key) for key in keys(store, "tables/") - known}
    assert len(added) == 2  # its embeddings and its tokens
    for prefix in ("results/audits/", "results/profiles/"):
        newest = max(keys(store, prefix), key=store.modified)
        store.delete(newest)  # as if the work on it had ended here
    assert maintain(audited.store, KEEP_DAYS).tables == []  # its set was used of late
    age(audited.store)
    done = maintain(audited.store, KEEP_DAYS)
    assert set(done.tables) == added
    assert keys(store, "tables/") == known
    for name in added:
        assert not keys(store, f"vectors/{name}.lance/") | keys(store, f"receipts/{name}/")
    with running() as fresh:
        assert audit_release(fresh, audited, audited.release("copies")).audit["images"] == COPIES
        assert fresh.forward_images == 0
        audit_release(fresh, audited, gone)
        assert fresh.forward_images == TRAIN - COPIES


def test_embeddings_that_were_never_finished_go(audited: AuditSpec) -> None:
    store, vectors = open_store(audited.store), VectorStore(open_store(audited.store))
    _, rows = some_table(store)
    vectors.create("images-begun", rows.schema)
    vectors.write_shard("images-begun", rows)
    store.put("receipts/images-begun/256/shard-000000.json", b"{}")
    vectors.create("images-empty", rows.schema)  # nothing of it was done, or its removal was interrupted
    age(audited.store)
    vectors.create("images-new", rows.schema)  # a stage that begins now
    done = maintain(audited.store, KEEP_DAYS)
    assert done.unfinished == ["images-begun", "images-empty"]
    assert not keys(store, "vectors/images-begun.lance/") | keys(store, "receipts/images-begun/")
    assert not keys(store, "vectors/images-empty.lance/")
    assert keys(store, "vectors/images-new.lance/")
