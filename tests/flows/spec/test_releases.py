"""Releases found under a folder or prefix: what their files may say, and what strangers may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.spec.releases import MAX_FILE_BYTES, find_releases
from flows.spec.spec import load_spec
from storage.errors import InputError
from storage.image_sets.open import list_images
from storage.objects.open import ObjectStore, open_store
from tests.flows.spec.test_spec import written


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty folder or prefix for releases, with a neighbour that nobody may name."""
    uri = str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3_prefix")
    open_store(uri).put("releases-of-others/a.png", b"secret")
    return open_store(f"{uri}/releases")


def put(store: ObjectStore, folder: str, **fields: Any) -> None:
    store.put(f"{folder}/release.yaml", yaml.safe_dump(fields).encode())


def refused(pattern: str) -> InputError:
    with pytest.raises(InputError) as caught:
        find_releases(pattern)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("end", ["/*", "", "/"])
def test_each_sub_folder_with_a_file_is_a_release(store: ObjectStore, end: str) -> None:
    put(store, "glow-80", name="glow", version=80, family="flow")
    put(store, "b", name="b", images="./png/")
    put(store, "c", name="c", images="out.npz#c")
    put(store, "e", name="e", images=".kept")
    put(store, "d", name="d", images=f"{store.uri}/shared/d.tar")
    put(store, "too/deep", name="deep")
    store.put("other/a.png", b"1")
    found = find_releases(store.uri + end)
    assert [(r.label, r.family, r.images) for r in found] == [
        ("b@1", None, f"{store.uri}/b/png/"),
        ("c@1", None, f"{store.uri}/c/out.npz#c"),
        ("d@1", None, f"{store.uri}/shared/d.tar"),
        ("e@1", None, f"{store.uri}/e/.kept"),
        ("glow@80", "flow", f"{store.uri}/glow-80/"),
    ]


def test_the_file_is_not_one_of_the_images(store: ObjectStore) -> None:
    put(store, "glow", name="glow")
    (release,) = find_releases(store.uri)
    with pytest.raises(InputError, match="nothing at all"):
        list_images(release.images)
    store.put("glow/a.png", b"1")
    assert list_images(release.images).table["key"].to_pylist() == ["a.png"]


def test_a_star_matches_within_a_name(store: ObjectStore) -> None:
    for folder in ("glow/v1", "glow/v2", "glow/old", "flow/v1", "v1"):
        put(store, folder, name=folder)
    assert [r.name for r in find_releases(f"{store.uri}/*/v*")] == ["flow/v1", "glow/v1", "glow/v2"]
    assert [r.name for r in find_releases(f"{store.uri}/gl*/*")] == ["glow/old", "glow/v1", "glow/v2"]


def test_nothing_found(store: ObjectStore) -> None:
    put(store, "a/b", name="deep")
    error = refused(f"{store.uri}/*")
    assert error.found == f"releases.from: no folder {store.uri}/* holds a release.yaml"
    assert "list the releases" in error.remedy


