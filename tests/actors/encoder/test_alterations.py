from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from actors.encoder.alterations import ALL_KINDS, HARD_KINDS, HONEST, KINDS, USUAL_KINDS, alteration, random_for

BLACK, WHITE = (Image.new("RGB", (64, 64), colour) for colour in ("black", "white"))


def picture(side: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64)


def altered(name: str, image: Image.Image, canvas: Image.Image = WHITE, seed: str = "0") -> Image.Image:
    return alteration(name)(image, canvas, random_for(name, seed))


def test_the_published_list_has_18_kinds_and_7_hard_ones() -> None:
    assert (len(KINDS), len(HARD_KINDS), len(ALL_KINDS)) == (18, 7, 25)
    assert set(USUAL_KINDS) <= set(ALL_KINDS)


@pytest.mark.parametrize("name", [*ALL_KINDS, *HONEST])
@pytest.mark.parametrize("side", [1, 8, 33])
def test_an_altered_image_keeps_its_size(name: str, side: int) -> None:
    for seed in "012":
        after = altered(name, picture(side), picture(side, 1), seed)
        assert (after.size, after.mode) == ((side, side), "RGB")


@pytest.mark.parametrize("name", [*ALL_KINDS, "crop 50-60 + mirrored"])
def test_the_same_image_is_always_altered_alike(name: str) -> None:
    image, canvas = picture(32), picture(32, 1)
    first, again, other = (pixels(altered(name, image, canvas, seed)) for seed in ("a", "a", "b"))
    assert (first == again).all()
    assert (first != pixels(image)).any()
    if name not in ("mirrored", "grey", "blend 50 %"):
        assert any((pixels(altered(name, image, canvas, str(seed))) != first).any() for seed in range(5)), other


@pytest.mark.parametrize(("name", "share"), [("half pasted", 0.5), ("quarter pasted", 0.25), ("half moved", 0.5)])
def test_parts_lie_on_the_canvas(name: str, share: float) -> None:
    assert (pixels(altered(name, BLACK)) == 0).mean() == share


def test_strengths_are_as_given() -> None:
    assert pixels(altered("blend 60", BLACK)).mean() == pytest.approx(0.4 * 255, abs=1)
    assert pixels(altered("noise 10", Image.new("RGB", (200, 200), "grey"))).std() == pytest.approx(10, rel=0.05)
    line = pixels(BLACK).astype(np.uint8)
    line[:, 32] = 255
    moved = pixels(altered("shift 2", Image.fromarray(line), seed="1"))
    columns = np.flatnonzero(moved.mean((0, 2)) > 0)
    assert columns.tolist() in ([28], [32], [36])  # 2 pixels of 32 are 4 of 64
    assert set(np.unique(pixels(altered("crop 50", BLACK)))) == {0}


def test_blur_grows_with_the_image() -> None:
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    small = pixels(altered("blur 1.2", Image.fromarray(edge)))[16, :, 0]
    large = pixels(altered("blur 1.2", Image.fromarray(edge.repeat(4, 0).repeat(4, 1))))[64, :, 0]
    assert np.abs(large.reshape(32, 4).mean(1) - small).max() < 12


def test_names_can_be_typed() -> None:
    assert alteration("crop 80-95") is KINDS["crop 80–95 %"]
    assert alteration(" Rotated 3-15 ") is KINDS["rotated 3–15°"]
    assert alteration("JPEG 35–60") is alteration("jpeg 35-60")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("glued", "no alteration 'glued'"),
        ("", "no alteration ''"),
        ("crop", "no alteration 'crop'"),
        ("crop 5", "between 10 and 100"),
        ("rotated 30-10", "the lower end first"),
        ("mirrored + ", "no alteration ''"),
        (" + ".join(["mirrored"] * 6), "more than 5"),
        ("crop 1e9", "no alteration"),
    ],
)
def test_what_cannot_be_done_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        alteration(text)


def test_steps_follow_one_another() -> None:
    image = picture(32)
    both = altered("mirrored + upside down", image)
    turned = {Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180}
    assert any((pixels(both) == pixels(image.transpose(each))).all() for each in turned)
