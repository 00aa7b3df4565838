from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest

from storage.image_sets.image_ref import ImageRef, Kind
from storage.image_sets.manifest import Manifest, Shard, manifest_table
from storage.objects.open import ObjectMissingError

KINDS: tuple[Kind, ...] = ("objects", "tar", "parquet", "array")


def images(n: int) -> list[ImageRef]:
    """Images with keys of all kinds of characters, sorted."""
    rng = random.Random(0)
    keys = {"".join(rng.choices("aZ é猫😀/.#", k=rng.randint(1, 6))) for _ in range(4 * n)}
    return [ImageRef(key, i, f"tag-{i}", i * 512) for i, key in enumerate(sorted(keys)[:n])]


def manifest(kind: Kind, found: list[ImageRef]) -> Manifest:
    return Manifest("s3://bucket/set", kind, manifest_table(kind, found).sort_by("key"))


@pytest.mark.parametrize("kind", KINDS)
def test_images_come_back_by_row_and_by_key(kind: Kind) -> None:
    found = images(300)
    expected = found if kind == "tar" else [image._replace(offset=0) for image in found]
    for listed in (manifest(kind, found[::-1]), Manifest.from_bytes(manifest(kind, found).to_bytes())):
        assert (listed.uri, listed.kind, len(listed)) == ("s3://bucket/set", kind, 300)
        assert listed.images() == expected
        assert listed.images(5, 17) == expected[5:17]
        assert listed.image(299) == expected[299]
        assert [listed.find(image.key) for image in expected] == expected
        for key in ("", "nope", expected[0].key + "\0", "😀" * 9):
            with pytest.raises(ObjectMissingError, match="no image"):
                listed.find(key)


def test_only_tar_shards_need_a_column_for_the_place() -> None:
    assert {kind: manifest(kind, images(3)).table.column_names for kind in KINDS} == {
        kind: ["key", "size", "etag", *(["offset"] if kind == "tar" else [])] for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_follows_all_that_a_reader_uses(kind: Kind) -> None:
    found = images(5)
    changed = [ImageRef("x", 0, "tag-0"), found[0]._replace(size=9), found[0]._replace(etag="x")]
    changed += [found[0]._replace(offset=9)] if kind == "tar" else []
    digests = {manifest(kind, [image, *found[1:]]).digest for image in (found[0], *changed)}
    assert len(digests) == 1 + len(changed)
    assert len({manifest(other, found).digest for other in KINDS}) == len(KINDS)


def test_a_table_of_a_generator_is_made_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.image_sets.manifest._CHUNK_ROWS", 7)
    alive: list[int] = []

    def made() -> Iterator[ImageRef]:
        for i in range(100):
            alive.append(pa.total_allocated_bytes())
            yield ImageRef(f"{i:03d}", i, "")

    table = manifest_table("objects", made())
    assert table["size"].to_pylist() == list(range(100))
    assert [len(chunk) for chunk in table["key"].chunks] == [7] * 14 + [2]
    assert alive[-1] > alive[0]  # what came before was Arrow's by then


def test_shards_cover_the_rows_once() -> None:
    listed = manifest("objects", images(7))
    assert listed.shards(3) == [Shard(0, 0, 3), Shard(1, 3, 6), Shard(2, 6, 7)]
    assert listed.shards(7) == listed.shards(100) == [Shard(0, 0, 7)]
    with pytest.raises(ValueError, match="not 0"):
        listed.shards(0)
