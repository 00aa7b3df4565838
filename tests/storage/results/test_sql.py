from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from storage.errors import InputError
from storage.objects.open import ObjectStore
from storage.results.sql import SqlSession, connect, run_sql
from storage.results.tables import SCHEMAS, write_result
from storage.results.views import VIEWS
from tests.storage.fleet import Row, fleet, latest, write_fleet
from tests.storage.results.test_tables import row


def _audit(store: ObjectStore, audit_id: str, release: str, day: int, *, verdict: str, a_hat: list[float]) -> None:
    made = dt.datetime(2026, 1, day, tzinfo=dt.UTC)
    key: dict[str, Any] = {"audit_id": audit_id, "release": release, "version": "1"}
    write_result(
        store,
        "audits",
        audit_id,
        [row("audits", **key, verdict=verdict, copy_rate=0.05, images=500, created_at=made)],
    )
    layers = [row("scores", **key, layer=i, informative=i > 0, a_hat=a) for i, a in enumerate(a_hat)]
    write_result(store, "scores", audit_id, layers)


def test_empty_views_have_their_columns(store: ObjectStore) -> None:
    for table, schema in SCHEMAS.items():
        found = run_sql(store.uri, f"SELECT * FROM {table}")
        assert (found.num_rows, found.column_names) == (0, schema.names)
    assert run_sql(store.uri, "SELECT verdict, copy_rate, a_hat_first, m FROM releases").num_rows == 0
    assert {r["name"] for r in run_sql(store.uri, "SHOW TABLES").to_pylist()} == {*SCHEMAS, *VIEWS}


def test_releases_is_the_latest_audit_of_each(store: ObjectStore) -> None:
    _audit(store, "old", "glow", 1, verdict="no copying seen", a_hat=[float("nan"), 0.5, 0.5])
    _audit(store, "new", "glow", 2, verdict="copying", a_hat=[0.9, 0.2, 0.3, 0.4])
    _audit(store, "other", "vae", 1, verdict="no copying seen", a_hat=[0.9])
    found = run_sql(
        store.uri,
        "SELECT release, version, verdict, copy_rate, a_hat_first, a_hat_last, m, audit_id FROM releases "
        "ORDER BY release",
    )
    assert [tuple(r.values()) for r in found.to_pylist()] == [
        ("glow", "1", "copying", 0.05, 0.2, 0.4, 500, "new"),
        ("vae", "1", "no copying seen", 0.05, None, None, 500, "other"),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT layer, avg(a_hat) FROM scores GROUP BY layer",
        "FROM scores",
        "WITH x AS (SELECT * FROM scores) SELECT count(*) FROM x;",
        "DESCRIBE scores",
        "SUMMARIZE scores",
        "EXPLAIN SELECT * FROM scores",
        "VALUES (1)",
    ],
)
def test_reading_is_allowed(store: ObjectStore, statement: str) -> None:
    _audit(store, "a", "glow", 1, verdict="no copying seen", a_hat=[0.5])
    assert run_sql(store.uri, statement).num_rows >= 1


ESCAPES = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{secret}*')",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
    "SELECT * FROM read_text('s3://bucket/x')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM read_parquet('{store}/results/scores/*.parquet')",
    "SELECT * FROM glob('{store}/**')",
    "EXPLAIN ANALYZE SELECT * FROM read_text('{secret}')",
    "SELECT * FROM secret_frame",
    "SELECT getenv('HOME')",
    "COPY scores TO '{target}'",
    "COPY scores TO '{store}/results/scores/a.parquet'",
    "COPY scores FROM '{secret}'",
    "CREATE TABLE x AS SELECT * FROM read_text('{secret}')",
    "SELECT 1; COPY scores TO '{target}'",
    "COPY (SELECT 1) TO '{target}' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY scores TO '{target}'",
    "EXPORT DATABASE '{target}'",
    "ATTACH '{target}' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "SET temp_directory = '{target}'",
    "SET memory_limit = '1TB'",
    "SET allowed_directories = ['/']",
    "CREATE SECRET (TYPE s3, KEY_ID 'x', SECRET 'y')",
]


