from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from actors.encoder.decode import decode, jpeg_bytes
from actors.encoder.processing import PROCESSINGS, processed


def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    return coarse.resize((48, 36), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", PROCESSINGS)
def test_a_png_stays_lossless_and_of_its_size(name: str) -> None:
    sink = io.BytesIO()
    picture().save(sink, "PNG")
    original = decode(sink.getvalue())
    found = processed(original, PROCESSINGS[name])
    assert (found.codec, found.rgb.size) == ("PNG", (48, 36))
    assert (np.asarray(found.rgb) == np.asarray(PROCESSINGS[name](original.rgb))).all()
    assert (np.asarray(found.rgb) != np.asarray(original.rgb)).any()


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("name", PROCESSINGS)
def test_a_jpeg_is_saved_again_as_it_was(name: str, subsampling: str) -> None:
    original = decode(jpeg_bytes(picture(), 75, subsampling))
    found = processed(original, PROCESSINGS[name])
    assert (found.codec, found.rgb.size) == (original.codec, (48, 36))


def test_mirroring_twice_and_a_jpeg_of_quality_say_what_they_do() -> None:
    image = picture()
    mirrored = PROCESSINGS["mirroring"]
    assert (np.asarray(mirrored(mirrored(image))) == np.asarray(image)).all()
    off = [np.abs(np.asarray(PROCESSINGS[f"JPEG {q}"](image), float) - np.asarray(image)).mean() for q in (85, 50, 25)]
    assert off == sorted(off)
    inner = np.asarray(PROCESSINGS["cropping to 84 %"](image), float)
    wide = np.asarray(image.crop((4, 3, 44, 33)).resize((48, 36), Image.Resampling.LANCZOS), float)
    assert np.abs(inner - wide).mean() < np.abs(inner - np.asarray(image)).mean()
