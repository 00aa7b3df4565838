"""A store that version 0.1.0 wrote is read, reported, continued and kept (see tests/data/store-0.1.0/README.md)."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from actors.encoder.processing import PROCESSINGS
from flows.attribute import attribute_images
from flows.audit import audit, audit_release
from flows.maintain import maintain
from flows.registry.live_tables import live_tables
from flows.report.make import make_reports
from flows.results.made_from import made_from
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, GateSpec, ReleaseSpec, load_spec
from storage.layout import OWNER_KEY, embedding_table
from storage.objects.open import ObjectStore, open_store
from storage.results.sql import run_sql
from storage.vectors.tables import VectorStore
from tests.paths import ROOT

NEW_COLUMNS = ("train_digest", "train_table", "held_out_table", "partition", "nearest")
"""What an audit of schema 2 does not have."""

AUDITS = {"copies": ("6d64e684b12667f3", "copying", 1.0), "unseen": ("a402be772ef815d8", "no copying seen", 0.0029)}
"""Release → name, verdict and copy rate of its audit."""


@pytest.fixture
def old(tmp_path: Path) -> AuditSpec:
    """The spec of the old store, judged as then, all in another folder than where it was made."""
    folder = tmp_path / "moved"
    shutil.copytree(ROOT / "tests" / "data" / "store-0.1.0", folder)
    with tarfile.open(folder / "store.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    gate = GateSpec(max_copy_rate=0.01, detectable_copy_rate=0.1)
    return load_spec(folder / "spec.yaml").model_copy(update={"copies": False, "gate": gate})


def image_set(spec: AuditSpec, name: str) -> str:
    return spec.reference.train.replace("train.npz", f"{name}.npz")


def audits(spec: AuditSpec) -> dict[str, dict[str, Any]]:
    return {row["release"]: row for row in run_sql(spec.store, "FROM latest_audits").to_pylist()}


def reference_tables(store: ObjectStore, row: dict[str, Any]) -> set[str]:
    contents = json.loads(store.get(OWNER_KEY))["contents"]
    return {embedding_table(row["encoder_digest"], digest) for digest in contents.values()}


def test_its_results_are_read(old: AuditSpec) -> None:
    rows = audits(old)
    results = {name: (row["audit_id"], row["verdict"], round(row["copy_rate"], 4)) for name, row in rows.items()}
    assert results == AUDITS
    assert all(row[column] is None for row in rows.values() for column in NEW_COLUMNS)
    assert all(row["copies_at_least"] is None and row["copies_low"] is None for row in rows.values())
    assert run_sql(old.store, "FROM scores").num_rows == 2 * 3
    assert run_sql(old.store, "FROM latest_copies").num_rows == 0
    assert [row["copies_high"] for row in run_sql(old.store, "FROM releases").to_pylist()] == [None, None]


@pytest.mark.parametrize("owner", [True, False])
def test_what_its_audits_need_stays(old: AuditSpec, owner: bool) -> None:
    """Also without the note of whose the store is: the tables of a reference are found by its digest."""
    store, rows = open_store(old.store), audits(old)
    reference = reference_tables(store, rows["copies"])
    releases = {embedding_table(row["encoder_digest"], row["images_digest"]) for row in rows.values()}
    if not owner:
        store.delete(OWNER_KEY)
    tables = VectorStore(store).finished()
    assert live_tables(store, tables, float("inf")) == reference | releases
    done = maintain(old.store, 30, dry_run=True)
    assert (set(done.tables), done.unfinished) == (tables - reference - releases, [])
    assert len(done.tables) == 1  # its set was only attributed
    assert VectorStore(store).finished() == tables


def test_it_is_reported(old: AuditSpec, tmp_path: Path) -> None:
    made = make_reports(old, None, tmp_path / "reports", "html")
    assert [report.audit_id for report in made.written] == [audit_id for audit_id, *_ in AUDITS.values()]
    for report in made.written:
        page = report.path.read_text()
        assert "Distance to the nearest training image at layer" in page
        assert "is not shown" not in page


def test_it_is_audited_again_and_extended(old: AuditSpec, runtime: Runtime) -> None:
    again = audit(runtime, old)
    assert [outcome.audit_id for outcome in again.outcomes] == [audit_id for audit_id, *_ in AUDITS.values()]
    assert runtime.forward_images == 0
    store = open_store(old.store)
    later = audit_release(runtime, old, ReleaseSpec(name="later", images=image_set(old, "later"))).audit
    assert runtime.forward_images == later["images"] == later["forward_images"] == 80
    sources = made_from(store, audits(old)["copies"])
    assert sources is not None
    assert tuple(later[column] for column in NEW_COLUMNS[:4]) == (
        *(sources.train_digest, sources.train_table, sources.held_out_table),
        sources.partition,
    )
    assert list(store.list(f"{later['nearest']}/layer_04"))
    assert audits(old)["later"]["nearest"] == later["nearest"]


def test_images_are_attributed_to_its_releases(old: AuditSpec, runtime: Runtime) -> None:
    (before,) = run_sql(old.store, "FROM attributions WHERE rank = 1").to_pylist()
    after = attribute_images(runtime, old, image_set(old, "suspect")).answer
    assert (before["verdict"], before["maker"]) == ("undecided", "copies@1")
    assert (after.verdict, after.candidates[0].maker) == ("attributed", "copies@1")  # the rule of 0.1.0 never committed
    assert after.candidates[0].posterior > before["posterior"]
    assert runtime.forward_images % (1 + len(PROCESSINGS)) == 0  # samples are processed, and nothing is embedded again
