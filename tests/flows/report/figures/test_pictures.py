"""Pictures are judged by their pixels: size, what is where, and that names are never interpreted."""

from __future__ import annotations

import io
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from flows.report.figures.draw import Curve, Pair, draw_curves, draw_pairs
from flows.report.figures.drawing import CLEAR, COPYING, choose_strokes, fit, printable, spread

HOSTILE = [
    "日本語/\u202egnp.exe",
    "$\\frac{1}{0",
    "a_b^c",
    "two\nlines",
    "<script>alert(1)</script>",
    "k" * 4096,
    "\ud800lone",
    "nul\0",
    "e" + "\u0301" * 50,
]


def curve(label: str, layers: int, level: float, copying: bool, missing: tuple[int, ...] = ()) -> Curve:
    values: list[float | None] = [None if i in missing else level for i in range(layers)]
    low = [None if v is None else v - 0.03 for v in values]
    high = [None if v is None else v + 0.03 for v in values]
    return Curve(label, list(range(layers)), values, low, high, copying)


def pixels(png: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int16)


def near(picture: NDArray[np.int16], colour: str) -> NDArray[np.bool_]:
    wanted = np.array(to_rgb(colour)) * 255
    return np.asarray(np.abs(picture - wanted).max(axis=2) < 12)


def pair(image: Image.Image, train: Image.Image, identical: bool = False, key: str = "q/1.png") -> Pair:
    return Pair(image, train, 0.25, 0.01, identical, key, "t/2.png")


@pytest.mark.parametrize(("count", "layers"), [(1, 1), (1, 13), (6, 7), (14, 13), (5, 25), (60, 7)])
def test_curves_have_the_promised_size_and_the_same_bytes_twice(count: int, layers: int) -> None:
    curves = [curve(f"r{i}", layers, 0.2 + 0.6 * i / count, i % 3 == 0, missing=(0,)) for i in range(count)]
    png = draw_curves(curves, "title")
    assert Image.open(io.BytesIO(png)).size == (1200, 800)
    assert png == draw_curves(curves, "title")
    assert set(Image.open(io.BytesIO(png)).info) == {"dpi"}


def test_copying_has_its_colour_below_and_clear_its_own_above() -> None:
    picture = pixels(draw_curves([curve("bad", 7, 0.2, True), curve("good", 7, 0.8, False)], "t"))
    plot = picture[100:690, 140:930]
    warm, cool = (np.nonzero(near(plot, colour))[0] for colour in (COPYING[0], CLEAR[0]))
    assert len(warm) > 500
    assert len(cool) > 500
    assert warm.min() > cool.max()


def test_a_layer_without_information_leaves_a_gap() -> None:
    whole = near(pixels(draw_curves([curve("r", 7, 0.6, False)], "t"))[100:660, 140:930], CLEAR[0])
    gap = near(pixels(draw_curves([curve("r", 7, 0.6, False, missing=(3,))], "t"))[100:660, 140:930], CLEAR[0])
    middle = slice(395 - 100, 395 + 100)
    assert whole[:, middle].any(axis=0).mean() > 0.95
    assert not gap[:, middle].any()


def test_curves_without_any_information_are_still_drawn() -> None:
    picture = pixels(draw_curves([curve("r", 3, 0.5, False, missing=(0, 1, 2))], "t"))
    assert not near(picture[100:690, 140:930], CLEAR[0]).any()


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_drawn_as_they_are_and_stay_on_the_picture(name: str) -> None:
    picture = pixels(draw_curves([curve(name, 3, 0.3, True)], name))
    assert (picture[:, -8:] > 250).all()
    sheet = pixels(draw_pairs({0: [pair(Image.new("L", (8, 8)), Image.new("L", (8, 8)), key=name)]}, name))
    assert (sheet[:, -8:] > 250).all()


def test_mathtext_is_not_interpreted() -> None:
    plain = draw_curves([curve("x", 3, 0.5, False)], "$x$")
    assert plain != draw_curves([curve("x", 3, 0.5, False)], "x")


def test_the_users_matplotlib_settings_change_nothing_and_pyplot_is_not_loaded() -> None:
    curves = [curve("a_$b$", 3, 0.4, True)]
    expected = draw_curves(curves, "t")
    with matplotlib.rc_context({"text.parse_math": True, "font.size": 30, "axes.facecolor": "red"}):
        assert draw_curves(curves, "t") == expected
    assert "matplotlib.pyplot" not in sys.modules


def test_bad_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="found none"):
        draw_curves([], "t")
    with pytest.raises(ValueError, match=r"'r'.*\[2, 1, 1, 1\]"):
        draw_curves([Curve("r", [0, 1], [0.5], [0.4], [0.6], False)], "t")


def test_strokes_differ_for_sixteen_curves_of_either_verdict() -> None:
    strokes = choose_strokes([True] * 16 + [False] * 16)
    assert len({(s.colour, s.dash) for s in strokes}) == 32


@pytest.mark.parametrize("count", [1, 2, 14, 60])
def test_labels_never_overlap_nor_leave_the_axis(count: int) -> None:
    wanted = np.sort(np.random.default_rng(count).uniform(90, 110, count)).tolist()
    got = spread(wanted, 19.0, 0.0, 500.0)
    gap = min(19.0, 500.0 / max(1, count - 1))
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(got))
    assert min(got) >= -1e-9
    assert max(got) <= 500 + 1e-9


@pytest.mark.parametrize("name", HOSTILE)
def test_printable_is_one_short_line(name: str) -> None:
    text = printable(name, 20)
    assert 0 < len(text) <= 20
    assert text.isprintable()


def test_small_images_keep_their_pixels_and_big_ones_shrink() -> None:
    digit = Image.fromarray((load_digits().images[0] * 15).astype(np.uint8))
    grown = np.asarray(fit(digit, 96))
    assert grown.shape == (96, 96, 3)
    np.testing.assert_array_equal(grown[6::12, 6::12, 0], np.asarray(digit))
    assert fit(Image.new("RGB", (512, 512), "red"), 96).getcolors() == [(96 * 96, (255, 0, 0))]
    assert fit(Image.new("RGBA", (4000, 1), (0, 0, 0, 0)), 96).getcolors() == [(96, (255, 255, 255))]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "I;16", "F"])
def test_every_mode_is_drawn(mode: str) -> None:
    assert fit(Image.new(mode, (28, 28)), 96).mode == "RGB"


def test_the_sheet_shows_the_two_images_side_by_side_and_frames_identical_ones() -> None:
    red, blue = Image.new("RGB", (32, 32), "#ff0000"), Image.new("RGB", (512, 512), "#0000ff")
    picture = pixels(draw_pairs({0: [pair(red, blue)]}, "t"))
    reds, blues = np.nonzero(near(picture, "#ff0000")), np.nonzero(near(picture, "#0000ff"))
    assert (len(reds[0]), len(blues[0])) == (128 * 128, 144 * 144)
    assert reds[1].max() < blues[1].min()
    assert not near(picture, COPYING[0]).any()
    assert near(pixels(draw_pairs({0: [pair(red, red, identical=True)]}, "t")), COPYING[0]).sum() > 1000


def test_a_sheet_takes_ten_pairs_a_layer_and_layers_without_pairs() -> None:
    tile = Image.new("L", (8, 8))
    ten = draw_pairs({0: [pair(tile, tile)] * 10, 6: []}, "t")
    assert draw_pairs({0: [pair(tile, tile)] * 25, 6: []}, "t") == ten
    assert pixels(ten).shape[1] > pixels(draw_pairs({}, "t")).shape[1]
