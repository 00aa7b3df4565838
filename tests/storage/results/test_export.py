"""A plain DuckDB opens the exported file."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from storage.errors import InputError
from storage.objects.open import LocalStore, ObjectStore, open_store
from storage.results.export import export_views
from storage.results.sql import run_sql
from storage.results.tables import SCHEMAS, write_result
from storage.results.views import VIEWS
from tests.storage.fleet import fleet, latest, write_fleet
from tests.storage.results.test_tables import row


def test_the_file_says_what_the_store_says(store: ObjectStore, tmp_path: Path) -> None:
    rows = fleet(releases=3)
    rows["attributions"] = []
    write_fleet(store, rows)
    done = export_views(store.uri, tmp_path / "x.duckdb")
    local = isinstance(store, LocalStore)
    assert (done.live, done.empty) == (local, ["attributions"])
    os.replace(done.path, tmp_path / "renamed.duckdb")
    with duckdb.connect(tmp_path / "renamed.duckdb", read_only=True) as plain:
        for view in [*SCHEMAS, *VIEWS]:
            found = plain.execute(f"SELECT * FROM {view} ORDER BY ALL").fetchall()
            ours = run_sql(store.uri, f"SELECT * FROM {view} ORDER BY ALL")
            assert len(found) == ours.num_rows, view
            assert [column[0] for column in plain.description or []] == ours.column_names
            assert [row[0] for row in found] == ours.column(0).to_pylist()
        write_result(store, "audits", "late", [row("audits", release="late", audit_id="late")])
        count = plain.execute("SELECT count(*) FROM latest_audits").fetchone()
        assert count == (len(latest(rows)) + local,)


def test_a_folder_with_a_hostile_name_and_an_old_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "it's [a]*? folder"))
    write_fleet(store, fleet(releases=2))
    done = export_views(store.uri, tmp_path / "x.duckdb")
    with duckdb.connect(done.path, read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM releases").fetchone() == (4,)


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        export_views(str(tmp_path / "store"), path)
    with pytest.raises(InputError, match="cannot be written"):
        export_views(str(tmp_path / "store"), tmp_path / "no" / "x.duckdb")
    assert path.read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["x.duckdb"]
