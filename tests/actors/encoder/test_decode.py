from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from PIL import Image

from actors.encoder.decode import MAX_PIXELS, UnreadableImageError, decode, jpeg_quality, to_square
from storage.image_sets.open import list_images, open_reader
from storage.objects.local import LocalStore
from tests.paths import ROOT
from tests.storage.packing import tar

WHITE = (255, 255, 255)


def _photo(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """A smooth picture of random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def png_header(width: int, height: int) -> bytes:
    """A small PNG that claims a size it does not have."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


PNG = _file(_photo(), "PNG")
JPEG = _file(_photo(), "JPEG", quality=75)


class TestReadable:
    @pytest.mark.parametrize(
        ("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})], ids=["png", "bmp", "webp"]
    )
    def test_lossless_files_keep_every_pixel(self, kind: str, options: dict[str, Any]) -> None:
        content = _file(_photo(), kind, **options)
        decoded = decode(content)
        assert (_pixels(decoded.rgb) == _pixels(_photo())).all()
        assert (decoded.codec, decoded.width, decoded.height) == (kind, 40, 30)
        assert decoded.sha256 == hashlib.sha256(content).hexdigest()

    def test_a_jpeg_is_decoded_as_pillow_does(self) -> None:
        assert (_pixels(decode(JPEG).rgb) == _pixels(Image.open(io.BytesIO(JPEG)))).all()

    @pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 75, 90, 95, 100])
    def test_jpeg_quality_and_subsampling_are_read_back(self, quality: int) -> None:
        for subsampling, name in enumerate(("4:4:4", "4:2:2", "4:2:0")):
            content = _file(_photo(), "JPEG", quality=quality, subsampling=subsampling)
            assert decode(content).codec == f"JPEG q{quality} {name}"

    def test_jpegs_without_subsampling(self) -> None:
        assert decode(_file(_photo().convert("L"), "JPEG", quality=33)).codec == "JPEG q33 grey"
        assert decode(_file(_photo().convert("CMYK"), "JPEG", quality=80)).codec == "JPEG q80 CMYK"

    def test_other_sampling_is_not_called_grey(self) -> None:
        content = bytearray(_file(_photo(), "JPEG", quality=75, subsampling=1))
        frame = content.index(b"\xff\xc0")
        assert content[frame + 11] == 0x21  # luminance 2×1: 4:2:2
        content[frame + 11] = 0x41  # 4:1:1; libjpeg reads the shifted scan, if wrongly
        assert decode(bytes(content)).codec == "JPEG q75 other"

    def test_an_unusual_quantization_table_has_the_nearest_quality(self) -> None:
        table = [16] * 64
        assert decode(_file(_photo(), "JPEG", qtables=[table, table])).codec == f"JPEG q{jpeg_quality(table)} 4:2:0"

    def test_a_camera_s_second_frame_is_ignored(self) -> None:
        content = _file(_photo(), "MPO", save_all=True, append_images=[_photo(seed=1)], quality=75)
        assert Image.open(io.BytesIO(content)).format == "MPO"
        decoded = decode(content)
        assert decoded.codec == "JPEG q75 4:2:0"
        assert (_pixels(decoded.rgb) == _pixels(decode(JPEG).rgb)).all()

    @pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
    def test_arrays(self, shape: tuple[int, ...]) -> None:
        array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        decoded = decode(array)
        assert (decoded.codec, decoded.width, decoded.height) == ("array", 5, 6)
        assert decoded.sha256 == hashlib.sha256(array.tobytes()).hexdigest()
        assert (np.asarray(decoded.rgb) == (array if array.ndim == 3 else array[..., None])).all()

    def test_deep_grey_is_scaled_not_clipped(self) -> None:
        ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
        decoded = _pixels(decode(_file(Image.fromarray(ramp), "PNG")).rgb)
        assert (decoded == (ramp // 256)[..., None]).all()
        assert len(np.unique(decoded)) == 64

    def test_cmyk_keeps_its_colours(self) -> None:
        red = Image.new("RGB", (16, 16), (200, 30, 10))
        decoded = decode(_file(red.convert("CMYK"), "JPEG", quality=100))
        assert decoded.rgb.mode == "RGB"
        assert abs(_pixels(decoded.rgb) - [200, 30, 10]).max() <= 3

    def test_transparency_is_laid_on_white(self) -> None:
        rgba = Image.new("RGBA", (2, 1))
        rgba.putdata([(10, 20, 30, 0), (0, 0, 0, 127)])
        assert _pixels(decode(_file(rgba, "PNG")).rgb).tolist() == [[[255] * 3, [128] * 3]]
        assert decode(_file(rgba, "WEBP", lossless=True)).rgb.getpixel((0, 0)) == WHITE
        palette = Image.new("P", (2, 1))
        palette.putpalette([0, 0, 0, 200, 10, 10])
        palette.putdata([0, 1])
        assert _pixels(decode(_file(palette, "PNG", transparency=0)).rgb).tolist() == [[[255] * 3, [200, 10, 10]]]
        grey = Image.new("LA", (1, 1), (10, 0))
        assert decode(_file(grey, "PNG")).rgb.getpixel((0, 0)) == WHITE

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_exif_orientation_is_applied(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        decoded = decode(_file(_photo(), "JPEG", exif=exif, quality=75))
        raw = _pixels(decode(JPEG).rgb)
        turned = raw.swapaxes(0, 1)
        upright = {
            1: raw, 2: raw[:, ::-1], 3: raw[::-1, ::-1], 4: raw[::-1],
            5: turned, 6: turned[:, ::-1], 7: turned[::-1, ::-1], 8: turned[::-1],
        }  # fmt: skip
        assert (_pixels(decoded.rgb) == upright[orientation]).all()
        assert (decoded.width, decoded.height) == (40, 30)  # the file's own

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_a_broken_exif_block_costs_no_image(self) -> None:
        assert decode(_file(_photo(), "JPEG", exif=b"Exif\0\0garbage garbage")).rgb.size == (40, 30)


def _two_frames(kind: str) -> bytes:
    return _file(_photo(), kind, save_all=True, append_images=[_photo(seed=1)])


class TestUnreadable:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            pytest.param(b"", "0 bytes", id="empty"),
            pytest.param(b"the quick brown fox\n" * 9, "not a png, jpg, webp or bmp file", id="text"),
            pytest.param(_file(_photo(), "GIF"), "a GIF, of 256 colours or animated: convert", id="gif"),
            pytest.param(_two_frames("GIF"), "a GIF, of 256 colours or animated: convert", id="animated gif"),
            pytest.param(_two_frames("WEBP"), "animated", id="animated webp"),
            pytest.param(_two_frames("PNG"), "animated", id="animated png"),
            pytest.param(JPEG[: len(JPEG) // 2], "[Tt]runcated", id="half a jpeg"),
            pytest.param(JPEG[:-9], "truncated", id="most of a jpeg"),
            pytest.param(PNG[: len(PNG) // 2], "truncated", id="half a png"),
            pytest.param(_file(_photo(), "BMP")[:200], "truncated", id="some of a bmp"),
            pytest.param(png_header(10_000, 10_000), "10000×10000 is more than 64,000,000", id="100 megapixels"),
            pytest.param(png_header(60_000, 60_000), "DecompressionBombError", id="3600 megapixels"),
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_a_reason_is_given(self, content: bytes, reason: str) -> None:
        with pytest.raises(UnreadableImageError, match=reason):
            decode(content)

    def test_the_limit_is_on_pixels_not_on_a_side(self) -> None:
        assert MAX_PIXELS >= 60_000 * 1000
        with pytest.raises(UnreadableImageError, match="truncated"):  # it was tried
            decode(png_header(60_000, 1000))

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=200), st.sampled_from([b"", PNG[:16], JPEG[:4], b"BM", b"RIFF\x40\0\0\0WEBPVP8 "]))
    def test_random_bytes(self, tail: bytes, start: bytes) -> None:
        with pytest.raises(UnreadableImageError, match=r"\w"):
            decode(start + tail)

    @settings(max_examples=250, deadline=None)
    @given(
        st.sampled_from([PNG, JPEG]),
        st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
        st.floats(0.3, 1),
    )
    def test_corrupted_files(self, content: bytes, changes: list[tuple[int, int]], share: float) -> None:
        damaged = bytearray(content[: int(len(content) * share)])
        for position, value in changes:
            damaged[position % len(damaged)] = value
        with suppress(UnreadableImageError):  # and nothing else
            assert decode(bytes(damaged)).rgb.mode == "RGB"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "I;16", "CMYK"])
@pytest.mark.parametrize("turned", [False, True])
def test_strips_change_nothing(mode: str, turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (37, 23), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (37, 23, 4), np.uint8), "RGBA").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    sink = io.BytesIO()
    image.save(sink, "JPEG" if mode == "CMYK" else "PNG", exif=exif, **({"transparency": 3} if mode == "P" else {}))
    whole = decode(sink.getvalue()).rgb
    monkeypatch.setattr("actors.encoder.decode.STRIP_PIXELS", 100)
    strips = decode(sink.getvalue()).rgb
    assert strips.size == whole.size == ((37, 23) if turned else (23, 37))
    assert (np.asarray(strips) == np.asarray(whole)).all()


def test_a_file_that_is_too_large_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("actors.encoder.decode", "storage.image_sets.folder", "storage.image_sets.tar"):
        monkeypatch.setattr(f"{module}.MAX_FILE_BYTES", 1000)
    store = LocalStore(tmp_path)
    store.put("set/a.png", bytes(5000))
    store.put("a.tar", tar(("a.png", bytes(5000))))
    for uri in (f"{store.uri}/set", f"{store.uri}/a.tar"):
        manifest = list_images(uri)
        content = open_reader(uri, manifest.kind).read(manifest.image(0))
        assert len(content) == 1001
        with pytest.raises(UnreadableImageError, match="larger than"):
            decode(content)


class TestToSquare:
    def test_an_image_of_the_right_size_is_left_alone(self) -> None:
        assert (to_square(_photo(32, 32), 32, Image.Resampling.BICUBIC) == np.asarray(_photo(32, 32))).all()

    def test_the_central_square_is_taken(self) -> None:
        wide, tall = _photo(50, 32), _photo(32, 50)
        assert (to_square(wide, 32, Image.Resampling.BICUBIC) == np.asarray(wide)[:, 9:41]).all()
        assert (to_square(tall, 32, Image.Resampling.BICUBIC) == np.asarray(tall)[9:41]).all()

    @pytest.mark.parametrize("size", [8, 64])
    def test_it_is_resized_with_the_filter(self, size: int) -> None:
        square = _photo(31, 31)
        for resample in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
            expected = np.asarray(square.resize((size, size), resample))
            assert (to_square(square, size, resample) == expected).all()

    def test_a_strip_does_not_grow_with_its_length(self) -> None:
        strip = Image.new("RGB", (2_000_000, 1), (1, 2, 3))  # 224 px high it would be 300 GB
        assert (to_square(strip, 224, Image.Resampling.BICUBIC) == [1, 2, 3]).all()


_EIGHT_AT_ONCE = """
import io, re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image
from actors.encoder.decode import decode, to_square

sink = io.BytesIO()
Image.new("RGBA", (6000, 5000), (200, 10, 10, 200)).save(sink, "PNG")

def read(_):
    return to_square(decode(sink.getvalue()).rgb, 8, Image.Resampling.BICUBIC)

with ThreadPoolExecutor(8) as readers:
    list(readers.map(read, range(8)))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.usefixtures("processes")
def test_large_images_take_turns() -> None:
    """Eight readers of images of 30 megapixels: 120 MB a copy, up to five copies at a time."""
    done = subprocess.run(
        [sys.executable, "-c", _EIGHT_AT_ONCE], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) < 1000  # MB: 609 measured, 4,633 without turns and with Pillow's own blocks
