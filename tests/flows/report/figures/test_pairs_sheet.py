"""The sheet of the closest pairs is judged by its pixels."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from flows.report.figures.pairs import PairGroup, PairView, Picture
from flows.report.figures.pairs_sheet import pairs_picture
from tests.flows.report.figures.pixels import BAD, HOSTILE, inside, near, pixels

SHOWN = 160
"""Side of a tile in pixels."""


def tile(image: Image.Image) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(uri, image.width, image.height, max(image.size) <= 80)


def pair(image: Picture | None, train: Picture | None, key: str = "q/1.png", **row: Any) -> PairView:
    known = {"image_key": key, "train_key": key, "distance": 0.25, "p_value": 0.01, "identical": False,
             "near_duplicate": False, "rank": 1}  # fmt: skip
    return PairView({**known, **row}, image, train, None, None, "", [])


def sheet(*pairs: PairView, label: str = "r@1") -> NDArray[np.int16]:
    return pixels(pairs_picture(label, [PairGroup("decides", 3, list(pairs))]))


RED, BLUE = tile(Image.new("RGB", (32, 32), "#ff0000")), tile(Image.new("RGB", (160, 80), "#0000ff"))


def test_the_generated_image_is_left_of_the_training_image_and_keeps_its_shape() -> None:
    picture = sheet(pair(RED, BLUE))
    reds, blues = np.nonzero(near(picture, "#ff0000")), np.nonzero(near(picture, "#0000ff"))
    assert len(reds[0]) == pytest.approx(SHOWN * SHOWN, rel=0.02)
    assert len(blues[0]) == pytest.approx(SHOWN * SHOWN / 2, rel=0.03)
    assert reds[1].max() < blues[1].min()
    assert not near(picture, BAD).any()


def test_identical_files_are_framed_and_near_duplicates_named() -> None:
    assert near(sheet(pair(RED, RED, identical=True)), BAD).sum() > 2000
    assert 50 < near(sheet(pair(RED, RED, near_duplicate=True)), BAD).sum() < 2000


def test_small_images_are_enlarged_without_smoothing() -> None:
    digit = (load_digits().images[0] * 15).astype(np.uint8)
    shown = sheet(pair(tile(Image.fromarray(digit)), None))
    rows, columns = np.nonzero(near(shown, "#000000") & (np.arange(shown.shape[1]) < SHOWN + 20))
    top, left = rows.min(), columns.min()
    step = SHOWN // 8
    centres = shown[top + step // 2 : top + SHOWN : step, left + step // 2 : left + SHOWN : step, 0]
    assert np.abs(centres - digit).max() <= 2


def test_rows_hold_four_pairs() -> None:
    heights = [sheet(*[pair(RED, BLUE)] * count).shape[0] for count in (1, 4, 5, 8)]
    assert heights[0] == heights[1] < heights[2] == heights[3]
    widths = {sheet(*[pair(RED, BLUE)] * count).shape[1] for count in (1, 4, 8)}
    assert max(widths) - min(widths) < 20


def test_the_same_pairs_give_the_same_bytes() -> None:
    groups = [PairGroup("decides", 3, [pair(RED, BLUE)]), PairGroup("late", 6, [pair(BLUE, RED, identical=True)])]
    assert pairs_picture("r@1", groups) == pairs_picture("r@1", groups)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_drawn_as_text_and_stay_on_the_sheet(name: str) -> None:
    picture = sheet(pair(BLUE, BLUE, key=name), label=name)
    assert inside(picture)
    assert not near(picture, BAD).any()


def test_a_sheet_without_pairs_or_images_is_still_drawn() -> None:
    assert inside(pixels(pairs_picture("r@1", [])))
    picture = sheet(pair(None, None, distance=float("nan"), p_value=None))
    assert inside(picture)
