from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage.errors import InputError
from storage.image_sets import parquet as parquet_sets
from storage.image_sets.image_ref import ImageRef
from storage.image_sets.open import list_images, open_reader
from storage.objects.local import LocalStore
from storage.objects.open import ObjectChangedError, ObjectMissingError, ObjectStore, S3Store
from tests.storage.packing import Images, hugging_face, parquet, plain


def images(n: int, size: int = 100, seed: int = 0) -> Images:
    """Bytes that stand for image files; only the reader's way with them matters here."""
    rng = np.random.default_rng(seed)
    return [rng.bytes(size + i) for i in range(n)]


def read_all(uri: str) -> dict[str, bytes]:
    manifest = list_images(uri)
    reader = open_reader(manifest.uri, manifest.kind)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reader.read, manifest.images()))
    assert all(isinstance(data, bytes) for data in found)
    return dict(zip(manifest.table["key"].to_pylist(), found, strict=True))


def keys(name: str, found: Images) -> dict[str, bytes]:
    return {f"{name}/{i:08d}": data for i, data in enumerate(found)}


class TestSets:
    @pytest.mark.parametrize("layout", [plain, hugging_face])
    def test_one_file(self, store: ObjectStore, layout: Callable[[Images], pa.Table]) -> None:
        store.put("sets/x.parquet", parquet(layout(images(40))))
        store.put("sets/y.parquet", parquet(layout(images(3))))
        uri = store.child_uri("sets/x.parquet") + "#image"
        assert list_images(uri).kind == "parquet"
        assert read_all(uri) == keys("x.parquet", images(40))

    def test_a_folder(self, store: ObjectStore) -> None:
        expected: dict[str, bytes] = {}
        for i, name in enumerate(("b.parquet", "a/c.parquet", "a/d.PARQUET", "empty.parquet")):
            found = [] if name.startswith("empty") else images(10 + i, seed=i)
            store.put(f"set/{name}", parquet(hugging_face(found)))
            expected |= keys(name, found)
        for key in ("set/readme.md", "set/.hidden.parquet"):
            store.put(key, b"no parquet")
        uri = store.child_uri("set") + "#image"
        assert list_images(uri).table["key"].to_pylist() == sorted(expected)
        assert read_all(uri) == expected
        assert read_all(store.child_uri("set") + "/#image") == expected

    def test_a_folder_that_is_called_as_a_file(self, store: ObjectStore) -> None:
        store.put("x.parquet/part-0.parquet", parquet(plain(images(9))))
        assert read_all(store.child_uri("x.parquet") + "#image") == keys("part-0.parquet", images(9))

    def test_a_folder_with_a_hash_mark_in_its_name_stays_one(self, store: ObjectStore) -> None:
        store.put("images#1/a.png", b"1")
        store.put("images/a.parquet", parquet(plain(images(3))))
        assert list_images(store.child_uri("images#1")).kind == "objects"
        assert len(list_images(store.child_uri("images") + "#image")) == 3

    @pytest.mark.parametrize("options", [{"compression": "zstd"}, {"use_dictionary": False}, {"version": "1.0"}])
    def test_other_encodings_and_types(self, tmp_path: Path, options: dict[str, Any]) -> None:
        found = [*images(5), *images(5)]  # a dictionary, where there is one, is used
        table = pa.table({"a.b": pa.array(found, pa.large_binary())})
        (tmp_path / "x.parquet").write_bytes(parquet(table, **options))
        assert read_all(f"{tmp_path}/x.parquet#a.b") == keys("x.parquet", found)

    def test_a_row_without_bytes_has_none(self, tmp_path: Path) -> None:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = pa.array([{"bytes": b"1", "path": None}, {"bytes": None, "path": "a.png"}, None], kind)
        (tmp_path / "x.parquet").write_bytes(parquet(pa.table({"image": rows}), use_dictionary=False))
        assert list(read_all(f"{tmp_path}/x.parquet#image").values()) == [b"1", b"", b""]


