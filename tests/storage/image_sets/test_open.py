from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import InputError, StoreError
from storage.image_sets.fingerprint import fingerprint
from storage.image_sets.image_ref import ImageRef
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images, open_reader
from storage.objects.open import ObjectChangedError, ObjectMissingError, ObjectStore, open_store

IMAGES = {"b.PNG": b"1", "a/c.jpg": b"22", "a/ü d.jpeg": b"333", "e.webp": b"", "z/z/f.BmP": b"55555"}
OTHERS = ("notes.txt", "a/labels.csv", ".hidden.png", "a/._b.png", "png")


def _npz(**arrays: NDArray[np.generic]) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=True, **arrays)
    return sink.getvalue()


def _images(n: int = 5, shape: tuple[int, ...] = (4, 3)) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def _fill(store: ObjectStore) -> None:
    for key, data in IMAGES.items():
        store.put(key, data)
    for key in OTHERS:
        store.put(key, b"not an image")


class TestObjects:
    def test_the_manifest_holds_the_images_sorted(self, store: ObjectStore) -> None:
        _fill(store)
        manifest = list_images(store.uri)
        assert manifest.kind == "objects"
        assert manifest.table["key"].to_pylist() == sorted(IMAGES)
        assert manifest.table["size"].to_pylist() == [len(IMAGES[key]) for key in sorted(IMAGES)]
        assert len(manifest) == len(IMAGES)
        reader = open_reader(manifest.uri, manifest.kind)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(reader.read, manifest.images())) == [IMAGES[key] for key in sorted(IMAGES)]
        store.delete("b.PNG")
        with pytest.raises(ObjectMissingError, match=r"b\.PNG"):
            reader.read(manifest.find("b.PNG"))

    def test_what_is_left_out_is_counted(self, store: ObjectStore) -> None:
        _fill(store)
        for key in ("scan.TIF", "a/scan.tif", "photo.heic"):
            store.put(key, b"x")
        found = list_images(store.uri)
        assert found.left_out == {".tif": 2, ".heic": 1, ".txt": 1, ".csv": 1, "unnamed": 1, "hidden": 2}
        assert Manifest.from_bytes(found.to_bytes()).left_out == {}

    def test_bytes_and_back(self, store: ObjectStore) -> None:
        _fill(store)
        manifest = list_images(store.uri)
        again = Manifest.from_bytes(manifest.to_bytes())
        assert again == manifest
        assert again.digest == manifest.digest

    def test_the_digest_follows_the_content_not_the_place(self, store: ObjectStore) -> None:
        for place in ("one", "two"):
            _fill(open_store(store.child_uri(place)))
        one, two = (list_images(store.child_uri(place)) for place in ("one", "two"))
        assert one.uri != two.uri
        assert one.digest == two.digest
        store.put("two/b.PNG", b"X")
        assert list_images(store.child_uri("two")).digest != one.digest
        store.put("two/b.PNG", IMAGES["b.PNG"])
        store.put("two/new.png", b"")
        assert list_images(store.child_uri("two")).digest != one.digest

    def test_an_empty_set_says_what_is_there(self, store: ObjectStore) -> None:
        for key in ("a.txt", "b.TXT", "c/d.json", "readme"):
            store.put(key, b"x")
        with pytest.raises(InputError, match=r"2 \.txt files") as caught:
            list_images(store.uri)
        assert "1 .json file," in str(caught.value)
        assert "1 unnamed file" in str(caught.value)
        with pytest.raises(InputError, match="nothing at all"):
            list_images(store.child_uri("nowhere"))


def test_a_touch_does_not_change_a_local_digest(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    before = list_images(str(tmp_path))
    os.utime(tmp_path / "a.png", (1, 1))
    assert list_images(str(tmp_path)).digest == before.digest
    assert before.table["etag"].to_pylist() == [hashlib.sha256(b"a").hexdigest()]


@pytest.mark.parametrize("data", [b"", b"not parquet"])
def test_a_broken_manifest_is_named(data: bytes) -> None:
    with pytest.raises(StoreError, match="manifest cannot be read"):
        Manifest.from_bytes(data)


def test_many_objects_in_no_order(s3_prefix: str) -> None:
    store = open_store(s3_prefix)
    keys = [f"{i % 7}/{i * 7919 % 3100:05d}.png" for i in range(3_100)]  # more than three pages
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, key.encode()), keys))
    manifest = list_images(store.uri)
    assert manifest.table["key"].to_pylist() == sorted(keys)
    assert manifest.table["etag"].to_pylist() == [hashlib.md5(key.encode()).hexdigest() for key in sorted(keys)]


def test_an_object_that_was_rewritten_is_not_read_as_the_listed_one(s3_prefix: str) -> None:
    store = open_store(s3_prefix)
    store.put("a.png", b"1")
    manifest = list_images(store.uri)
    store.put("a.png", b"2")
    with pytest.raises(ObjectChangedError, match=r"a\.png: written again"):
        open_reader(manifest.uri, "objects").read(manifest.image(0))


def test_a_release_s_description_is_no_other_file(store: ObjectStore) -> None:
    store.put("release.yaml", b"name: x")
    with pytest.raises(InputError, match="nothing at all"):
        list_images(store.uri)