@pytest.mark.parametrize("statement", ESCAPES)
def test_nothing_gets_out_of_the_store(store: ObjectStore, tmp_path: Path, statement: str) -> None:
    """Refused by `run_sql`, and by the locked database itself if a statement did get there."""
    secret_frame = SCHEMAS["scores"].empty_table()  # reachable only through a replacement scan
    secret, target = tmp_path / "secret.csv", tmp_path / "target"
    secret.write_text("column\nhush\n")
    statement = statement.format(secret=secret, target=target, store=store.uri)
    with pytest.raises(InputError) as caught:
        run_sql(store.uri, statement)
    assert "hush" not in str(caught.value)
    with connect(store.uri) as connection, pytest.raises(duckdb.Error):
        connection.execute(statement).fetchall()
    assert not target.exists()
    assert secret_frame.num_rows == 0


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("", "found nothing"),
        ("SELECT 1; SELECT 2", "found SELECT, SELECT"),
        ("CREATE TABLE x AS SELECT 1", "found CREATE"),
        ("DROP VIEW scores", "found DROP"),
        ("SELECT FROM WHERE", "syntax error"),
        ("SELECT nope FROM scores", "nope"),
        ("SELECT * FROM nope", "nope"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, statement: str, found: str) -> None:
    with pytest.raises(InputError, match=found) as caught:
        run_sql(str(tmp_path), statement)
    remedy = caught.value.remedy
    assert "SELECT" in remedy or "views are attributions, audits" in remedy or "scores(audit_id, release, " in remedy
    assert len(remedy) < 1000


def test_a_file_written_later_is_seen_by_the_next_statement(store: ObjectStore) -> None:
    count = "SELECT count(*) AS n FROM scores"
    _audit(store, "a", "glow", 1, verdict="no copying seen", a_hat=[0.5])
    assert run_sql(store.uri, count)["n"].to_pylist() == [1]
    _audit(store, "b", "glow", 2, verdict="no copying seen", a_hat=[0.5, 0.6])
    assert run_sql(store.uri, count)["n"].to_pylist() == [3]


def test_a_statement_that_takes_too_long_is_stopped_and_the_session_goes_on(store: ObjectStore) -> None:
    _audit(store, "a", "glow", 1, verdict="no copying seen", a_hat=[0.5])
    with SqlSession(store.uri, seconds=0.5) as session:
        began = time.monotonic()
        with pytest.raises(InputError, match=r"stopped after 0\.5 s"):
            session.run("SELECT count(*) FROM range(100000000000) AS a, range(1000) AS b WHERE a.range % 7 = b.range")
        assert time.monotonic() - began < 20
    with SqlSession(store.uri, seconds=60) as session:
        assert session.run("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_memory_is_limited(store: ObjectStore) -> None:
    _audit(store, "a", "glow", 1, verdict="no copying seen", a_hat=[0.5])
    with pytest.raises(InputError, match="out of memory"):
        run_sql(store.uri, "SELECT count(DISTINCT range::VARCHAR) FROM range(20000000)", memory_limit="40MB")
    with pytest.raises(InputError, match="memory limit 'much'"):
        run_sql(store.uri, "SELECT 1", memory_limit="much")


def test_latest_views_hold_the_rows_of_the_latest_audits(store: ObjectStore) -> None:
    rows = fleet(releases=3, audits=3)
    write_fleet(store, rows)
    for table in ("audits", "scores", "evidence", "checks", "rejects"):
        found = run_sql(store.uri, f"FROM latest_{table}").to_pylist()
        assert _sorted(found) == _sorted(latest(rows, table)), table
    ids = {record["profile_id"] for record in latest(rows)}
    profiles = run_sql(store.uri, "SELECT DISTINCT profile_id FROM latest_profiles")["profile_id"].to_pylist()
    assert set(profiles) == ids
    newest = run_sql(store.uri, "SELECT DISTINCT attribution_id FROM latest_attributions ORDER BY 1")
    assert newest["attribution_id"].to_pylist() == ["x0", "x2"]


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda record: json.dumps(record, default=str, sort_keys=True))
