"""Files of strangers: bounded memory and time, an error with a name, and the other releases go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flows.audit import audit
from flows.registry.failures import all_failures
from flows.registry.registry import Entry, registry_of
from flows.registry.state import ReleaseState
from flows.runtime.runtime import running
from flows.spec.live_spec import LiveSpec, load_live_spec
from flows.spec.spec import AuditSpec
from flows.sweep import sweep
from storage.errors import InputError, LayerprintError, StageError, StoreError
from storage.image_sets.fingerprint import fingerprint
from storage.objects.local import LocalStore
from tests.paths import ROOT
from tests.security.malformed import FILES, KINDS, png, write_files

HARMLESS = {
    "crafted-delta-bomb",  # within the limits; its images are none, which is a reject each
    "crafted-pixels-bomb",  # more pixels than its header states: they are not unpacked
    "crafted-exif-overlaps",
    "crafted-exif-noise",
    "crafted-exif-loop",
    "crafted-jpeg-8000",
    "crafted-jpeg-segments",
}
"""Crafted files that are read: what is odd about them is passed over, in bounded memory."""

NO_RUNTIME: Any = SimpleNamespace()
MOST_SECONDS, MOST_MB = 10, 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("kind", KINDS)
def test_malformed_files(kind: str, tmp_path: Path) -> None:
    """200 files in all, the same ones each time."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.malformed", kind, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # another pool would keep what is freed
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    files = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(files) == FILES
    for file in files:
        assert file["seconds"] < MOST_SECONDS, file
        assert file["peak"] < MOST_MB, file
    said = {file["name"]: [text for text in file["wrong"] if "store: missing" not in text] for file in files}
    crafted = {name for name in said if name.startswith("crafted-")}
    assert {name for name in crafted if not said[name]} <= HARMLESS
    assert all("cannot be read: line " in str(said[name]) for name in ("crafted-nested-anchors",) if kind == "yaml")


def spec_of(folder: Path, releases: Any) -> Path:
    content = {
        "store": str(folder / "store"),
        "encoder": {"model": "test_vit", "weights": "random", "image_size": 8},
        "reference": {"name": "r", "train": str(folder / "train"), "held_out": str(folder / "held")},
        "releases": releases,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_malformed_releases_among_good_ones(tmp_path: Path) -> None:
    """Each file that cannot be used is that release's failure; the others are due."""
    for kind in ("tar", "yaml"):
        write_files(kind, tmp_path / "releases" / kind)
    releases = LocalStore(tmp_path / "releases")
    releases.put("good/one/a.png", png())
    releases.put("good/one/release.yaml", b"name: good")
    with running() as runtime:
        entries = registry_of(runtime, load_live_spec(str(spec_of(tmp_path, {"from": f"{releases.uri}/*/*"}))))
    states = {entry.label: entry.state for entry in entries}
    assert states["good@1"] == ReleaseState("never audited", due=True)
    failed = [entry.state for entry in entries if entry.state.name == "failed"]
    assert len(failed) >= 38  # the crafted ones, of which two are not even named
    assert all(state.reason for state in failed)


ERRORS = (
    MemoryError(),
    OSError(28, "No space left on device"),
    RecursionError("maximum recursion depth exceeded"),
    KeyError("x"),
    StageError("3 shards in a row killed their processes", "run again"),
    StoreError("s3://b: refused", "sign in"),
    InputError("0 images", "give images"),
)


@pytest.fixture
def spec(tmp_path: Path) -> AuditSpec:
    """A spec with a good release between releases that fail in all ways."""
    names = [*(f"bad-{type(error).__name__}" for error in ERRORS[:4]), "good"]
    names += [f"bad-{type(error).__name__}" for error in ERRORS[4:]]
    for name in names:
        LocalStore(tmp_path / name).put("a.png", png())
    releases = [{"name": name, "images": str(tmp_path / name)} for name in names]
    return load_live_spec(str(spec_of(tmp_path, releases))).spec


def fails(_runtime: object, _spec: object, release: Any) -> Any:
    """Fail as the release's name says."""
    for error in ERRORS:
        if release.name == f"bad-{type(error).__name__}":
            raise error
    return SimpleNamespace(label=release.label, verdict="no copying seen")


@pytest.mark.parametrize("step", ["check_release", "audit_release"])
def test_one_release_s_failure_does_not_end_an_audit(
    spec: AuditSpec, step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("open_reference", "check_release", "audit_release"):
        monkeypatch.setattr(f"flows.audit.{name}", lambda _runtime, _spec, release=None: release)
    monkeypatch.setattr(f"flows.audit.{step}", fails)
    report = audit.fn(NO_RUNTIME, spec)
    assert [outcome.label for outcome in report.outcomes] == ["good@1"]
    assert set(report.failures) == {f"bad-{type(error).__name__}@1" for error in ERRORS}
    for error in ERRORS:
        shown = report.failures[f"bad-{type(error).__name__}@1"]
        assert shown is error or type(error).__name__ in shown.found
        assert shown.remedy
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 4  # those that nobody expected, with their tracebacks


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_an_audit(
    spec: AuditSpec, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr("flows.audit.open_reference", interrupted)
    with pytest.raises(error):
        audit.fn(NO_RUNTIME, spec)
    monkeypatch.setattr("flows.audit.open_reference", lambda *_: None)
    monkeypatch.setattr("flows.audit.check_release", interrupted)
    with pytest.raises(error):
        audit.fn(NO_RUNTIME, spec)


@pytest.fixture
def sweeping(spec: AuditSpec, monkeypatch: pytest.MonkeyPatch) -> AuditSpec:
    """Every release is due, and the reference is built."""
    entries = [
        Entry(release.label, ReleaseState("never audited", due=True), None, release) for release in spec.releases
    ]
    monkeypatch.setattr("flows.sweep.load_live_spec", lambda _: LiveSpec(spec, {}))
    monkeypatch.setattr("flows.sweep.registry_of", lambda *_: entries)
    monkeypatch.setattr("flows.sweep.built_reference", lambda *_: SimpleNamespace(facts=None, digest=None))
    monkeypatch.setattr("flows.sweep.publish", lambda *_: [])
    return spec


@pytest.mark.parametrize("step", ["audit_release", "fingerprint"])
def test_one_release_s_failure_does_not_end_a_sweep(
    sweeping: AuditSpec, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(uri: str) -> str:
        fails(None, None, SimpleNamespace(name=Path(uri).name, label=""))
        return fingerprint(uri)

    monkeypatch.setattr("flows.sweep.audit_release", fails)
    if step == "fingerprint":
        monkeypatch.setattr("flows.sweep.fingerprint", unreadable)
    with running() as runtime:
        report = sweep(runtime, "spec", 0.0)
    assert [outcome.label for outcome in report.audited] == ["good@1"]
    assert set(report.failures) == {f"bad-{type(error).__name__}@1" for error in ERRORS}
    assert all(isinstance(error, LayerprintError) and error.remedy for error in report.failures.values())
    recorded = {failure.label for failure in all_failures(LocalStore(sweeping.store))}
    assert recorded == (set(report.failures) if step == "audit_release" else set())
