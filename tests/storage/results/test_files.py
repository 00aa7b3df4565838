"""What a statement reads: only the files it needs, of this and of older schemas, and how long that takes."""

from __future__ import annotations

import datetime as dt
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import ObjectStore, open_store
from storage.results.sql import SqlSession, connect, run_sql
from storage.results.tables import SCHEMAS, result_keys, write_result
from storage.seal import parse_parquet
from tests.storage.counting_proxy import CountingProxy
from tests.storage.damage import DAMAGES, damaged
from tests.storage.fleet import Row, fleet, latest, write_fleet
from tests.storage.results.test_tables import row

V2_LACKS = {"train_digest", "train_table", "held_out_table", "partition", "nearest"}
"""Columns of `audits` that files of schema 2 did not have."""

V1_LACKS = {
    "audits": {"run", "profile_id", "search"} | V2_LACKS,
    "scores": {"index_table", "index_version", "probes_held_out", "probes", "recall_held_out", "recall",
               "search_bound"},
    "profiles": {"profile_id", "run", "part", "placement", "placement_scatter", "mean", "scatter", "seed",
                 "table_version", "table", "images_uri", "created_at"},
}  # fmt: skip
"""Columns that files of schema 1 did not have."""


@pytest.fixture(scope="module")
def proxy(s3: EmbeddedS3) -> Iterator[CountingProxy]:
    """All S3 traffic of this module's tests that ask for it."""
    with CountingProxy(s3.endpoint) as counting:
        yield counting


def keys_got(requests: list[tuple[str, str]]) -> list[str]:
    """The keys under ``results/`` of all GETs of objects; a HEAD is an error."""
    assert {method for method, _ in requests} <= {"GET"}
    return [path.partition("/results/")[2] for _, path in requests if "/results/" in path and "list-type" not in path]