class TestArrays:
    @pytest.mark.parametrize("shape", [(4, 3), (4, 5, 3)])
    def test_items_are_images(self, store: ObjectStore, shape: tuple[int, ...]) -> None:
        images = _images(12, shape)
        store.put("sets/x.npz", _npz(train=images, other=_images()))
        manifest = list_images(store.child_uri("sets/x.npz") + "#train")
        assert manifest.kind == "array"
        rows = manifest.table.to_pylist()
        assert [row["key"] for row in rows] == [f"train/{i:08d}" for i in range(12)]
        assert {row["size"] for row in rows} == {images[0].nbytes}
        assert [row["etag"] for row in rows] == [hashlib.sha256(x.tobytes()).hexdigest() for x in images]
        reader = open_reader(manifest.uri, manifest.kind)
        for listed, image in zip(manifest.images(), images, strict=True):
            np.testing.assert_array_equal(np.asarray(reader.read(listed)), image)

    def test_a_fortran_array_has_the_digest_of_its_images(self, tmp_path: Path) -> None:
        images = _images()
        (tmp_path / "c.npz").write_bytes(_npz(a=images))
        (tmp_path / "f.npz").write_bytes(_npz(a=np.asfortranarray(images)))
        assert list_images(f"{tmp_path}/c.npz#a").digest == list_images(f"{tmp_path}/f.npz#a").digest

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_images_are_read_in_any_order(self, tmp_path: Path, save: Callable[..., None]) -> None:
        """40 MB, in several blocks, of which a deflated member is unpacked from the nearest point before."""
        images = np.random.default_rng(0).integers(0, 4, (2_500, 128, 128), np.uint8)
        save(tmp_path / "x.npz", a=images)
        manifest = list_images(f"{tmp_path}/x.npz#a")
        reader = open_reader(manifest.uri, "array")
        rows = [2_499, 0, 1_300, *np.random.default_rng(1).integers(0, len(images), 30).tolist()]
        with ThreadPoolExecutor(4) as pool:
            for row, image in zip(rows, pool.map(reader.read, map(manifest.image, rows)), strict=True):
                np.testing.assert_array_equal(np.asarray(image), images[row])

    def test_a_changed_byte_is_noticed(self, tmp_path: Path) -> None:
        data = bytearray(_npz(a=_images()))
        data[data.index(_images().tobytes()[:20])] ^= 1
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(InputError, match="checksum"):
            list_images(f"{tmp_path}/x.npz#a")

    @pytest.mark.parametrize("key", ["a/00000005", "b/00000000", "a", "a/-1", "a/x"])
    def test_other_keys_are_missing(self, tmp_path: Path, key: str) -> None:
        (tmp_path / "x.npz").write_bytes(_npz(a=_images(5)))
        with pytest.raises(ObjectMissingError, match="no image"):
            open_reader(f"{tmp_path}/x.npz#a", "array").read(ImageRef(key, 0, ""))

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("#nope", "no array 'nope'; there is empty, floats, good, objects, rgba"),
            ("", "no array is named; there is empty"),
            ("#floats", "float64 of shape"),
            ("#rgba", r"uint8 of shape \(2, 4, 4, 4\)"),
            ("#empty", "no image here"),
            ("#objects", "allow_pickle"),
        ],
    )
    def test_other_arrays_are_refused(self, store: ObjectStore, name: str, found: str) -> None:
        arrays: dict[str, NDArray[np.generic]] = {
            "good": _images(),
            "floats": np.zeros((2, 3, 3)),
            "rgba": _images(2, (4, 4, 4)),
            "empty": _images(0),
            "objects": np.array([{}, []], dtype=object),
        }
        store.put("x.npz", _npz(**arrays))
        with pytest.raises(InputError, match=found):
            list_images(store.child_uri("x.npz") + name)

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", _npz(a=_images())[:-30]])
    def test_a_broken_file_is_refused(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(InputError, match=r"x\.npz: not a \.npz file"):
            list_images(f"{tmp_path}/x.npz#a")

    def test_a_huge_array_is_refused_before_it_is_unpacked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "x.npz").write_bytes(_npz(a=_images()))
        monkeypatch.setattr("storage.image_sets.npz.MAX_ARRAY_BYTES", 100)
        with pytest.raises(InputError, match="unpacks to"):
            list_images(f"{tmp_path}/x.npz#a")

    def test_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "x.npz").write_bytes(_npz(a=_images()))
        monkeypatch.chdir(tmp_path)
        assert list_images("x.npz#a").digest == list_images(f"{tmp_path}/x.npz#a").digest

    def test_a_missing_file_is_named(self, store: ObjectStore) -> None:
        with pytest.raises(ObjectMissingError, match=r"gone\.npz"):
            list_images(store.child_uri("gone.npz") + "#a")


class TestFingerprint:
    def test_it_follows_every_kind_of_set(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path))
        store.put("set/a.png", b"1")
        store.put("sets.npz", b"1")
        uris = [f"{tmp_path}/set/", f"{tmp_path}/sets.npz#a", f"{tmp_path}/nowhere"]
        before = [fingerprint(uri) for uri in uris]
        assert len(set(before)) == 3
        store.put("set/b.png", b"1")
        store.put("sets.npz", b"22")
        after = [fingerprint(uri) for uri in uris]
        assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]

    def test_it_sees_what_is_no_image(self, store: ObjectStore) -> None:
        store.put("set/a.png", b"1")
        listed = list_images(f"{store.uri}/set/")
        assert listed.fingerprint == fingerprint(f"{store.uri}/set/")
        store.put("set/release.yaml", b"name: x")
        assert listed.fingerprint != fingerprint(f"{store.uri}/set/")
        assert listed == list_images(f"{store.uri}/set/")

    def test_a_listed_array_has_it(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "sets.npz", a=np.zeros((2, 4, 4), np.uint8))
        uri = f"{tmp_path}/sets.npz#a"
        assert list_images(uri).fingerprint == fingerprint(uri)
