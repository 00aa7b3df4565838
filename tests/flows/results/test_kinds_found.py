"""What selfcheck measured is found again by the audits of its reference."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from actors.encoder.config import EncoderFacts
from actors.stages.copies import METHOD
from actors.stages.embed import table_name
from flows.results.identity import OpenedReference
from flows.results.kinds_found import KindFound, kinds_sentence, load_kinds, save_kinds
from flows.spec.spec import AuditSpec, CopiesSpec
from storage.image_sets.manifest import MANIFEST_SCHEMA, Manifest
from storage.layout import kinds_key
from storage.objects.base import ObjectStore
from storage.objects.open import open_store

FACTS = EncoderFacts("e", "w", {0: 4}, {0: "b0"}, (0.5,), (0.5,), "bicubic", 8, "mean", "vit")


def manifest(name: str) -> Manifest:
    return Manifest(name, "objects", pa.table([[f"{name}.png"], [3], [name]], schema=MANIFEST_SCHEMA))


OPENED = OpenedReference(FACTS, manifest("train"), manifest("held_out"))


def a_spec(**parts: object) -> AuditSpec:
    content = {
        "store": "here",
        "encoder": {"model": "vit"},
        "reference": {"name": "r", "train": "a", "held_out": "b"},
        "releases": [],
    }
    return AuditSpec.model_validate({**content, **parts})


def audit(spec: AuditSpec) -> dict[str, str]:
    table = table_name(FACTS, OPENED.held_out)
    return {"train_digest": OPENED.train.digest, "held_out_table": table, "settings": spec.model_dump_json()}


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


def test_it_is_found_with_the_same_settings_only(store: ObjectStore) -> None:
    spec, other = a_spec(), a_spec(copies=CopiesSpec(layer=2))
    assert load_kinds(store, audit(spec)) == {}
    save_kinds(store, spec, OPENED, {"mirrored": KindFound(100, 98, 97)})
    assert load_kinds(store, audit(spec)) == {"mirrored": KindFound(100, 98, 97)}
    assert load_kinds(store, audit(other)) == {}
    assert load_kinds(store, {**audit(spec), "held_out_table": None}) == {}  # schema 2 had none


def test_later_kinds_join_earlier_ones(store: ObjectStore) -> None:
    save_kinds(store, a_spec(), OPENED, {"mirrored": KindFound(100, 98, 97), "grey": KindFound(9, 9, 9)})
    save_kinds(store, a_spec(), OPENED, {"mirrored": KindFound(50, 10, 10)})
    assert load_kinds(store, audit(a_spec())) == {"mirrored": KindFound(50, 10, 10), "grey": KindFound(9, 9, 9)}


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"mirrored": [1]}', b'{"mirrored": ["x", 1, 2]}'])
def test_a_broken_file_counts_as_none(store: ObjectStore, content: bytes) -> None:
    spec = a_spec()
    copies = json.loads(spec.model_dump_json())["copies"]
    made_of = {"train": OPENED.train.digest, "held_out": table_name(FACTS, OPENED.held_out)}
    store.put(kinds_key(**made_of, copies=copies, method=METHOD), content)
    assert load_kinds(store, audit(spec)) == {}
    save_kinds(store, spec, OPENED, {"mirrored": KindFound(2, 1, 1)})
    assert load_kinds(store, audit(spec)) == {"mirrored": KindFound(2, 1, 1)}


def test_the_sentence_names_what_is_found_and_what_is_not() -> None:
    kinds = {
        "grey": KindFound(200, 181, 180),
        "quarter pasted": KindFound(100, 70, 70),
        "mirrored": KindFound(100, 100, 99),
        "half moved": KindFound(3, 0, 0),
        "upside down": KindFound(100, 0, 0),
        "no image": KindFound(0, 0, 0),
    }
    assert kinds_sentence(kinds) == (
        "finds at least 90 % of grey, mirrored; 70 % of quarter pasted; 0 % of half moved, upside down copies "
        "(selfcheck)"
    )
    assert kinds_sentence({}) == ""
