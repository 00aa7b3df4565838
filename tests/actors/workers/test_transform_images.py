from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.encoder.decode import decode
from actors.ray_cluster.local import Cluster
from actors.stages.context import Progress, StageContext
from actors.stages.transform_images import transform_images
from actors.workers.transform_images import (
    CHANGES,
    CROP,
    LARGEST_SIDE,
    NOISE,
    PERTURBATIONS,
    TransformBlock,
    altered,
    number_of,
    transform_block,
)
from storage.image_sets.open import list_images, open_reader
from storage.objects.open import ObjectStore, open_store
from tests.actors.conftest import pictures, png


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=quality, subsampling="4:2:0")
    return sink.getvalue()


PICTURE = pictures(1, size=40, seed=3)[0]
FLAT = np.full((48, 40, 3), 120, np.uint8)


@pytest.mark.parametrize("name", ["resize", "crop", "noise"])
def test_size_and_kind_of_file_stay(name: str) -> None:
    for content, codec in ((png(PICTURE), "PNG"), (jpeg(PICTURE, 75), "JPEG q75 4:2:0"), (PICTURE, "PNG")):
        before = decode(content)
        after = decode(CHANGES[name](before))
        assert after.codec == codec
        assert (after.width, after.height) == (before.width, before.height)
        assert (np.asarray(after.rgb) != np.asarray(before.rgb)).any()


def test_jpeg_has_the_quality_asked_for() -> None:
    assert decode(CHANGES["jpeg 90"](decode(png(PICTURE)))).codec == "JPEG q90 4:2:0"
    assert decode(CHANGES["jpeg 75"](decode(jpeg(PICTURE, 90)))).codec == "JPEG q75 4:2:0"
    assert decode(CHANGES["reencode"](decode(jpeg(PICTURE, 60)))).codec == "JPEG q60 4:2:0"
    assert decode(CHANGES["reencode"](decode(png(PICTURE)))).codec == "JPEG q95 4:4:4"


def test_the_noise_is_as_large_as_it_says() -> None:
    pixels = np.asarray(decode(CHANGES["noise"](decode(png(FLAT)))).rgb, np.float64) - 120
    assert pixels.std() == pytest.approx((NOISE**2 + 1 / 12) ** 0.5, rel=0.05)  # 1/12: rounding
    assert abs(pixels.mean()) < 4 * NOISE / pixels.size**0.5


def test_the_crop_is_the_centre() -> None:
    """A frame of the width that is cut off vanishes; without the crop it would stay."""
    framed = np.zeros((100, 100, 3), np.uint8)
    cut = round(100 * (1 - CROP) / 2)
    framed[cut:-cut, cut:-cut] = 200
    assert np.asarray(decode(CHANGES["crop"](decode(png(framed)))).rgb).min() == 200


def test_resizing_keeps_smooth_and_blurs_rough() -> None:
    def changed(picture: np.ndarray) -> float:
        after = np.asarray(decode(CHANGES["resize"](decode(png(picture)))).rgb, np.float64)
        return float(np.abs(after - picture).mean())

    rough = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert changed(FLAT) == 0
    assert changed(rough) > 20


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_the_same_image_gives_the_same_bytes(name: str) -> None:
    assert CHANGES[name](decode(png(PICTURE))) == CHANGES[name](decode(png(PICTURE)))


def test_grey_tiny_images_survive() -> None:
    tiny = np.array([[7]], np.uint8)
    for change in PERTURBATIONS.values():
        assert decode(change(decode(tiny))).width == 1


def test_an_altered_copy_lies_on_another_image() -> None:
    """The central squares count; the kind of file stays, and the canvas has the size of the copy."""
    dark, light = np.zeros((30, 40, 3), np.uint8), np.full((90, 60, 3), 200, np.uint8)
    for content, codec in ((png(dark), "PNG"), (jpeg(dark, 75), "JPEG q75 4:2:0")):
        after = decode(altered(decode(content), decode(png(light)), "half pasted"))
        assert (after.codec, after.rgb.size) == (codec, (30, 30))
        assert np.mean(np.asarray(after.rgb) > 100) == pytest.approx(0.5, abs=0.07)
    large = decode(np.zeros((LARGEST_SIDE + 60, 4 * LARGEST_SIDE), np.uint8))
    assert decode(altered(large, large, "mirrored")).rgb.size == (LARGEST_SIDE, LARGEST_SIDE)


def test_a_block_is_altered_on_its_canvases(tmp_path: Path) -> None:
    images, canvases = open_store(str(tmp_path / "images")), open_store(str(tmp_path / "canvases"))
    for name, level in (("a", 0), ("c", 0)):
        images.put(f"{name}.png", png(np.full((16, 16, 3), level, np.uint8)))
    images.put("b.png", b"no picture")
    for level in (60, 120, 180):
        canvases.put(f"{level:03d}.png", png(np.full((16, 16, 3), level, np.uint8)))
    listed, on = list_images(f"{images.uri}/"), list_images(f"{canvases.uri}/")
    task = TransformBlock(
        store=str(tmp_path),
        prefix="altered",
        change="quarter pasted",
        set_uri=listed.uri,
        kind=listed.kind,
        first=7,
        images=tuple(listed.images()),
        canvas_uri=on.uri,
        canvas_kind=on.kind,
        canvases=tuple(on.images()),
    )
    assert transform_block(task) == 2
    made = list_images(f"{tmp_path}/altered/")
    assert [number_of(image.key) for image in made.images()] == [7, 9]
    reader = open_reader(made.uri, made.kind)
    levels = [np.unique(np.asarray(decode(reader.read(image)).rgb)).tolist() for image in made.images()]
    assert levels == [[0, 60], [0, 180]]


def test_a_set_is_changed_once_in_order(tmp_path: object, cluster: Cluster, s3_prefix: str) -> None:
    images = open_store(f"{s3_prefix}/images")
    originals = pictures(5, seed=1)
    for name, picture in zip(("a b", "ü", "c", "d", "e"), originals, strict=True):
        images.put(f"{name}.png", png(picture))
    images.put("broken.png", b"no picture")
    store: ObjectStore = open_store(f"{s3_prefix}/audits")
    reports: list[Progress] = []
    context = StageContext(store, cluster, reports.append)
    listed = list_images(f"{images.uri}/")
    uri = transform_images(context, listed, "noise", "release")
    changed_set = list_images(uri)
    assert len(changed_set) == 5
    reader, before = open_reader(changed_set.uri, changed_set.kind), open_reader(listed.uri, listed.kind)
    readable = [image for image in listed.images() if image.key != "broken.png"]
    for original, changed in zip(readable, changed_set.images(), strict=True):
        assert reader.read(changed) == CHANGES["noise"](decode(before.read(original)))
    reports.clear()
    assert transform_images(context, listed, "noise", "release") == uri
    assert not reports
    assert transform_images(context, listed, "noise", "release", rows=[0, 2]) != uri
    on = [
        transform_images(context, listed, "half pasted", "copies", [0, 2], (listed, rows)) for rows in ([3, 4], [4, 3])
    ]
    assert len({uri, *on}) == 3
    assert [image.key for image in list_images(on[0]).images()] == ["00000000.png", "00000001.png"]
