from __future__ import annotations

import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from storage.errors import InputError, StoreError
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.local import LocalStore
from storage.objects.open import (
    ObjectMissingError,
    ObjectStore,
    S3Store,
    arrow_filesystem,
    lance_storage_options,
    open_store,
)

MANY = 1_050  # more than one page of an S3 listing


def _keys(store: ObjectStore, prefix: str = "") -> set[str]:
    return {info.key for info in store.list(prefix)}


class TestEveryStore:
    @pytest.mark.parametrize("key", ["a", "deep/er/key.png", "a space/ö ü.png", "猫/#1?&%20.png", "a+b=c.png"])
    def test_what_is_put_is_got_listed_and_deleted(self, store: ObjectStore, key: str) -> None:
        store.put(key, b"first")
        store.put(key, b"second")
        assert store.get(key) == b"second"
        assert [(info.key, info.size) for info in store.list()] == [(key, 6)]
        assert store.exists(key)
        store.delete(key)
        store.delete(key)
        assert not store.exists(key)
        assert _keys(store) == set()

    def test_lists_more_than_a_page(self, store: ObjectStore) -> None:
        keys = {f"shard-{i % 7}/{i:05d}" for i in range(MANY)}
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: store.put(key, b"x"), keys))
        listed = [info.key for info in store.list()]
        assert len(listed) == MANY
        assert set(listed) == keys
        assert _keys(store, "shard-3/") == {key for key in keys if key.startswith("shard-3/")}

    def test_a_prefix_is_a_prefix_of_the_key(self, store: ObjectStore) -> None:
        for key in ("run/1", "run/12", "run2/1", "other"):
            store.put(key, b"")
        assert _keys(store, "run") == {"run/1", "run/12", "run2/1"}
        assert _keys(store, "run/1") == {"run/1", "run/12"}
        assert _keys(store, "nothing/") == set()

    def test_the_etag_changes_with_the_object(self, store: ObjectStore) -> None:
        store.put("a", b"one")
        before = next(iter(store.list()))
        store.put("a", b"other")
        assert next(iter(store.list())).etag != before.etag

    def test_of_eight_writers_one_wins(self, store: ObjectStore) -> None:
        barrier = threading.Barrier(8)

        def write(i: int) -> bool:
            barrier.wait()
            return store.put_if_absent("markers/done", b"%d" % i)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert won.count(True) == 1
        assert store.get("markers/done") == b"%d" % won.index(True)
        assert store.put_if_absent("markers/done", b"late") is False
        assert _keys(store) == {"markers/done"}

    def test_a_range_is_what_a_slice_of_the_object_is(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 3
        store.put("a", data)
        for start, length in ((0, 1), (5, 100), (0, 768), (700, 500), (767, 1), (768, 1), (5000, 2), (3, 0)):
            assert store.get_range("a", start, length) == data[start : start + length]
        store.put("empty", b"")
        assert store.get_range("empty", 0, 10) == b""
        with pytest.raises(ObjectMissingError, match="gone"):
            store.get_range("gone", 0, 1)

    def test_the_info_is_that_of_the_listing(self, store: ObjectStore) -> None:
        store.put("a/b", b"12345")
        store.put("a/empty", b"")
        assert {store.info(info.key) for info in store.list()} == set(store.list())
        for key in ("gone", "a", "a/b/c"):
            with pytest.raises(ObjectMissingError):
                store.info(key)

    def test_the_folders_of_a_folder(self, store: ObjectStore) -> None:
        for key in ("top", "a/x", "a/b/y", "a/c c/z", "ab/x"):
            store.put(key, b"")
        assert set(store.folders()) == {"a", "ab"}
        assert set(store.folders("a/")) == {"b", "c c"}
        assert set(store.folders("a/b/")) == set(store.folders("gone/")) == set()
        assert set(open_store(store.child_uri("a")).folders()) == {"b", "c c"}

    def test_a_content_tag_is_that_of_the_range(self, store: ObjectStore) -> None:
        store.put("a", b"0123456789")
        (info,) = store.list()
        local = isinstance(store, LocalStore)
        assert store.content_tag(info) == (hashlib.sha256(b"0123456789").hexdigest() if local else info.etag)
        assert store.content_tag(info, 2, 3) == (hashlib.sha256(b"234").hexdigest() if local else info.etag)

    def test_an_empty_object_exists(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.exists("empty")
        assert store.get("empty") == b""

    def test_a_missing_object_is_named(self, store: ObjectStore) -> None:
        store.put("folder/file", b"x")
        for key in ("nothing", "folder", "folder/file/deeper"):
            assert not store.exists(key)
            with pytest.raises(ObjectMissingError, match=store.child_uri(key)):
                store.get(key)
            store.delete(key)
        assert _keys(store) == {"folder/file"}

    @pytest.mark.parametrize(
        "key", ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\..\\x", "a\0b", "./x", "a/", "\\x"]
    )
    def test_a_key_stays_under_the_root(self, store: ObjectStore, key: str) -> None:
        for refuse in (store.get, store.exists, store.delete, store.child_uri):
            with pytest.raises(InputError, match="not the key"):
                refuse(key)
        for write in (store.put, store.put_if_absent):
            with pytest.raises(InputError, match="not the key"):
                write(key, b"x")

    def test_opens_again_by_its_uri(self, store: ObjectStore) -> None:
        store.put("a/b", b"x")
        again = open_store(store.uri + "/")
        assert (again.uri, type(again)) == (store.uri, type(store))
        assert open_store(store.child_uri("a")).get("b") == b"x"

    def test_arrow_and_lance_read_the_same_place(self, store: ObjectStore) -> None:
        store.put("a/b", b"x")
        filesystem, root = arrow_filesystem(store.uri)
        with filesystem.open_input_stream(f"{root}/a/b") as stream:
            assert stream.read() == b"x"
        options = lance_storage_options(store.uri)
        assert (options is None) == isinstance(store, LocalStore)
        uri = store.child_uri("table.lance")
        lance.write_dataset(pa.table({"x": [1, 2]}), uri, storage_options=options)
        assert lance.dataset(uri, storage_options=options).count_rows() == 2
        assert any(key.startswith("table.lance/") for key in _keys(store))


class TestLocal:
    def test_links_are_followed_but_not_in_circles(self, tmp_path: Path) -> None:
        root, outside = tmp_path / "set", tmp_path / "outside"
        (root / "sub").mkdir(parents=True)
        outside.mkdir()
        (outside / "a.png").write_bytes(b"a")
        (root / "linked.png").symlink_to(outside / "a.png")
        (root / "folder").symlink_to(outside)
        (root / "sub" / "up").symlink_to(root)
        (root / "dangling.png").symlink_to(tmp_path / "gone")
        (root / ".layerprint-1.tmp").write_bytes(b"half")
        assert _keys(LocalStore(root)) == {"linked.png", "folder/a.png"}

    def test_a_failed_write_leaves_nothing(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        store.put("a/b", b"old")
        with pytest.raises(StoreError, match="Is a directory"):
            store.put("a", b"new")
        with pytest.raises(StoreError, match=r"a/b/c: (Not a directory|File exists)"):
            store.put("a/b/c", b"new")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b"]

    def test_a_name_that_is_not_text_is_refused(self, tmp_path: Path) -> None:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
        with pytest.raises(InputError, match="not UTF-8"):
            list(LocalStore(tmp_path).list())


class TestUris:
    def test_local_forms(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        expected = str(tmp_path / "a b")
        for uri in (
            "a b",
            "./a b/",
            "~/a b",
            expected,
            f"file://{tmp_path}/a%20b",
            f"file://localhost{tmp_path}/a%20b",
        ):
            assert open_store(uri).uri == expected

    def test_s3_forms(self) -> None:
        for uri in ("s3://bucket/a/b", "s3://bucket/a/b/", "S3://bucket//a/b"):
            assert open_store(uri).uri == "s3://bucket/a/b"
        assert open_store("s3://bucket").uri == "s3://bucket"
        assert open_store("s3://bucket/").child_uri("k") == "s3://bucket/k"

    @pytest.mark.parametrize(
        "uri", ["", "gs://b/x", "https://h/x", "file://host/x", "s3://", "s3:///x", "s3://b/a/../c"]
    )
    def test_other_forms_are_refused(self, uri: str) -> None:
        with pytest.raises(InputError) as caught:
            open_store(uri)
        assert "s3://" in caught.value.remedy or ".." in caught.value.remedy

    @pytest.mark.parametrize("uri", ["s3://AKIA:hush@bucket/x", "gs://AKIA:hush@bucket/x"])
    def test_credentials_in_a_uri_are_not_repeated(self, uri: str) -> None:
        with pytest.raises(InputError) as caught:
            open_store(uri)
        assert "hush" not in str(caught.value)
        assert "AKIA" not in str(caught.value)


class TestS3Trouble:
    """Every message says what is wrong and what to do, and none holds a credential."""

    def _all_fail(self, store: ObjectStore, found: str, remedy: str) -> None:
        calls = (
            lambda: list(store.list()),
            lambda: store.get("k"),
            lambda: store.get_range("k", 0, 1),
            lambda: store.info("k"),
            lambda: list(store.folders()),
            lambda: store.exists("k"),
            lambda: store.put("k", b"x"),
            lambda: store.put_if_absent("k", b"x"),
        )
        for call in calls:
            with pytest.raises(StoreError, match=found) as caught:
                call()
            assert not isinstance(caught.value, ObjectMissingError)
            assert remedy in caught.value.remedy
            assert store.uri in caught.value.found
            secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "none of it")
            assert secret not in str(caught.value)

    def test_wrong_secret(self, s3: EmbeddedS3, s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
        self._all_fail(open_store(s3_prefix), "the secret key is wrong", "AWS_SECRET_ACCESS_KEY")

    def test_unknown_access_key(self, s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
        self._all_fail(open_store(s3_prefix), "the access key is unknown", "AWS_ACCESS_KEY_ID")

    def test_missing_bucket(self, s3: EmbeddedS3) -> None:
        self._all_fail(open_store("s3://no-such-bucket/x"), "no such bucket", "create the bucket")

    def test_impossible_bucket(self, s3: EmbeddedS3) -> None:
        self._all_fail(S3Store("Not A Bucket"), "not a valid bucket", "correct")

    def test_no_credentials(self, s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        self._all_fail(open_store(s3_prefix), "no usable AWS credentials", "AWS_PROFILE")
        with pytest.raises(StoreError, match="no AWS credentials"):
            lance_storage_options(s3_prefix)

    def test_unknown_profile(self, s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(StoreError, match="ProfileNotFound"):
            open_store(s3_prefix).get("k")

    def test_nobody_listens(self, s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as closed:  # bound and never listening: connections are refused
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hush@{address}")
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
            with pytest.raises(StoreError, match=f"http://{address} cannot be used") as caught:
                open_store(s3_prefix).get("k")
        assert "AWS_ENDPOINT_URL" in caught.value.remedy
        assert "hush" not in str(caught.value)

    def test_malformed_endpoint(self, s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
        with pytest.raises(StoreError, match="malformed"):
            open_store(s3_prefix).get("k")


def test_a_session_token_reaches_lance(s3_prefix: str, monkeypatch: pytest.MonkeyPatch, s3: EmbeddedS3) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert lance_storage_options(s3_prefix) == {
        "aws_access_key_id": s3.access_key,
        "aws_secret_access_key": s3.secret_key,
        "aws_session_token": "token",
        "aws_endpoint": s3.endpoint,
        "aws_region": "us-east-1",
        "allow_http": "true",
        "client_max_retries": "7",
    }


def test_a_lost_answer_is_still_a_win(s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt wrote, its answer was lost, the retry met its own object."""
    store = open_store(s3_prefix)
    assert isinstance(store, S3Store)
    put = store._put_new

    def twice(key: str, data: bytes, writer: str) -> None:
        put(key, data, writer)
        put(key, data, writer)

    monkeypatch.setattr(store, "_put_new", twice)
    assert store.put_if_absent("marker", b"x") is True
    monkeypatch.undo()
    assert store.put_if_absent("marker", b"x") is False
