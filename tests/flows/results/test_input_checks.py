"""Checks before any work."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.results.input_checks import FileFacts, check_held_out, check_rejects, check_same_files, parity_checks, sniff
from flows.results.store_owner import claim_store
from flows.spec.spec import AuditSpec
from storage.errors import InputError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
from storage.objects.open import open_store
from storage.vectors.tables import EmbeddingTable


def image_folder(folder: Path, count: int, seed: int, **save: object) -> Manifest:
    """Random 8×8 images as png, or as jpeg when `quality` is given."""
    folder.mkdir()
    for i, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG" if save else "PNG", **save)
        (folder / f"{i}.{'jpg' if save else 'png'}").write_bytes(buffer.getvalue())
    return list_images(str(folder))


def spec_of(store: Path, train: Manifest, held_out: Manifest, name: str = "digits") -> AuditSpec:
    return AuditSpec.model_validate(
        {
            "store": str(store),
            "encoder": {"model": "test_vit"},
            "reference": {"name": name, "train": train.uri, "held_out": held_out.uri},
            "releases": [{"name": "a", "images": "x"}],
        }
    )


def test_a_store_belongs_to_one_reference(tmp_path: Path) -> None:
    train, held_out = image_folder(tmp_path / "t", 6, 0), image_folder(tmp_path / "p", 6, 1)
    other = image_folder(tmp_path / "o", 6, 2)
    store = open_store(str(tmp_path / "store"))
    claim_store(store, spec_of(tmp_path / "store", train, held_out), train, held_out)
    claim_store(store, spec_of(tmp_path / "store", train, held_out), train, held_out)
    with pytest.raises(InputError, match="belongs to the reference digits"):
        claim_store(store, spec_of(tmp_path / "store", train, other), train, other)
    with pytest.raises(InputError, match="this spec's is letters"):
        claim_store(store, spec_of(tmp_path / "store", train, held_out, "letters"), train, held_out)


def test_a_reference_may_move_or_grow_but_not_both(tmp_path: Path) -> None:
    train, held_out = image_folder(tmp_path / "t", 6, 0), image_folder(tmp_path / "p", 6, 1)
    store = open_store(str(tmp_path / "store"))
    claim_store(store, spec_of(tmp_path / "store", train, held_out), train, held_out)
    moved = image_folder(tmp_path / "moved", 6, 0)
    claim_store(store, spec_of(tmp_path / "store", moved, held_out), moved, held_out)
    (tmp_path / "t" / "new.png").write_bytes((tmp_path / "p" / "0.png").read_bytes())
    grown = list_images(train.uri)
    claim_store(store, spec_of(tmp_path / "store", grown, held_out), grown, held_out)


def test_a_foreign_marker_is_refused(tmp_path: Path) -> None:
    train, held_out = image_folder(tmp_path / "t", 6, 0), image_folder(tmp_path / "p", 6, 1)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "layerprint.json").write_text("[]")
    with pytest.raises(InputError, match="not ours"):
        claim_store(open_store(str(tmp_path / "store")), spec_of(tmp_path / "store", train, held_out), train, held_out)


def test_the_train_set_under_another_name_is_no_held_out_set(tmp_path: Path) -> None:
    train, copied = image_folder(tmp_path / "t", 10, 0), image_folder(tmp_path / "copy", 10, 0)
    with pytest.raises(InputError, match="10 of 10 images"):
        check_held_out(train, copied)
    check_held_out(train, image_folder(tmp_path / "p", 10, 1))


def test_sniffing_reads_the_codec(tmp_path: Path) -> None:
    assert sniff(image_folder(tmp_path / "png", 20, 0)).codecs == Counter({"PNG": 16})
    jpeg = sniff(image_folder(tmp_path / "jpg", 20, 0, quality=75, subsampling="4:2:0"))
    assert jpeg.codecs == Counter({"JPEG q75 4:2:0": 16})
    assert jpeg.sizes == Counter({"8×8": 16})


@pytest.mark.parametrize(
    ("codecs", "sizes", "message"),
    [
        ({"PNG": 100}, {"32×32": 100}, None),
        ({"JPEG q75 4:2:0": 100}, {"32×32": 100}, "glow@1: codec: codec differs in 100 % of files"),
        ({"PNG": 90, "JPEG q95 4:4:4": 10}, {"32×32": 100}, "JPEG q95"),
        ({"PNG": 98, "JPEG q95 4:4:4": 2}, {"32×32": 100}, None),
        ({"PNG": 100}, {"64×64": 100}, "64×64"),
    ],
)
def test_sets_must_be_stored_alike(codecs: dict[str, int], sizes: dict[str, int], message: str | None) -> None:
    reference = FileFacts(Counter(PNG=500), Counter({"32×32": 500}))
    other = FileFacts(Counter(codecs), Counter(sizes))
    if message is None:
        check_same_files(reference, other, "glow@1")
        return
    with pytest.raises(InputError, match=message):
        check_same_files(reference, other, "glow@1")


def test_images_of_many_sizes_are_not_compared_by_size() -> None:
    reference = FileFacts(Counter(PNG=3), Counter({"32×32": 1, "40×30": 1, "64×64": 1}))
    check_same_files(reference, FileFacts(Counter(PNG=3), Counter({"256×256": 3})), "glow@1")


def test_a_glance_refuses_what_has_nothing_in_common() -> None:
    png = FileFacts(Counter(PNG=16), Counter({"8×8": 16}))
    with pytest.raises(InputError, match="glow@1: codec"):
        check_same_files(png, FileFacts(Counter({"JPEG q75 4:2:0": 16}), Counter({"8×8": 16})), "glow@1")
    check_same_files(png, FileFacts(Counter({"PNG": 15, "JPEG q75 4:2:0": 1}), Counter({"8×8": 16})), "glow@1")


def test_a_failed_parity_has_a_remedy() -> None:
    png = FileFacts(Counter(PNG=100), Counter({"8×8": 100}))
    codec, size = parity_checks(png, FileFacts(Counter({"JPEG q75 4:2:0": 100}), Counter({"9×9": 100})), "release")
    assert (codec.name, codec.passed, size.name, size.passed) == (
        "release: codec",
        False,
        "release: native size",
        False,
    )
    assert "--harmonise jpeg:75" in codec.remedy
    assert "resize" in size.remedy


def test_harmonised_sets_are_alike(tmp_path: Path) -> None:
    png = image_folder(tmp_path / "png", 20, 0)
    jpeg = image_folder(tmp_path / "jpg", 20, 0, quality=95)
    check_same_files(sniff(png, 75), sniff(jpeg, 75), "glow@1")
    assert set(sniff(png, 75).codecs) == {"JPEG q75 4:2:0 (harmonised)"}


def test_too_many_unreadable_images_fail_the_audit() -> None:
    rejects = [{"key": f"{i}.png", "reason": "not an image"} for i in range(6)]
    table = EmbeddingTable("images-x", 2, 94, rejects, {}, {})
    check_rejects(table, "glow@1", 0.06)
    with pytest.raises(InputError, match=r"6 of 100 .* first is 0.png: not an image"):
        check_rejects(table, "glow@1", 0.05)
