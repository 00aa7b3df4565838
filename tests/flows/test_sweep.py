"""Sweeps on real services: each release once, whoever else sweeps; what fails does not stop the others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from flows.orchestration.events import announced
from flows.registry.failures import work_name
from flows.registry.registry import Entry, registry_of, registry_of_store
from flows.results.identity import reference_key
from flows.runtime.runtime import running
from flows.spec.live_spec import load_live_spec
from flows.spec.spec import load_spec
from flows.sweep import SweepReport, sweep
from storage.claims import Claims
from storage.digest import short
from storage.objects.local import LocalStore
from storage.objects.open import ObjectInfo, ObjectStore, open_store
from storage.results.tables import read_result
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN, Write
from tests.flows.dropping import drop

pytestmark = [
    pytest.mark.timeout(600),  # processes of their own start slowly on a busy machine
    pytest.mark.usefixtures("services"),
]

SHARED = "s3://test/sweeps/audits"
"""A store that these tests share, so that its reference is built once; each has releases of its own names."""


@pytest.fixture
def bucket(s3_prefix: str) -> ObjectStore:
    """Where releases are dropped."""
    return open_store(f"{s3_prefix}/releases")


@pytest.fixture
def dropped(write_spec: Write, bucket: ObjectStore) -> str:
    """The path of a spec whose releases are those of the bucket; its store, with the reference, is shared."""
    return str(write_spec(store=SHARED, releases={"from": f"{bucket.uri}/*"}))


class Sweep(NamedTuple):
    """A sweep by a command of its own."""

    report: SweepReport
    forward_images: int


def sweep_once(spec: str, settle: float = 0.0) -> Sweep:
    with running() as runtime:
        return Sweep(sweep(runtime, spec, settle), runtime.forward_images)


def entries(spec: str) -> list[Entry]:
    """The registry as a command of its own sees it."""
    with running() as runtime:
        return registry_of(runtime, load_live_spec(spec))


def states(spec: str) -> dict[str, tuple[str, bool]]:
    return {entry.label: entry.state[::2] for entry in entries(spec)}


def test_from_an_empty_bucket_to_nothing_to_do(bucket: ObjectStore, write_spec: Write) -> None:
    dropped = str(write_spec(releases={"from": f"{bucket.uri}/*"}))
    assert sweep_once(dropped).report.sentence == "nothing to do"
    assert states(dropped) == {}
    drop(bucket, "copies", "copies")
    drop(bucket, "unseen", "unseen", version=2)
    assert states(dropped) == {"copies@1": ("never audited", True), "unseen@2": ("never audited", True)}

    first, forward_images = sweep_once(dropped)
    assert {one.label: one.verdict for one in first.audited} == {"copies@1": "copying", "unseen@2": "no copying seen"}
    assert first.sentence == "audited 2 (1 flagged)"
    assert not first.passed
    assert forward_images == TRAIN + HELD_OUT + COPIES + UNSEEN
    assert states(dropped) == {"copies@1": ("flagged", False), "unseen@2": ("current", False)}

    second, forward_images = sweep_once(dropped)
    assert (second.audited, second.sentence) == ([], "nothing to do, 2 current")
    assert second.current == {"copies@1": "copying", "unseen@2": "no copying seen"}
    assert forward_images == 0
    store = open_store(load_spec(dropped).store)
    assert announced(store) == {one.audit_id for one in first.audited}
    assert {entry.label: entry.state.name for entry in registry_of_store(store)} == {
        "copies@1": "flagged",
        "unseen@2": "current",
    }


def test_a_changed_release_is_audited_again(bucket: ObjectStore, dropped: str) -> None:
    drop(bucket, "changing", "unseen")
    (before,) = sweep_once(dropped).report.audited
    bucket.delete("changing/00000.png")
    (entry,) = entries(dropped)
    assert entry.state[::2] == ("stale", True)
    assert "the release's images changed" in entry.state.reason
    report, forward_images = sweep_once(dropped)
    assert (before.audit["images"], report.audited[0].audit["images"]) == (UNSEEN, UNSEEN - 1)
    assert forward_images == 0  # what has not changed is not embedded again


def test_another_encoder_makes_all_stale(write_spec: Write, lab: str) -> None:
    path = str(write_spec(store=SHARED, releases=[{"name": "encoded", "images": f"{lab}/unseen/"}]))
    sweep_once(path)
    content = yaml.safe_load(Path(path).read_text())
    content["encoder"]["layers"] = [0, 3]
    Path(path).write_text(yaml.safe_dump(content))
    (entry,) = entries(path)
    assert entry.state[::2] == ("stale", True)
    assert "the encoder changed" in entry.state.reason
    assert [one.label for one in sweep_once(path).report.audited] == ["encoded@1"]


def test_a_failure_is_recorded_and_tried_again_after_a_change(bucket: ObjectStore, dropped: str) -> None:
    drop(bucket, "fine", "unseen")
    drop(bucket, "few", "unseen")
    for i in range(UNSEEN - 3):
        bucket.delete(f"few/{i:05d}.png")
    bucket.put("broken/release.yaml", b"nam: x")
    bucket.put("empty/release.yaml", b"name: empty")
    first = sweep_once(dropped).report
    assert [one.label for one in first.audited] == ["fine@1"]
    broken = f"{bucket.uri}/broken/release.yaml"
    assert set(first.failures) == {"few@1", "empty@1", broken}
    assert "ranking needs at least" in first.failures["few@1"].found
    store = open_store(load_live_spec(dropped).spec.store)
    assert len(list(store.list("failures/"))) == 1

    second = sweep_once(dropped).report
    assert second.sentence == "audited nothing, 1 current, 3 cannot be audited"
    assert "tried again when it has changed" in second.failures["few@1"].found
    (entry,) = [entry for entry in registry_of_store(store) if entry.label == "few@1"]
    assert entry.state.name == "failed"

    drop(bucket, "few", "unseen")
    assert [one.label for one in sweep_once(dropped).report.audited] == ["few@1"]
    assert not list(store.list("failures/"))


def test_an_unfinished_upload_is_left_for_the_next_sweep(bucket: ObjectStore, dropped: str) -> None:
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
        report = sweep_once(dropped, settle=1.0).report
    finally:
        stop.set()
        uploading.join()
    assert [one.label for one in report.audited] == ["whole@1"]
    assert "uploading" in report.left["late@1"]


def test_two_sweeps_at_once_share_the_work(bucket: ObjectStore, dropped: str) -> None:
    drop(bucket, "theirs", "copies")
    drop(bucket, "mine", "unseen")
    spec = load_live_spec(dropped).spec
    store = open_store(spec.store)
    with Claims(store).hold(work_name(spec, spec.release("theirs"))) as mine:
        assert mine
        assert states(dropped)["theirs@1"] == ("auditing now", False)
        report = sweep_once(dropped).report
        assert [one.label for one in report.audited] == ["mine@1"]
        assert report.left["theirs@1"].startswith("audited now by process")
    assert [one.label for one in sweep_once(dropped).report.audited] == ["theirs@1"]
    audited = read_result(store, "audits")["release"].to_pylist()
    assert sorted(name for name in audited if name in ("mine", "theirs")) == ["mine", "theirs"]


def test_a_sweep_leaves_all_while_another_process_builds_the_reference(bucket: ObjectStore, dropped: str) -> None:
    drop(bucket, "waiting", "unseen")
    spec = load_live_spec(dropped).spec
    with Claims(open_store(spec.store)).hold(short(reference_key(spec))):
        report, forward_images = sweep_once(dropped)
    assert report.left == {"waiting@1": "another process builds the reference now"}
    assert forward_images == 0


def test_each_set_is_listed_and_hashed_once(
    write_spec: Write, lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = LocalStore(tmp_path / "releases")
    for name in ("one", "two"):
        for info in open_store(lab).list("unseen/"):
            local.put(info.key.replace("unseen/", f"{name}/"), open_store(lab).get(info.key))
    hashed: Counter[str] = Counter()
    listed: Counter[str] = Counter()
    content_tag, list_objects = LocalStore.content_tag, LocalStore.list

    def count_hash(store: LocalStore, info: ObjectInfo, start: int = 0, length: int | None = None) -> str:
        hashed[store.uri] += 1
        return content_tag(store, info, start, length)

    def count_list(store: LocalStore, prefix: str = "") -> Iterator[ObjectInfo]:
        listed[store.uri] += 1
        return list_objects(store, prefix)

    monkeypatch.setattr(LocalStore, "content_tag", count_hash)
    monkeypatch.setattr(LocalStore, "list", count_list)
    monkeypatch.setattr("flows.sweep.publish", lambda *_: [])  # pictures and report are not part of the audit
    sets = {name: f"{local.uri}/{name}" for name in ("one", "two")}
    path = str(write_spec(store=SHARED, releases=[{"name": f"listed-{k}", "images": v} for k, v in sets.items()]))
    assert len(sweep_once(path).report.audited) == 2
    assert hashed == dict.fromkeys(sets.values(), UNSEEN)
    assert listed == dict.fromkeys(sets.values(), 2)  # the listing, and the fingerprint before the audit
    assert sweep_once(path).report.sentence == "nothing to do, 2 current"
    assert listed == dict.fromkeys(sets.values(), 3)
