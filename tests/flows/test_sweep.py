"""Sweeps on real services: each release once, whoever else sweeps; what fails does not stop the others."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml

from flows.inputs import reference_key
from flows.orchestration.events import announced
from flows.registry.failures import work_name
from flows.registry.registry import registry_of, registry_of_store
from flows.registry.upload import look, settled
from flows.runtime.runtime import Runtime
from flows.spec.live_spec import load_catalogue
from flows.spec.spec import load_spec
from flows.sweep import SweepReport, sweep
from storage.claims import Claims
from storage.digest import short
from storage.objects.open import ObjectStore, open_store
from storage.results.tables import read_result
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN, Write
from tests.flows.dropping import drop

pytestmark = pytest.mark.timeout(600)  # processes of their own start slowly on a busy machine

SHARED = "s3://test/sweeps/audits"
"""A store that these tests share, so that its reference is built once; each has releases of its own names."""


@pytest.fixture
def bucket(s3_prefix: str) -> ObjectStore:
    """Where releases are dropped."""
    return open_store(f"{s3_prefix}/releases")


@pytest.fixture
def dropped(write_spec: Write, bucket: ObjectStore) -> str:
    """The path of a spec whose releases are what lies in the bucket; its store, with the reference, is shared."""
    return str(write_spec(store=SHARED, releases={"from": f"{bucket.uri}/*"}))


def swept(runtime: Runtime, spec: str, settle: float = 0.0) -> SweepReport:
    """A sweep as a fresh command makes it."""
    runtime.forget()
    return sweep(spec, settle)


def states(spec: str) -> dict[str, tuple[str, bool]]:
    return {entry.label: entry.standing[::2] for entry in registry_of(load_catalogue(spec))}


def test_from_an_empty_bucket_to_nothing_to_do(runtime: Runtime, bucket: ObjectStore, write_spec: Write) -> None:
    dropped = str(write_spec(releases={"from": f"{bucket.uri}/*"}))
    assert swept(runtime, dropped).sentence == "nothing to do"
    assert states(dropped) == {}
    drop(bucket, "copies", "copies")
    drop(bucket, "unseen", "unseen", version=2)
    assert states(dropped) == {"copies@1": ("never audited", True), "unseen@2": ("never audited", True)}

    first = swept(runtime, dropped)
    assert {one.label: one.verdict for one in first.audited} == {"copies@1": "copying", "unseen@2": "no copying seen"}
    assert first.sentence == "audited 2 (1 flagged)"
    assert not first.passed
    assert runtime.forward_images == TRAIN + HELD_OUT + COPIES + UNSEEN
    assert states(dropped) == {"copies@1": ("flagged", False), "unseen@2": ("current", False)}

    second = swept(runtime, dropped)
    assert (second.audited, second.sentence) == ([], "nothing to do, 2 current")
    assert second.standing == {"copies@1": "copying", "unseen@2": "no copying seen"}
    assert runtime.forward_images == 0
    store = open_store(load_spec(dropped).store)
    assert announced(store) == {one.audit_id for one in first.audited}
    assert {entry.label: entry.standing.state for entry in registry_of_store(store)} == {
        "copies@1": "flagged",
        "unseen@2": "current",
    }


def test_a_changed_release_is_audited_again(runtime: Runtime, bucket: ObjectStore, dropped: str) -> None:
    drop(bucket, "changing", "unseen")
    (before,) = swept(runtime, dropped).audited
    bucket.delete("changing/00000.png")
    (entry,) = registry_of(load_catalogue(dropped))
    assert entry.standing[::2] == ("stale", True)
    assert "the release's images changed" in entry.standing.reason
    (after,) = swept(runtime, dropped).audited
    assert (before.audit["images"], after.audit["images"]) == (UNSEEN, UNSEEN - 1)
    assert runtime.forward_images == 0  # what has not changed is not embedded again


def test_another_encoder_makes_all_stale(runtime: Runtime, write_spec: Write, lab: str) -> None:
    path = str(write_spec(store=SHARED, releases=[{"name": "encoded", "images": f"{lab}/unseen/"}]))
    swept(runtime, path)
    content = yaml.safe_load(Path(path).read_text())
    content["encoder"]["layers"] = [0, 3]
    Path(path).write_text(yaml.safe_dump(content))
    runtime.forget()
    (entry,) = registry_of(load_catalogue(path))
    assert entry.standing[::2] == ("stale", True)
    assert "the encoder changed" in entry.standing.reason
    assert [one.label for one in swept(runtime, path).audited] == ["encoded@1"]


def test_what_fails_is_recorded_and_tried_again_when_it_changed(
    runtime: Runtime, bucket: ObjectStore, dropped: str
) -> None:
    drop(bucket, "fine", "unseen")
    drop(bucket, "few", "unseen")
    for i in range(UNSEEN - 3):
        bucket.delete(f"few/{i:05d}.png")
    bucket.put("broken/release.yaml", b"nam: x")
    bucket.put("empty/release.yaml", b"name: empty")
    first = swept(runtime, dropped)
    assert [one.label for one in first.audited] == ["fine@1"]
    broken = f"{bucket.uri}/broken/release.yaml"
    assert set(first.failures) == {"few@1", "empty@1", broken}
    assert "ranking needs at least" in first.failures["few@1"].found
    store = open_store(load_catalogue(dropped).spec.store)
    assert len(list(store.list("failures/"))) == 1

    second = swept(runtime, dropped)
    assert second.sentence == "audited nothing, 1 current, 3 cannot be audited"
    assert "tried again when it has changed" in second.failures["few@1"].found
    (entry,) = [entry for entry in registry_of_store(store) if entry.label == "few@1"]
    assert entry.standing.state == "failed"

    drop(bucket, "few", "unseen")
    assert [one.label for one in swept(runtime, dropped).audited] == ["few@1"]
    assert not list(store.list("failures/"))


def test_an_unfinished_upload_is_left_for_the_next_sweep(runtime: Runtime, bucket: ObjectStore, dropped: str) -> None:
    drop(bucket, "whole", "unseen")
    drop(bucket, "late", "copies")
    stop = threading.Event()

    def upload() -> None:
        for i in range(10_000):
            bucket.put(f"late/more-{i:05d}.png", bucket.get("late/00000.png"))
            if stop.wait(0.1):
                return

    uploading = threading.Thread(target=upload)
    uploading.start()
    try:
        report = swept(runtime, dropped, settle=1.0)
    finally:
        stop.set()
        uploading.join()
    assert [one.label for one in report.audited] == ["whole@1"]
    assert "still being uploaded" in report.left["late@1"]


def test_two_sweeps_at_once_share_the_work(runtime: Runtime, bucket: ObjectStore, dropped: str) -> None:
    drop(bucket, "theirs", "copies")
    drop(bucket, "mine", "unseen")
    spec = load_catalogue(dropped).spec
    store = open_store(spec.store)
    with Claims(store).hold(work_name(spec, spec.release("theirs"))) as mine:
        assert mine
        assert states(dropped)["theirs@1"] == ("auditing now", False)
        report = swept(runtime, dropped)
        assert [one.label for one in report.audited] == ["mine@1"]
        assert report.left["theirs@1"].startswith("audited now by process")
    assert [one.label for one in swept(runtime, dropped).audited] == ["theirs@1"]
    audited = read_result(store, "audits")["release"].to_pylist()
    assert sorted(name for name in audited if name in ("mine", "theirs")) == ["mine", "theirs"]


def test_a_reference_that_another_process_builds_is_waited_for(
    runtime: Runtime, bucket: ObjectStore, dropped: str
) -> None:
    drop(bucket, "waiting", "unseen")
    spec = load_catalogue(dropped).spec
    with Claims(open_store(spec.store)).hold(short(reference_key(spec))):
        report = swept(runtime, dropped)
    assert report.left == {"waiting@1": "another process builds the reference now"}
    assert runtime.forward_images == 0


def test_a_look_sees_every_kind_of_set(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("set/a.png", b"1")
    store.put("sets.npz", b"1")
    uris = [f"{tmp_path}/set/", f"{tmp_path}/sets.npz#a", f"{tmp_path}/nowhere"]
    before = [look(uri) for uri in uris]
    assert len(set(before)) == 3
    store.put("set/b.png", b"1")
    store.put("sets.npz", b"22")
    after = [look(uri) for uri in uris]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
    assert settled(uris, 0.0) == dict(zip(uris, after, strict=True))
    assert settled([], 1000.0) == {}