def test_over_s3_only_the_needed_files_are_read_and_each_once(
    s3_prefix: str, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = fleet(releases=5, versions=2, audits=3)
    write_fleet(open_store(s3_prefix), rows)
    audits = {f"audits/{record['audit_id']}.parquet" for record in rows["audits"]}
    newest = {f"scores/{record['audit_id']}.parquet" for record in latest(rows)}
    assert (len(audits), len(newest)) == (30, 10)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    proxy.take()

    found = run_sql(s3_prefix, "SELECT layer, avg(a_hat) AS a FROM latest_scores GROUP BY layer ORDER BY layer")
    mean = sum(record["a_hat"] for record in latest(rows, "scores") if record["layer"] == 2) / 10
    assert found["a"].to_pylist()[2] == pytest.approx(mean)
    requests = proxy.take()
    assert sorted(keys_got(requests)) == sorted(audits | newest)
    assert len(requests) - len(audits | newest) == 2  # the listings

    record = rows["audits"][7]["audit_id"]
    assert run_sql(s3_prefix, f"SELECT * FROM evidence WHERE audit_id = '{record}'").num_rows == 12
    assert keys_got(proxy.take()) == [f"evidence/{record}.parquet"]
    assert run_sql(s3_prefix, f"SELECT * FROM scores WHERE audit_id IN ('{record}', 'x') AND layer = 1").num_rows == 1
    assert keys_got(proxy.take()) == [f"scores/{record}.parquet"]
    assert run_sql(s3_prefix, "SELECT count(*) AS n FROM rejects")["n"].to_pylist() == [len(rows["rejects"])]
    assert {key.partition("/")[0] for key in keys_got(proxy.take())} == {"rejects"}
    connect(s3_prefix).close()
    assert proxy.take() == []


def test_what_was_fetched_is_not_fetched_again_but_new_audits_are_seen(
    s3_prefix: str, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_prefix)
    write_fleet(store, fleet(releases=2, versions=1, audits=1))
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    count = "SELECT count(*) AS n FROM audits WHERE reference = 'x'"
    with SqlSession(s3_prefix) as session:
        assert session.run(count)["n"].to_pylist() == [2]
        proxy.take()
        assert session.run(count)["n"].to_pylist() == [2]
        assert keys_got(proxy.take()) == []
        write_result(store, "audits", "late", [row("audits", audit_id="late")])
        proxy.take()
        assert session.run(count)["n"].to_pylist() == [3]
        assert keys_got(proxy.take()) == ["audits/late.parquet"]


def test_a_large_file_of_s3_is_read_by_its_columns(
    s3_prefix: str, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_prefix)
    many = [row("profiles", layer=i, scatter=[float(i * j) for j in range(20_000)]) for i in range(12)]
    write_result(store, "profiles", "big", many)
    assert len(store.get("results/profiles/big.parquet")) > 500_000
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    proxy.take()
    assert run_sql(s3_prefix, "SELECT sum(layer)::INT AS n FROM profiles")["n"].to_pylist() == [66]
    assert 2 <= len(keys_got(proxy.take())) <= 3  # footer and column
    total = run_sql(s3_prefix, "SELECT sum(list_sum(scatter)) AS n FROM profiles WHERE layer = 3")
    assert total["n"].to_pylist() == [3 * sum(range(20_000))]


@pytest.mark.parametrize(("table", "lacks"), [*V1_LACKS.items(), ("audits", V2_LACKS)])
def test_an_old_store_is_read(store: ObjectStore, table: str, lacks: set[str]) -> None:
    """A file of schema 1 or 2 beside one of today: what it lacks is null."""
    name = SCHEMAS[table].names[0]
    old = pa.Table.from_pylist([row(table, release="old")]).drop_columns(sorted(lacks))
    if "layer" in old.column_names:
        old = old.set_column(old.column_names.index("layer"), "layer", old["layer"].cast(pa.int64()))
    sink = io.BytesIO()
    pq.write_table(old.append_column("gone", pa.array(["x"])), sink)
    store.put(f"results/{table}/x.parquet", sink.getvalue())
    write_result(store, table, "y", [row(table, release="new") | {name: "y"}])
    found = {record["release"]: record for record in run_sql(store.uri, f"FROM {table}").to_pylist()}
    assert list(found["old"]) == SCHEMAS[table].names
    assert {column for column, value in found["old"].items() if value is None} == lacks
    assert all(value is not None for value in found["new"].values())
    lacked = min(lacks)
    where = run_sql(store.uri, f"SELECT release FROM {table} WHERE {lacked} IS NULL")
    assert where["release"].to_pylist() == ["old"]
    if table == "audits":
        later = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
        run = found["old"]["run"] or "1"
        rerun = [row("audits", release="old", audit_id="z", run=run, created_at=later)]
        write_result(store, "audits", "z", rerun)
        latest_of_old = run_sql(store.uri, "SELECT audit_id FROM latest_audits WHERE release = 'old'")
        assert latest_of_old["audit_id"].to_pylist() == ["z"]


@pytest.mark.parametrize(
    ("damage", "sealed"),
    [*((damage, True) for damage in DAMAGES), ("empty", False), ("cut", False), ("foreign", False)],
)
def test_a_broken_file_is_named_and_its_rows_are_left_out(
    store: ObjectStore, damage: str, sealed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_fleet(store, fleet(releases=3))
    count = run_sql(store.uri, "FROM scores").num_rows
    keys = result_keys(store, "scores")
    if not sealed:  # as layerprint 0.1.0 wrote them
        for key in keys:
            sink = io.BytesIO()
            pq.write_table(parse_parquet(store.get(key)), sink)
            store.put(key, sink.getvalue())
    data = store.get(keys[1])
    broken = b"not parquet at all" if damage == "foreign" else damaged(data, damage, at=len(data) - 20)
    store.put(keys[1], broken)
    with caplog.at_level("WARNING"):
        rows = run_sql(store.uri, "FROM scores")
    assert 0 < rows.num_rows < count
    assert [record.getMessage().count(keys[1]) for record in caplog.records] == [1]


def test_a_folder_with_a_hostile_name(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "it's [a]*? folder"))
    write_fleet(store, fleet(releases=2))
    assert run_sql(store.uri, "FROM releases").num_rows == 4


def test_filters_agree_with_a_full_read(store: ObjectStore) -> None:
    """Filters that are pushed down, and ones that are not, against Python."""
    rows = fleet(releases=3)
    write_fleet(store, rows)
    wanted = [
        record
        for record in rows["scores"]
        if record["layer"] >= 2 and record["release"] != "r1" and record["a_hat"] < 0.6
    ]
    where = "layer >= 2 AND release <> 'r1' AND a_hat < 0.6"
    assert run_sql(store.uri, f"SELECT a_hat FROM scores WHERE {where}").num_rows == len(wanted) > 0
    lists = run_sql(store.uri, "SELECT scatter FROM profiles WHERE release LIKE '%2' AND part = 1 AND scatter[1] = 1")
    assert lists.num_rows == sum(record["release"] == "r2" and record["part"] == 1 for record in rows["profiles"])


@pytest.mark.usefixtures("slow")
def test_a_thousand_releases_cost_a_quarter_of_reading_their_files_one_by_one(tmp_path: Path) -> None:
    """13 layers each, one file per audit. CPU time of all cores, as a ratio: the machine's speed drifts."""
    store = open_store(str(tmp_path))
    for i in range(1000):
        key: Row = {"audit_id": f"{i:04x}", "release": f"r{i}", "version": "1"}
        write_result(store, "audits", key["audit_id"], [row("audits", **key)])
        layers = [row("scores", **key, layer=layer, a_hat=i / 1000) for layer in range(13)]
        write_result(store, "scores", key["audit_id"], layers)
    times, alone = [], []
    for _ in range(3):
        began = time.process_time()
        found = run_sql(store.uri, "SELECT layer, avg(a_hat) AS a, count(*) AS n FROM latest_scores GROUP BY layer")
        times.append(time.process_time() - began)
        assert found["n"].to_pylist() == [1000] * 13
        assert found["a"].to_pylist() == pytest.approx([0.4995] * 13)
        began = time.process_time()
        for path in tmp_path.rglob("*.parquet"):
            pq.read_table(path)
        alone.append(time.process_time() - began)
    assert min(times) < min(alone) / 4, (times, alone)