class TestTags:
    def test_local_rows_are_named_by_their_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "x.parquet").write_bytes(parquet(hugging_face(images(20))))
        table = list_images(f"{tmp_path}/x.parquet#image").table
        assert table["etag"].to_pylist() == [hashlib.sha256(data).hexdigest() for data in images(20)]
        assert table["size"].to_pylist() == [len(data) for data in images(20)]

    def test_on_s3_by_their_file_and_column(self, s3_prefix: str) -> None:
        store = S3Store(*s3_prefix.removeprefix("s3://").split("/"))
        store.put("x.parquet", parquet(plain(images(20, 10_000)), compression="none", use_dictionary=False))
        (info,) = store.list()
        table = list_images(f"{store.uri}/x.parquet#image").table
        assert set(table["etag"].to_pylist()) == {f"{info.etag}#image"}
        assert sum(table["size"].to_pylist()) == pytest.approx(sum(map(len, images(20, 10_000))), rel=0.01)

    def test_a_rewritten_file_is_noticed_on_s3(self, s3_prefix: str) -> None:
        store = S3Store(*s3_prefix.removeprefix("s3://").split("/"))
        store.put("x.parquet", parquet(plain(images(20))))
        manifest = list_images(f"{store.uri}/x.parquet#image")
        reading = open_reader(manifest.uri, "parquet")
        assert reading.read(manifest.image(0)) == images(20)[0]
        store.put("x.parquet", parquet(plain(images(20, seed=1))))
        for reader, row in ((reading, 19), (open_reader(manifest.uri, "parquet"), 0)):
            with pytest.raises(ObjectChangedError, match="written again"):
                reader.read(manifest.image(row))

    def test_a_file_that_became_shorter_is_noticed(self, tmp_path: Path) -> None:
        (tmp_path / "x.parquet").write_bytes(parquet(plain(images(20))))
        manifest = list_images(f"{tmp_path}/x.parquet#image")
        (tmp_path / "x.parquet").write_bytes(parquet(plain(images(10))))
        with pytest.raises(ObjectChangedError, match="written again"):
            open_reader(manifest.uri, "parquet").read(manifest.image(10))
        (tmp_path / "x.parquet").unlink()
        with pytest.raises(ObjectMissingError):
            open_reader(manifest.uri, "parquet").read(manifest.image(0))


