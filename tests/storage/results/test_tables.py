from __future__ import annotations

import datetime as dt
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import InputError, StoreError
from storage.objects.open import BrokenObjectError, ObjectStore
from storage.results.tables import SCHEMAS, read_result, write_result

_SAMPLE: dict[pa.DataType, Any] = {
    pa.string(): "x",
    pa.bool_(): True,
    pa.int32(): 3,
    pa.int64(): 2**40,
    pa.float64(): 0.25,
    pa.list_(pa.float64()): [1.0, 2.0],
    pa.timestamp("us", tz="UTC"): dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
}


def row(table: str, full: bool = True, /, **values: object) -> dict[str, object]:
    """One valid row; without the nullable columns when not ``full``."""
    filled = {f.name: _SAMPLE[f.type] for f in SCHEMAS[table] if full or not f.nullable}
    return filled | values


def test_the_tables() -> None:
    assert set(SCHEMAS) == {"audits", "copies", "scores", "profiles", "evidence", "rejects", "checks", "attributions"}
    for schema in SCHEMAS.values():
        assert schema.metadata == {b"schema_version": b"5"}
        assert len(set(schema.names)) == len(schema.names)
    assert SCHEMAS["profiles"].field("covariance").type == pa.list_(pa.float64())
    assert SCHEMAS["audits"].field("created_at").type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize("table", SCHEMAS)
@pytest.mark.parametrize("full", [True, False])
def test_round_trip(store: ObjectStore, table: str, full: bool) -> None:
    name = "maker" if table == "attributions" else "release"
    rows = [row(table, full, **{name: "a"}), row(table, full, **{name: "b"})]
    uri = write_result(store, table, "run-1", rows)
    assert uri == f"{store.uri}/results/{table}/run-1.parquet"
    found = read_result(store, table, "run-1")
    assert found.schema.equals(SCHEMAS[table], check_metadata=True)
    every = dict.fromkeys(SCHEMAS[table].names)
    assert found.to_pylist() == [every | one for one in rows]
    assert pq.read_schema(io.BytesIO(store.get(f"results/{table}/run-1.parquet"))).metadata[b"schema_version"] == b"5"


def test_a_table_is_as_good_as_rows(store: ObjectStore) -> None:
    rows = [row("evidence", layer=i) for i in range(3)]
    write_result(store, "evidence", "rows", rows)
    shuffled = pa.Table.from_pylist(rows).select(sorted(SCHEMAS["evidence"].names))
    write_result(store, "evidence", "table", shuffled)
    assert read_result(store, "evidence", "rows").equals(read_result(store, "evidence", "table"))


def test_all_audits_are_read_together_and_a_file_never_changes(store: ObjectStore) -> None:
    assert read_result(store, "rejects").equals(SCHEMAS["rejects"].empty_table())
    write_result(store, "rejects", "one", [row("rejects", key="1")])
    write_result(store, "rejects", "two", [row("rejects", key="2")])
    write_result(store, "rejects", "one", [row("rejects", key="changed")])
    write_result(store, "rejects", "none", [])
    assert sorted(read_result(store, "rejects")["key"].to_pylist()) == ["1", "2"]
    assert read_result(store, "rejects", "absent").num_rows == 0


def test_what_is_not_a_number_is_null(store: ObjectStore) -> None:
    write_result(store, "scores", "a", [row("scores", a_hat=float("nan")), row("scores", a_hat=0.5)])
    assert read_result(store, "scores")["a_hat"].to_pylist() == [None, 0.5]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"surprise": 1}, "no column surprise"),
        ({"key": None}, r"rejects\.key has 1 null of 1"),
        ({"key": 3}, r"rejects\.key: Expected"),
    ],
)
def test_wrong_rows_are_refused(store: ObjectStore, change: dict[str, object], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        write_result(store, "rejects", "a", [row("rejects") | change])
    assert read_result(store, "rejects").num_rows == 0


def test_wrong_names_are_refused(store: ObjectStore) -> None:
    with pytest.raises(InputError, match="no results table 'nope'"):
        write_result(store, "nope", "a", [])
    for audit_id in ("", "a/b", "..", ".hidden", "a b"):
        with pytest.raises(InputError, match="not the name of an audit"):
            read_result(store, "scores", audit_id)


def test_a_file_of_version_1_is_read(store: ObjectStore) -> None:
    """What an older version did not have is null."""
    old = pa.Table.from_pylist([row("profiles", False, release="glow")]).drop_columns(["n"])
    old = old.append_column("n", pa.array([7], pa.int32()))
    sink = io.BytesIO()
    pq.write_table(old, sink)
    store.put("results/profiles/old.parquet", sink.getvalue())
    (found,) = read_result(store, "profiles").to_pylist()
    assert (found["release"], found["n"], found["run"], found["part"]) == ("glow", 7, None, None)


def test_an_audit_of_version_3_is_read(store: ObjectStore) -> None:
    """It was judged by its layers."""
    new = [name for name in SCHEMAS["audits"].names if "copies" in name or "distinct" in name]
    new += ["held_out_leaks", "tokens"]
    assert len(new) == 10
    old = pa.Table.from_pylist([row("audits", verdict="copying")], SCHEMAS["audits"]).drop_columns(new)
    sink = io.BytesIO()
    pq.write_table(old.replace_schema_metadata({"schema_version": "3"}), sink)
    store.put("results/audits/old.parquet", sink.getvalue())
    (found,) = read_result(store, "audits", "old").to_pylist()
    assert (found["verdict"], {found[name] for name in new}) == ("copying", {None})


def test_a_foreign_file_is_named(store: ObjectStore) -> None:
    store.put("results/scores/foreign.parquet", b"not parquet")
    assert read_result(store, "scores").num_rows == 0
    with pytest.raises(BrokenObjectError, match=r"foreign\.parquet: the file is broken"):
        read_result(store, "scores", "foreign")
    sink = io.BytesIO()
    pq.write_table(pa.table({"other": [1]}), sink)
    store.put("results/scores/foreign.parquet", sink.getvalue())
    with pytest.raises(StoreError, match=r"foreign\.parquet: not a scores file"):
        read_result(store, "scores")
