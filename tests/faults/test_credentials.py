"""Credentials that end in mid-run: renewed ones are picked up by boto3 and Lance, others end the run with a remedy."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from storage.errors import StoreError
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import ObjectStore, lance_storage_options, open_store
from storage.vectors.tables import VectorStore, layer_column
from tests.faults.proxy import Answer, Fault, FaultyProxy, Request, healthy
from tests.storage.small_run import ROWS, SCHEMA, commit_all, embed_shard, found_rows, run


class Keys(NamedTuple):
    """One pair of access keys."""

    access: str
    secret: str


OLD, NEW = Keys("OLDKEY0000000000", "old-secret-hush"), Keys("NEWKEY0000000000", "new-secret-hush")


@pytest.fixture(scope="module")
def server(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    """A server that knows both pairs."""
    folder = tmp_path_factory.mktemp("s3")
    keys = [{"accessKey": access, "secretKey": secret} for access, secret in (OLD, NEW)]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "layerprint", "credentials": keys, "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    with EmbeddedS3(folder) as made:
        made.make_bucket("renewed")
        yield made


@pytest.fixture
def proxy(server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyProxy]:
    """A proxy to it; no credentials but those that a test gives."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with FaultyProxy(server.endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made


def _old_is_expired(request: Request) -> Fault | None:
    return Answer(400, "ExpiredToken") if request.access_key == OLD.access else None


class _File:
    """Keys in a shared credentials file, which something outside renews."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "credentials"

    def give(self, keys: Keys) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(f"[default]\naws_access_key_id = {keys.access}\naws_secret_access_key = {keys.secret}\n")
        fresh.replace(self.path)


class _Process:
    """Keys from a ``credential_process``, for half a minute each time."""

    def __init__(self, folder: Path) -> None:
        self.answer = folder / "answer.json"
        script = folder / "keys.sh"
        script.write_text(f"#!/bin/sh\ncat {self.answer}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        (folder / "config").write_text(f"[default]\ncredential_process = {script}\n")

    def give(self, keys: Keys) -> None:
        end = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
        answer = {"Version": 1, "AccessKeyId": keys.access, "SecretAccessKey": keys.secret, "Expiration": end}
        self.answer.write_text(json.dumps(answer | {"SessionToken": ""}))


@pytest.fixture(params=[_File, _Process], ids=["shared file", "credential_process"])
def source(request: pytest.FixtureRequest, tmp_path: Path, proxy: FaultyProxy) -> _File | _Process:
    """Where the keys come from; the old ones at first."""
    made: _File | _Process = request.param(tmp_path)
    made.give(OLD)
    return made


@pytest.fixture
def place(proxy: FaultyProxy, tmp_path: Path) -> ObjectStore:
    """An empty prefix on the server."""
    return open_store(f"s3://renewed/{tmp_path.name}")


def test_renewed_credentials_are_picked_up_in_mid_run(
    source: _File | _Process, place: ObjectStore, proxy: FaultyProxy
) -> None:
    vectors = VectorStore(place)
    vectors.create("t", SCHEMA)
    embed_shard(vectors, 0)
    source.give(NEW)
    proxy.rule = _old_is_expired
    for shard in (1, 2):
        embed_shard(vectors, shard)
    table = commit_all(vectors)
    assert found_rows(vectors, table) == ROWS
    assert vectors.open("t", table.version).count_rows() == len(ROWS)
    options = lance_storage_options(place.uri)
    assert options is not None
    assert options["aws_access_key_id"] == NEW.access
    assert proxy.broken == []


def test_a_scan_outlasts_its_credentials(
    source: _File | _Process, place: ObjectStore, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.vectors.tables.SCAN_WINDOW", 4)
    vectors = VectorStore(place)
    scan = vectors.scan("t", run(vectors).version, layer_column(0))
    rows_read = next(scan)[0].tolist()
    source.give(NEW)
    proxy.rule = _old_is_expired
    for rows, _ in scan:
        rows_read += rows.tolist()
    assert rows_read == ROWS


def test_expired_credentials_end_the_run_with_a_remedy(
    source: _File | _Process, place: ObjectStore, proxy: FaultyProxy
) -> None:
    vectors = VectorStore(place)
    vectors.create("t", SCHEMA)
    embed_shard(vectors, 0)
    proxy.rule = _old_is_expired
    calls = (
        lambda: place.get("x"),
        lambda: list(place.list()),
        lambda: run(vectors),
        lambda: vectors.create("u", SCHEMA),
        lambda: embed_shard(vectors, 1),  # Lance is the first to meet it, in the worker's process
    )
    for call in calls:
        with pytest.raises(StoreError, match="the credentials have expired") as caught:
            call()
        assert "credential_process" in caught.value.remedy
        assert "hush" not in str(caught.value)
        assert "hush" not in str(caught.value.__cause__)
    proxy.rule = healthy
    table = run(vectors)
    assert found_rows(vectors, table) == ROWS