class TestReading:
    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The lengths of the ranges that were got."""
        lengths: list[int] = []
        get_range = LocalStore.get_range

        def counted(self: LocalStore, key: str, start: int, length: int, etag: str | None = None) -> bytes:
            lengths.append(length)
            return get_range(self, key, start, length, etag)

        monkeypatch.setattr(LocalStore, "get_range", counted)
        return lengths

    def test_each_row_group_is_read_once_and_no_other_column(self, tmp_path: Path, read: list[int]) -> None:
        other = np.random.default_rng(0).bytes(1_000_000)
        table = plain(images(60, 5_000)).append_column("other", pa.array([other] * 60))
        (tmp_path / "x.parquet").write_bytes(parquet(table, 10))
        manifest = list_images(f"{tmp_path}/x.parquet#image")
        reader = open_reader(manifest.uri, "parquet")
        read.clear()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(reader.read, manifest.images())) == images(60, 5_000)
        assert len([length for length in read if 40_000 < length < 60_000]) == 6
        assert sum(read) < 1.2 * 60 * 5_030 + 8 * 65_536  # each thread may read the footer

    def test_a_group_is_read_again_when_it_was_forgotten(
        self, tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parquet_sets, "MAX_GROUP_BYTES", 70_000)
        (tmp_path / "x.parquet").write_bytes(parquet(plain(images(60, 5_000)), 10))
        manifest = list_images(f"{tmp_path}/x.parquet#image")
        reader = open_reader(manifest.uri, "parquet")
        read.clear()
        for row in (0, 9, 10, 19, 0):
            assert reader.read(manifest.image(row)) == images(60, 5_000)[row]
        assert len([length for length in read if 40_000 < length < 60_000]) == 3

    @pytest.mark.parametrize("key", ["x.parquet", "00000001", "x.parquet/1x", "/00000001"])
    def test_other_keys_are_missing(self, tmp_path: Path, key: str) -> None:
        (tmp_path / "x.parquet").write_bytes(parquet(plain(images(3))))
        with pytest.raises(ObjectMissingError, match="not a row"):
            open_reader(f"{tmp_path}/x.parquet#image", "parquet").read(ImageRef(key, 0, ""))

    def test_a_key_stays_under_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "x.parquet").write_bytes(parquet(plain(images(3))))
        with pytest.raises(InputError, match="not the key"):
            open_reader(f"{tmp_path}/set#image", "parquet").read(ImageRef("../x.parquet/00000000", 0, ""))


def lying(data: bytes, true: int, false: int) -> bytes:
    """A file whose footer says another number of rows, in as many bytes (zigzag varints of 16384 to 1048575)."""

    def varint(value: int) -> bytes:
        value <<= 1
        return bytes([value & 127 | 128, value >> 7 & 127 | 128, value >> 14])

    assert varint(true) in data
    return data.replace(varint(true), varint(false))


class TestUntrusted:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("", "no column is named; there is 'image', 'other'"),
            ("#", "no column is named"),
            ("#nope", "no column 'nope' with image bytes; there is 'image', 'other'"),
            ("#label", "no column 'label' with image bytes"),
            ("#struct", "no column 'struct' with image bytes"),
            ("#list", "no column 'list' with image bytes"),
        ],
    )
    def test_other_columns_are_refused(self, store: ObjectStore, name: str, found: str) -> None:
        table = hugging_face(images(3)).append_column("other", pa.array(images(3)))
        table = table.append_column("struct", pa.array([{"bytes": "text"}] * 3))
        table = table.append_column("list", pa.array([images(2)] * 3))
        store.put("x.parquet", parquet(table))
        with pytest.raises(InputError, match=found):
            list_images(store.child_uri("x.parquet") + name)

    def test_nothing_there(self, store: ObjectStore) -> None:
        store.put("a/x.parquet", parquet(plain(images(3))))
        for uri in (f"{store.child_uri('b')}#image", f"{store.child_uri('gone.parquet')}#image"):
            with pytest.raises(InputError, match=r"no \.parquet file here"):
                list_images(uri)
        with pytest.raises(InputError, match=r"1 \.parquet file") as caught:
            list_images(store.child_uri("a"))
        assert "folder#column" in caught.value.remedy
        store.put("c/empty.parquet", parquet(plain([])))
        with pytest.raises(InputError, match="no image here"):
            list_images(f"{store.child_uri('c')}#image")

    @pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", parquet(plain(images(9)))[:-20]])
    def test_a_broken_file_is_refused(self, store: ObjectStore, data: bytes) -> None:
        store.put("x.parquet", data)
        with pytest.raises(InputError, match=r"x\.parquet: not a Parquet file"):
            list_images(store.child_uri("x.parquet") + "#image")

    def test_a_broken_row_group_is_refused(self, tmp_path: Path) -> None:
        data = parquet(plain(images(40)), compression="zstd", use_dictionary=False)
        (tmp_path / "x.parquet").write_bytes(data[:50] + bytes(3000) + data[3050:])
        with pytest.raises(InputError, match=r"x\.parquet: not a Parquet file"):
            list_images(f"{tmp_path}/x.parquet#image")

    def test_a_row_group_that_unpacks_to_much_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquet_sets, "MAX_GROUP_BYTES", 2**20)
        for options in ({"use_dictionary": True}, {"use_dictionary": False, "compression": "zstd"}):
            found = [bytes(100_000)] * 500  # the footer of the one with a dictionary counts a single image
            (tmp_path / "x.parquet").write_bytes(parquet(plain(found), 500, **options))
            with pytest.raises(InputError, match=r"a row group of .* MiB of images") as caught:
                list_images(f"{tmp_path}/x.parquet#image")
            assert "row_group_size" in caught.value.remedy

    def test_more_rows_than_there_can_be_are_refused(self, s3_prefix: str) -> None:
        store = S3Store(*s3_prefix.removeprefix("s3://").split("/"))
        data = parquet(plain([b"\x89PNG"] * 20_000), 20_000)
        store.put("x.parquet", lying(data, 20_000, 1_048_575))
        with pytest.raises(InputError, match=r"1,048,575 rows in [0-9,]+ bytes"):
            list_images(f"{store.uri}/x.parquet#image")
