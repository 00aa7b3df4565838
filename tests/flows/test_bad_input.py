"""Bad input: one clear message with the remedy, exit code 2, no traceback, whatever is wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.cli.main import run
from flows.demo.data import grey, split_digits
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from storage.objects.open import ObjectStore, open_store
from tests.flows.conftest import LAB, Write

Parts = dict[str, Any]


def jpegs(store: ObjectStore) -> None:
    for i, digit in enumerate(split_digits(0).unseen[:30]):
        buffer = io.BytesIO()
        Image.fromarray(grey(digit)).save(buffer, "JPEG", quality=75)
        store.put(f"{i}.jpg", buffer.getvalue())


def few(store: ObjectStore) -> None:
    for i in range(5):
        store.put(f"{i}.png", open_store(LAB).get(f"unseen/{i:05d}.png"))


def no_images(store: ObjectStore) -> None:
    store.put("readme.txt", b"nothing to see")


def copied_train(store: ObjectStore) -> None:
    for info in open_store(LAB).list("train/"):
        store.put(info.key.removeprefix("train/"), open_store(LAB).get(info.key))


def encoder(**change: Any) -> Parts:
    base = {"model": "test_vit", "weights": "random", "image_size": 8, "model_args": {"patch_size": 4}}
    return {"encoder": {**base, **change}}


def release(uri: str) -> Parts:
    return {"releases": [{"name": "bad", "images": uri}]}


CASES: dict[str, tuple[Callable[[ObjectStore], None] | None, Callable[[str], Parts], str]] = {
    "empty set": (no_images, release, "no image here (1 .txt file)"),
    "nothing there": (None, release, "there is nothing at all"),
    "fewer images than ranking needs": (few, release, "has 5 images, ranking needs at least 20"),
    "fewer train images than cells": (None, lambda _: {"scoring": {"cells": 90}}, "90 cells needs at least 180"),
    "another codec": (jpegs, release, "codec differs in 100 % of files"),
    "held-out is train": (
        copied_train,
        lambda uri: {"reference": {"name": "digits", "train": f"{LAB}/train/", "held_out": uri}},
        "160 of 160 images",
    ),
    "unknown model": (None, lambda _: encoder(model="vit_nonesuch"), "has no model 'vit_nonesuch'"),
    "unknown argument": (None, lambda _: encoder(model_args={"patchsize": 4}), "refused"),
    "wrong image size": (None, lambda _: encoder(image_size=9), "images of 9 pixels"),
    "missing layer": (None, lambda _: encoder(layers=[0, 40]), "has layers 0 to 6"),
    "missing weights": (None, lambda _: encoder(weights="nowhere.pth"), "there is no file"),
    "no bucket": (None, lambda _: {"store": "s3://no-such-bucket/x"}, "no-such-bucket"),
    "not a place": (None, lambda _: {"store": "ftp://host/x"}, "ftp://host/x"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(
    case: str, runtime: Runtime, write_spec: Write, s3_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, parts, message = CASES[case]
    bad = open_store(f"{s3_prefix}/bad")
    if prepare:
        prepare(bad)
    assert run(["audit", str(write_spec(**parts(f"{bad.uri}/")))]) == 2
    shown = capsys.readouterr().err
    assert message in shown.replace("\n", " ")
    assert "→" in shown
    assert "Traceback" not in shown


def test_weights_that_do_not_fit(
    runtime: Runtime, write_spec: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import save_file

    save_file({"head.weight": np.zeros((10, 64), np.float32)}, tmp_path / "other.safetensors")
    assert run(["audit", str(write_spec(**encoder(weights="other.safetensors")))]) == 2
    shown = capsys.readouterr().err
    assert "does not fit test_vit" in shown
    assert "tensors missing" in shown


def test_a_store_of_another_reference(
    runtime: Runtime, audited_spec: AuditSpec, write_spec: Write, lab: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"name": "letters", "train": f"{lab}/train/", "held_out": f"{lab}/held_out/"}
    assert run(["reference", str(write_spec(store=audited_spec.store, reference=other))]) == 2
    assert "belongs to the reference digits" in capsys.readouterr().err.replace("\n", " ")


def test_wrong_secret(
    runtime: Runtime, write_spec: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_spec())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    assert run(["audit", path]) == 2
    shown = capsys.readouterr().err
    assert "AWS_SECRET_ACCESS_KEY" in shown
    assert "not-the-secret" not in shown


def test_no_network(
    runtime: Runtime, write_spec: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_spec())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert run(["audit", path]) == 2
    shown = capsys.readouterr().err
    assert "127.0.0.1:9" in shown
    assert "AWS_ENDPOINT_URL" in shown