def test_all_broken_files_are_named_with_their_fields(store: ObjectStore) -> None:
    put(store, "a", nam="glow", version=1)
    put(store, "b", name="b", family="x\x1b[31m")
    put(store, "good", name="good", groups="id_([0-9]+)")
    put(store, "groups", name="g", groups="(\x1b[2J")
    put(store, "c", **{"name": "c", "\x1b[2Jx": 1})
    for folder, text in {
        "list": "- a",
        "empty": "",
        "yaml": "a: [",
        "deep": "[" * 5000,
        "alias": "name: &a x\nfamily: *a",
        "object": "name: !!python/object/apply:os.system ['true']",
        "date": "name: 2001-99-99",
        "number": "1: 2\nname: x",
        "long": f"name: {'x' * MAX_FILE_BYTES}",
        "binary": "\x00",
    }.items():
        store.put(f"{folder}/release.yaml", text.encode())
    error = refused(store.uri)
    assert f"{store.uri}/a/release.yaml:\n  name: missing\n  nam: unknown field (found 'glow')" in error.found
    assert f"{store.uri}/b/release.yaml:\n  family: " in error.found
    assert f"{store.uri}/c/release.yaml:\n  �[2Jx: unknown field (found 1)" in error.found
    assert (
        f"{store.uri}/groups/release.yaml:\n  groups: it is not a regular expression of RE2: missing ]" in error.found
    )
    assert f"{store.uri}/list/release.yaml: it contains list" in error.found
    assert f"{store.uri}/empty/release.yaml: it contains NoneType" in error.found
    assert f"{store.uri}/alias/release.yaml: line 1: it has an anchor" in error.found
    assert f"{store.uri}/long/release.yaml: more than 64 KiB" in error.found
    for folder in ("yaml", "deep", "object", "date", "number", "binary"):
        assert f"{store.uri}/{folder}/release.yaml:" in error.found
    assert "/good/" not in error.found
    assert all(line.isprintable() for line in error.found.splitlines())


def test_two_of_one_name_and_version(store: ObjectStore) -> None:
    for folder in ("a", "b"):
        put(store, folder, name="glow", version="80")
    found = refused(store.uri).found
    assert found == f"{store.uri}/b/release.yaml: it describes glow@80, like {store.uri}/a/release.yaml"


@pytest.mark.parametrize(
    "images",
    [
        "..",
        "../b",
        "a/../../b",
        "a\\..\\..\\b",
        "/etc",
        "{root}-of-others",
        "{root}/../releases-of-others",
        "{root}",
        "s3://other/set/",
        "s3://test",
        "s3://key:secret@test/x",
        "file:///etc",
        "file://{root}/%2e%2e/releases-of-others",
        "gs://bucket/x",
        "https://example.org/x",
        "x#/../../../releases-of-others",
        "a\x1b[31m",
    ],
)
def test_images_elsewhere_are_refused(store: ObjectStore, images: str) -> None:
    put(store, "a", name="glow", images=images.format(root=store.uri))
    error = refused(store.uri)
    assert f"{store.uri}/a/release.yaml:\n  images: " in error.found
    assert "secret" not in error.found
    assert "in the spec itself" in error.remedy


def test_a_home_folder_is_no_way_out(tmp_path: Path) -> None:
    put(open_store(str(tmp_path)), "a", name="glow", images="~/pictures")
    assert find_releases(str(tmp_path))[0].images == f"{tmp_path}/a/~/pictures"


def test_a_folder_s_name_is_shown_without_control_characters(tmp_path: Path) -> None:
    put(open_store(str(tmp_path)), "a\x1b[31m", name="glow")
    assert "control characters" in refused(str(tmp_path)).found


class TestInASpec:
    def test_the_pattern_becomes_the_list(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path / "out"))
        put(store, "glow-80", name="glow", version=80)
        put(store, "glow-90", name="glow", version=90)
        spec = load_spec(written(tmp_path, lambda s: s.update(releases={"from": "out/*"})))
        assert [r.label for r in spec.releases] == ["glow@80", "glow@90"]
        assert spec.releases[0].images == f"{tmp_path}/out/glow-80/"
        assert spec.release("glow@90").version == "90"

    @pytest.mark.parametrize(
        ("releases", "message"),
        [
            ({}, "releases.from: missing"),
            ({"from": ""}, "releases.from: String should have at least 1 character"),
            ({"from": ["a"]}, "releases.from: Input should be a valid string"),
            ({"from": "a", "family": "x"}, "releases.family: unknown field (found 'x')"),
            ({"from": "nowhere/*"}, "/nowhere/* holds a release.yaml"),
            ("out/*", "releases: Input should be a valid list"),
        ],
    )
    def test_a_wrong_pattern_is_explained(self, tmp_path: Path, releases: object, message: str) -> None:
        with pytest.raises(InputError) as caught:
            load_spec(written(tmp_path, lambda s: s.update(releases=releases)))
        assert message in caught.value.found
