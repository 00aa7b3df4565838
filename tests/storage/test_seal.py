"""Seals: whatever happens to a byte of a sealed file is noticed, or changes nothing; files without a seal are read."""

from __future__ import annotations

import io
import json
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import StoreError
from storage.objects.open import BrokenObjectError, ObjectStore
from storage.seal import (
    check_seal,
    name_broken,
    parse_arrays,
    parse_json,
    parse_parquet,
    read_json,
    read_sealed,
    sealed_arrays,
    sealed_json,
    sealed_parquet,
    unless_broken,
)
from tests.storage.damage import DAMAGES, damaged

ARRAYS = {"x": np.arange(50.0), "name": np.array("layer")}
TABLE = pa.table({"row": range(300), "key": ["a.png"] * 300}).replace_schema_metadata({"kind": "folder"})
DOCUMENT = {"shard": 3, "fragments": ["a"], "text": "Â"}


def _lists(data: bytes) -> dict[str, Any]:
    return {name: array.tolist() for name, array in parse_arrays(data).items()}


def _rows(data: bytes) -> tuple[Any, Any]:
    table = parse_parquet(data)
    return table.to_pydict(), table.schema.metadata


FORMATS: dict[str, tuple[bytes, Callable[[bytes], Any], Any]] = {
    "json": (sealed_json(DOCUMENT), parse_json, DOCUMENT),
    "npz": (sealed_arrays(ARRAYS), _lists, {name: array.tolist() for name, array in ARRAYS.items()}),
    "parquet": (sealed_parquet(TABLE), _rows, (TABLE.to_pydict(), TABLE.schema.metadata)),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_flipped_byte_is_noticed_or_harmless(store: ObjectStore, form: str) -> None:
    data, parse, content = FORMATS[form]
    assert parse(data) == content
    chance, harmless = random.Random(form), 0
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
        try:
            check_seal(changed)
        except ValueError:
            continue
        store.put("k", changed)  # the text before the digest was hit: it counts as a file without a seal
        assert unless_broken(lambda: read_sealed(store, "k", parse), "") in (content, None)
        harmless += 1
    assert harmless == len("layerprint-seal:sha256:")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("form", FORMATS)
def test_a_broken_file_says_where(store: ObjectStore, form: str, damage: str) -> None:
    data, parse, _ = FORMATS[form]
    store.put(f"some/key.{form}", damaged(data, damage, at=20))
    with pytest.raises(BrokenObjectError, match=rf"some/key\.{form}: the file is broken") as caught:
        read_sealed(store, f"some/key.{form}", parse)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.found, again.key, again.seen) == (caught.value.found, f"some/key.{form}", caught.value.seen)


def test_files_of_0_1_0_have_no_seal(store: ObjectStore) -> None:
    buffer, sink = io.BytesIO(), io.BytesIO()
    np.savez(buffer, allow_pickle=False, **ARRAYS)
    pq.write_table(TABLE, sink)
    for data, parse, content in (
        (json.dumps(DOCUMENT).encode(), *FORMATS["json"][1:]),
        (buffer.getvalue(), *FORMATS["npz"][1:]),
        (sink.getvalue(), *FORMATS["parquet"][1:]),
    ):
        store.put("old", data)
        assert read_sealed(store, "old", parse) == content
        store.put("old", data[: len(data) // 2])
        with pytest.raises(BrokenObjectError):
            read_sealed(store, "old", parse)


def test_an_intact_file_of_another_version_is_not_called_broken(store: ObjectStore) -> None:
    store.put("k", sealed_json({"new": 1}))
    with pytest.raises(StoreError, match="another version of layerprint") as caught:
        read_sealed(store, "k", lambda data: parse_json(data)["old"])
    assert not isinstance(caught.value, BrokenObjectError)


def test_a_broken_file_is_named_once(store: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put("k", b"")
    for _ in range(2):
        assert unless_broken(lambda: read_json(store, "k"), "it is left out") is None
    with pytest.raises(BrokenObjectError) as caught:
        read_json(store, "k")
    name_broken(caught.value, "it is left out")
    assert [record.getMessage().endswith("it is empty): it is left out") for record in caplog.records] == [True]
