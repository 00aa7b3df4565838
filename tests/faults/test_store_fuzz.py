"""Every kind of file of a small finished store, broken in every way; then the commands that read it.

A broken file is named, and healed or left out; after the audit all rows are those of an undisturbed store, but for times.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.cli.main import run
from flows.registry.failures import save_failure, work_name
from flows.runtime.runtime import running
from flows.spec.spec import load_spec
from storage.errors import StoreError
from storage.objects.open import LocalStore
from storage.results.sql import run_sql
from storage.results.tables import SCHEMAS
from tests.flows.conftest import lab, laboratory_spec, services, write_yaml
from tests.storage.damage import DAMAGES, damaged

__all__ = ["lab", "services"]

CHANGING = {"created_at", "seconds", "forward_images", "settings", "spec_digest", "index_table", "index_version"}
"""Columns that say when, where and how a row was made."""


@pytest.fixture(scope="module")
def _quick(services: None) -> Iterator[None]:
    """Flows send no logs to Prefect's API: each would wait a second for them at its end."""
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture(scope="module")
def finished(_quick: None, lab: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a swept store with its spec beside it; tests copy both."""
    from flows.report.make import save_pictures
    from flows.sweep import sweep

    folder = tmp_path_factory.mktemp("fuzz")
    path = write_yaml(folder / "spec.yaml", laboratory_spec(lab, str(folder / "audits")))
    spec = load_spec(path)
    with running() as runtime:
        report = sweep(runtime, str(path), settle_s=0)
    assert not report.failures
    save_pictures(spec, spec.releases, report.audited)
    save_failure(LocalStore(folder / "audits"), work_name(spec, spec.releases[0]), "x@1", StoreError("x", "y"), "", 0.0)
    return folder


KINDS = {
    "results": [
        *(rf"results/{table}/.*" for table in ("audits", "scores", "profiles", "evidence", "checks", "rejects")),
        *("pictures/curves.*", "pictures/pairs.*", "failures/.*", "claims/.*"),
    ],
    "facts": ["layerprint.json", "encoders/.*", "searches/.*", "contaminated/.*", "checks/.*"],
    "layers": ["partitions/.*", "nearest/.*", "influence/.*", "profiles/.*"],
    "embeddings": ["tables/.*", "receipts/.*", "manifests/.*", "sets/.*"],
    "vectors": [
        *(r"vectors/images-.*/data/.*", r"vectors/images-.*/_versions/\d+.manifest"),
        *(r"vectors/train-.*/_indices/.*auxiliary.idx", r"vectors/train-.*/_versions/\d+.manifest"),
        *(r"vectors/.*latest_version_hint.json", r"vectors/.*/_transactions/.*"),
        *(r"vectors/train-.*/data/.*", r"vectors/.*_refs/.*", r"vectors/.*_indices/.*/index.idx"),
    ],
}
"""Every kind of file, in groups that are broken together: patterns of keys."""

NOT_READ = ["reports/.*", "announced/.*"]
"""Files that are written, and read by nobody."""

UNNOTICED = {"vectors/images-.*/data/.*", r"vectors/train-.*/_indices/.*auxiliary.idx", r"vectors/train-.*/data/.*"}
"""A flipped byte of a vector: docs/faults.md, "Not detected"."""

HARMLESS = {"_transactions", "latest_version_hint", "_refs", "index.idx"}
"""Files that Lance itself does not need to read a version."""


def test_every_kind_of_file_is_broken(finished: Path) -> None:
    patterns = [pattern for kinds in KINDS.values() for pattern in kinds] + NOT_READ
    keys = [info.key for info in LocalStore(finished / "audits").list()]
    assert [key for key in keys if not any(re.fullmatch(pattern, key) for pattern in patterns)] == []
    for pattern in patterns:
        assert pattern in NOT_READ or any(re.fullmatch(pattern, key) for key in keys), pattern


def _copy(finished: Path, folder: Path, lab: str) -> tuple[LocalStore, Path]:
    shutil.copytree(finished / "audits", folder / "audits")
    return LocalStore(folder / "audits"), write_yaml(folder / "spec.yaml", laboratory_spec(lab, str(folder / "audits")))


def _rows(store_uri: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables in one order, without what says when they were made."""
    rows = {table: run_sql(store_uri, f"FROM {table}").to_pylist() for table in SCHEMAS}
    return {
        table: sorted(
            ({name: value for name, value in row.items() if name not in CHANGING} for row in records), key=repr
        )
        for table, records in rows.items()
    }


def _prepare(store: LocalStore, group: str, broken: dict[str, str]) -> None:
    """Delete what is made from the broken files, so that they are read."""
    if group != "results":
        for info in list(store.list("results/audits/")):
            store.delete(info.key)
    if group == "facts":
        return
    if group == "embeddings":
        tables = [info.key for info in store.list("tables/") if info.key != broken["tables/.*"]]
        for key in tables:  # their shards have receipts
            store.delete(key)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("group", KINDS)
def test_a_broken_store(
    finished: Path, lab: str, tmp_path: Path, group: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store, spec = _copy(finished, tmp_path, lab)
    chance = random.Random(f"{group} {damage}")
    keys = sorted(info.key for info in store.list())
    broken = {
        pattern: chance.choice([key for key in keys if re.fullmatch(pattern, key)])
        for pattern in KINDS[group]
        if damage != "flipped" or pattern not in UNNOTICED
    }
    for key in broken.values():
        data = store.get(key)
        store.put(key, damaged(data, damage, at=chance.randrange(len(data))))
    _prepare(store, group, broken)
    readers = [
        ["status", "--store", store.uri],
        ["sql", "--store", store.uri, "FROM audits"],
        *([["report", str(spec), "--out", str(tmp_path / "reports")]] if group == "results" else []),
    ]
    assert [run(command) for command in readers] == [0] * len(readers)
    assert run(["audit", str(spec)]) == 0
    said = "".join(capfd.readouterr().err.split())
    unnamed = [key for key in broken.values() if key not in said and not any(part in key for part in HARMLESS)]
    print(group, damage, unnamed)
    assert _rows(store.uri) == _rows(str(finished / "audits"))
    assert run(["report", str(spec), "--out", str(tmp_path / "reports")]) == 0
    assert "broken" not in capfd.readouterr().err
