"""The names of a store stay as version 0.1.0 wrote them: stores of then must be found again."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from storage import layout

D = "0123456789abcdef-and-more"
PREFIX = "nearest/ab"

NAMES = [
    (layout.layer_key(PREFIX, 3, "parquet"), "nearest/ab/layer_03.parquet"),
    (layout.name_of(PREFIX), "ab"),
    (layout.encoder_key(D), "encoders/0123456789abcdef.json"),
    (layout.manifest_key(D), "manifests/0123456789abcdef.parquet"),
    (layout.latest_table_key("e", "s3://b/train/"), "sets/f31ea6a4127c3feb.json"),
    (layout.embedding_table("e", "i"), "images-c43ccea6fee85621"),
    (layout.is_embedding_table("images-ab"), True),
    (layout.table_folder("images-ab"), "vectors/images-ab.lance"),
    (layout.marker_key("images-ab"), "tables/images-ab.json"),
    (layout.receipts_prefix("images-ab", 256), "receipts/images-ab/256"),
    (layout.receipt_key("receipts/images-ab/256", 7), "receipts/images-ab/256/shard-000007.json"),
    (layout.table_of_receipt("receipts/images-ab/256/shard-000007.json"), "images-ab"),
    (layout.search_mode_key("images-ab", 64, 50), "searches/a51430cc6019a62f.json"),
    (
        layout.partition_prefix("images-ab", components=64, cells=50, seed=0, search="in_cell", fit=3),
        "partitions/95f8170bedc4ff8f",
    ),
    (layout.index_table("partitions/ab", 3), "train-ab-layer_03"),
    (layout.partition_of_index("train-ab-layer_03-0a1b2c3d"), "partitions/ab/layer_03.npz"),
    (layout.nearest_prefix("images-ab", "partitions/ab", "euclidean"), "nearest/5e0023b461351079"),
    (layout.left_out_prefix("images-ab", "partitions/ab", 2000, 0), "nearest/e9006e67acb5fd84"),
    (layout.samples_prefix(PREFIX), "nearest/ab/samples"),
    (layout.block_key("nearest/ab/layer_03.parquet", 0, 13), "nearest/ab/layer_03/000000000-000000013.parquet"),
    (layout.contaminated_key(PREFIX), "contaminated/ab.json"),
    (layout.checks_key(PREFIX, 0), "checks/a47d2b1ec544485c.json"),
    (layout.influence_prefix(PREFIX, "nearest/cd", "contaminated/ab.json"), "influence/a16176b6e4f581f5"),
    (
        layout.profile_prefix(PREFIX, "nearest/cd", "contaminated/ab.json", "images-cd", 2, 0),
        "profiles/3072ccdb2686847a",
    ),
    (layout.perturbed_prefix(["a", "b"], "s3://b/images/", "crop", {"crop": 0.9}), "perturbed/1c076d24aa73f485"),
    (
        layout.processed_prefix("images-ab", 2, "partitions/cd", "e", (1, "mirroring", 80)),
        "processed/6472b1fbd27e4c3d",
    ),
    (layout.processed_block_key("processed/ab", 40), "processed/ab/000040.npz"),
    (layout.done_key("perturbed/ab"), "perturbed/ab.done"),
    (layout.selfcheck_prefix("r", "s"), "selfcheck/a2561131fd1410fc"),
    (
        layout.kinds_key(train="t", held_out="images-ab", copies={"layer": None}, method=1),
        "selfcheck/kinds-bcc1fcd836eb6d7f.json",
    ),
    (layout.token_space_key("e", "t", None), "token_spaces/c901aae7c3020d12.npz"),
    (layout.token_space_key("e", "t", 4), "token_spaces/010e3e3c4f67160a.npz"),
    (layout.copy_reference_key("images-ab"), "copy_references/images-ab.json"),
    (
        layout.copies_prefix("images-ab", "images-cd", left_out=None, method=1),
        "copies/b05348da9a909442",
    ),
    (
        layout.copies_prefix("images-ab", "images-cd", left_out="other images", method=1),
        "copies/453a67c7020f4417",
    ),
    (layout.groups_key("images-ab", "images-cd", "images-ef", method=2), "copies/01993837db99935a/groups.parquet"),
    (layout.block_key("copies/ab", 0, 512), "copies/ab/000000000-000000512.parquet"),
    (layout.results_folder("scores"), "results/scores/"),
    (layout.result_key("scores", "ab"), "results/scores/ab.parquet"),
    (layout.report_key("ab"), "reports/ab.html"),
    (layout.curves_key(["ab", "cd"]), "pictures/curves-3fd008c8a5b0914f.png"),
    (layout.pairs_key("glow-80", "ab"), "pictures/pairs-glow-80-ab.png"),
    (layout.claim_folder("work"), "claims/work/"),
    (layout.claim_key("work", 3), "claims/work/00000003.json"),
    (layout.failure_key("ab"), "failures/ab.json"),
    (layout.announced_key("ab"), "announced/ab"),
    (layout.job_folder("ab"), "jobs/ab"),
    (layout.broken_key("checks/ab.json", D), "broken/0123456789abcdef/checks/ab.json"),
]


@pytest.mark.parametrize(("name", "written_before"), NAMES)
def test_a_name_is_what_it_was(name: object, written_before: object) -> None:
    assert name == written_before


def test_the_folders_are_what_they_were() -> None:
    folders = {name: value for name, value in vars(layout).items() if name.isupper()}
    assert folders.pop("OWNER_KEY") == "layerprint.json"
    assert set(folders.values()) == {
        *("encoders/", "sets/", "vectors/", "tables/", "receipts/", "results/", "pictures/"),
        *("claims/", "failures/", "jobs/", "announced/", "doctor/", "broken/"),
        "copy_references/",
    }


def test_no_name_is_left_out() -> None:
    functions = [
        name for name, value in inspect.getmembers(layout, inspect.isfunction) if value.__module__ == layout.__name__
    ]
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in functions if f"layout.{name}(" not in tested] == ["is_store", "keys_under"]
