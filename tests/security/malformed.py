"""Malformed files from a seeded generator, and a process that reads them as layerprint does.

Of each kind there are crafted files, such as bombs and headers that lie, and damaged ones: a valid file that is cut, or
some of whose bytes are others. ``python -m tests.security.malformed KIND FOLDER`` reads all files of a kind and prints
one JSON line for each: its name, the outcome, the seconds and the peak of memory in MB.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import re
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.storage.packing import info, tar

FILES = 40
SEED = 14

Rng = np.random.Generator
Files = dict[str, bytes]


def png(size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, "red").save(sink, "PNG", **options)
    return sink.getvalue()


def damaged(rng: Rng, valid: bytes) -> bytes:
    """A valid file, cut or with some bytes changed."""
    data = bytearray(valid)
    if rng.random() < 0.3:
        return bytes(data[: rng.integers(0, len(data))])
    for _ in range(rng.integers(1, 12)):
        place = int(rng.integers(0, len(data)))
        place = place if rng.random() < 0.5 else max(0, len(data) - 1 - place % 200)  # headers are often at the end
        data[place] = rng.choice([0, 0x7F, 0x80, 0xFF, int(rng.integers(0, 256))])
    return bytes(data)


def filled(rng: Rng, crafted: Files, valid: list[bytes]) -> Files:
    """The crafted files, and damaged ones up to `FILES`."""
    files = {f"crafted-{name}": data for name, data in crafted.items()}
    for i in range(FILES - len(files)):
        files[f"damaged-{i}"] = damaged(rng, valid[i % len(valid)])
    return files


# --- .npz -------------------------------------------------------------------------------------------------------------


def npy(shape: tuple[int, ...], data: bytes = b"", descr: Any = "|u1", order: bool = False) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array_header_2_0(sink, {"descr": descr, "fortran_order": order, "shape": shape})
    return sink.getvalue() + data


def zipped(member: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "x.npy") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        archive.writestr(name, member)
    return sink.getvalue()


def stating(archive: bytes, packed: int, unpacked: int) -> bytes:
    """An archive whose directory states other sizes."""
    place = archive.rindex(b"PK\1\2") + 20
    return archive[:place] + struct.pack("<II", packed, unpacked) + archive[place + 8 :]


def npz_files(rng: Rng) -> Files:
    images = rng.integers(0, 256, (30, 8, 8, 3), np.uint8)
    plain = npy(images.shape, images.tobytes())
    bomb = npy((270, 1024, 1024), bytes(270 * 2**20))
    crafted = {
        "claims-10^12-images": zipped(npy((10**12, 28, 28))),
        "overflows": zipped(npy((2**33, 2**33, 3), bytes(100))),
        "negative": zipped(npy((-5, 8, 8), bytes(100))),
        "bomb": zipped(bomb),
        "claims-4-gb": stating(zipped(plain), 3000, 2**32 - 2),
        "claims-too-little": stating(zipped(plain), 3000, 5),
        "claims-a-long-member": stating(zipped(plain, zipfile.ZIP_STORED), 2**31, 2**31),
        "header-of-4-gb": zipped(b"\x93NUMPY\2\0" + b"\xff\xff\xff\xff" + bytes(100)),
        "version-9": zipped(b"\x93NUMPY\x09\0" + bytes(100)),
        "header-of-brackets": zipped(b"\x93NUMPY\1\0\xff\xff" + b"(" * 65535),
        "header-of-code": zipped(b"\x93NUMPY\1\0\x20\0" + b"__import__('os').system('true') "),
        "objects": zipped(npy((3, 3, 3), bytes(100), "|O")),
        "records": zipped(npy((3,), bytes(100), [("a", "|u1")])),
        "bzip2": zipped(plain, zipfile.ZIP_BZIP2),
        "one-huge-image": zipped(npy((1, 2**15, 2**15), bytes(2**20))),
        "many-tiny-images": zipped(npy((3_000_000, 1, 1), bytes(3_000_000))),
        "fortran-bomb": zipped(npy((270, 1024, 1024), bytes(270 * 2**20), order=True)),
        "no-array": zipped(b"x", name="x.txt"),
        "empty-name": zipped(plain, name=".npy"),
    }
    return filled(rng, crafted, [zipped(plain), zipped(plain, zipfile.ZIP_STORED)])


# --- .tar -------------------------------------------------------------------------------------------------------------


def with_size(header: bytes, field: bytes, kind: bytes = b"0") -> bytes:
    """A header of a member with another size field and type, and its checksum."""
    data = bytearray(header[:512])
    data[124:136], data[156:157] = field.ljust(12, b"\0"), kind
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def tar_files(rng: Rng) -> Files:
    members = [(f"{i}.png", png()) for i in range(8)]
    plain, end = tar(*members), bytes(1024)
    header = info("a.png").tobuf(tarfile.USTAR_FORMAT)
    huge = b"\x80" + b"\xff" * 11
    pax = b"".join(b"30 comment=%019d\n" % i for i in range(400))

    def record(text: bytes) -> bytes:
        return with_size(header, b"%011o" % len(text), b"x") + text.ljust(-(-len(text) // 512) * 512, b"\0")

    crafted = {
        "size-2^88": with_size(header, huge) + end,
        "size-8-gb": with_size(header, b"77777777777") + end,
        "negative-size": with_size(header, b"\xff" * 12) + end,
        "long-name-of-8-gb": with_size(header, b"77777777777", b"L") + plain,
        "pax-of-8-gb": with_size(header, b"77777777777", b"x") + plain,
        "pax-bomb": with_size(header, b"%011o" % len(pax), b"x") + pax.ljust(12288, b"\0") + plain,
        "pax-size": record(b"22 size=9999999999999\n") + plain,
        "pax-negative-size": record(b"12 size=-99\n") + plain,
        "pax-of-digits": record(b"9" * 5000 + b" size=1\n") + plain,
        "pax-sparse": record(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n") + plain,
        "sparse-map": record(b"25 GNU.sparse.map=0,9,9,9\n") + plain,
        "gnu-sparse": with_size(header, b"00000001000", b"S") + plain,
        "long-names-only": (with_size(header, b"00000000001", b"L") + b"a".ljust(512, b"\0")) * 3000 + plain,
        "link": with_size(header, b"0", b"2") + plain,
        "device": with_size(header, b"0", b"3") + plain,
        "twice": tar(*members, *members),
        "climbs": tar(("../../x.png", png())),
        "no-end": plain.rstrip(b"\0"),
        "two-archives": plain + plain,
        "other-text": b"not a tar " * 500,
    }
    return filled(rng, crafted, [plain, tar(*members, form=tarfile.GNU_FORMAT)])


# --- Parquet ----------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def fields(**values: tuple[int, bytes]) -> bytes:
    """A struct of Thrift's compact protocol; fields are named ``_1``, ``_2`` …"""
    out, last = b"", 0
    for name, (kind, data) in values.items():
        number = int(name[1:])
        out, last = out + bytes([number - last << 4 | kind]) + data, number
    return out + b"\0"


def integer(value: int, kind: int = 5) -> tuple[int, bytes]:
    return kind, varint(value << 1 ^ value >> 63)


def text(value: bytes) -> tuple[int, bytes]:
    return 8, varint(len(value)) + value


def several(items: list[bytes], kind: int = 12) -> tuple[int, bytes]:
    return 9, bytes([0xF0 | kind]) + varint(len(items)) + b"".join(items)


def handmade(page: bytes, *, rows: int = 5, packed: int | None = None, unpacked: int = 100, depth: int = 0) -> bytes:
    """A Parquet file of one column ``image`` with this page, whatever it states."""
    length = len(page) if packed is None else packed
    column = fields(
        _1=integer(6), _2=several([integer(0)[1]], 5), _3=several([text(b"image")[1]], 8), _4=integer(0),
        _5=integer(rows, 6), _6=integer(unpacked, 6), _7=integer(length, 6), _9=integer(4, 6),
    )  # fmt: skip
    group = fields(
        _1=several([fields(_2=integer(4, 6), _3=(12, column))]), _2=integer(unpacked, 6), _3=integer(rows, 6)
    )
    nested = [fields(_3=integer(1), _4=text(b"a"), _5=integer(1))] * depth
    leaf = fields(_1=integer(6), _3=integer(0), _4=text(b"image"))
    schema = [fields(_4=text(b"root"), _5=integer(1)), *nested, leaf]
    footer = fields(_1=integer(2), _2=several(schema), _3=integer(rows, 6), _4=several([group]))
    return b"PAR1" + page + footer + struct.pack("<I", len(footer)) + b"PAR1"


def page_header(packed: int, unpacked: int, values: int) -> bytes:
    data = fields(_1=integer(values), _2=integer(0), _3=integer(3), _4=integer(3))
    return fields(_1=integer(0), _2=integer(unpacked), _3=integer(packed), _5=(12, data))


def column(images: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": images}), sink, store_schema=False, **options)
    return sink.getvalue()


def repeated(image: bytes, rows: int) -> bytes:
    """A dictionary of one image, to which many rows refer."""
    once = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([image], pa.binary()))
    return column(once, dictionary_pagesize_limit=2**30, row_group_size=rows)


def parquet_files(rng: Rng) -> Files:
    plain = column([png()] * 20, row_group_size=7)
    page = page_header(8, 8, 1) + b"\4\0\0\0abcd"
    crafted = {
        "absurd-rows": handmade(page, rows=2**62),
        "negative-rows": handmade(page, rows=-3),
        "more-rows-than-values": handmade(page, rows=1000),
        "page-of-2-gb": handmade(page_header(8, 2**31 - 1, 1) + bytes(8)),
        "negative-page": handmade(page_header(-8, -8, 1) + bytes(8)),
        "page-beyond-the-column": handmade(page_header(2**30, 8, 1) + bytes(8)),
        "column-of-8-eb": handmade(page, packed=2**62),
        "negative-column": handmade(page, packed=-5),
        "unpacks-to-8-eb": handmade(page, unpacked=2**62),
        "endless-header": handmade(b"\x15" + b"\xff" * 200),
        "nested-header": handmade(b"\x1c" * 5000),
        "deep-schema": handmade(page, depth=50_000),
        "footer-of-4-gb": b"PAR1" + bytes(100) + b"\xff\xff\xff\xffPAR1",
        "zstd-bomb": column([bytes(2**20)] * 300, compression="zstd", use_dictionary=False, data_page_size=2**30),
        "gzip-bomb": column([bytes(2**20)] * 200, compression="gzip", use_dictionary=False),
        "dictionary-bomb": repeated(bytes(2**20), 100_000),
        "dictionary-of-one": repeated(bytes(30 * 2**20), 1000),
        "delta-bomb": column([bytes(2**20)] * 300, use_dictionary=False, column_encoding={"image": "DELTA_BYTE_ARRAY"}),
        "nulls": column(pa.nulls(3_000_000, pa.binary()), row_group_size=3_000_000),
        "encrypted": b"PARE" + plain[4:-4] + b"PARE",
    }
    return filled(rng, crafted, [plain, column([png()] * 20, compression="zstd", data_page_version="2.0")])


# --- YAML -------------------------------------------------------------------------------------------------------------


def yaml_files(rng: Rng) -> Files:
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12))
    crafted = {
        "nested-anchors": f"l0: &l0 x\n{levels}\nname: x",
        "brackets": "[" * 60_000,
        "braces": "{a: " * 15_000,
        "dashes": "- " * 30_000,
        "questions": "? " * 30_000,
        "object": "name: !!python/object/apply:os.system ['true']",
        "number-of-60-kb": f"name: x\nversion: {'9' * 60_000}",
        "hexadecimal": f"name: x\nversion: 0x{'f' * 60_000}",
        "base-60": f"name: x\nversion: 1{':59' * 20_000}",
        "base-60-fraction": f"name: x\nversion: 1{':59' * 20_000}.5",
        "date": "name: 2001-99-99",
        "zone": "name: 2001-01-01T00:00:00+99:99",
        "twice": "name: a\nname: b",
        "many-fields": "".join(f"f{i}: 1\n" for i in range(6000)),
        "too-large": f"name: {'x' * 2**21}",
        "tag": "!!int ''",
        "two-documents": "---\nname: a\n---\nname: b",
        "directive": f"%YAML {'9' * 5000}.1\n---\nname: a",
        "surrogate": 'name: "\\ud800"',
        "unhashable-key": "? [a]\n: b",
    }
    valid = b"name: glow\nversion: 80\nfamily: flow\nimages: ./set\n# note\nrun: [1, {a: 'x'}]\n"
    return filled(rng, {name: data.encode() for name, data in crafted.items()}, [valid])


# --- images -----------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*chunks: bytes, size: tuple[int, int] = (8, 8), depth: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((1 + 3 * 8) * 8)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def exif_of_overlaps(entries: int, size: int) -> bytes:
    """EXIF data whose entries all state the same bytes, of this size."""
    table = b"".join(struct.pack("<HHII", 1000 + i, 7, size, 8) for i in range(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + table + bytes(size)


def saved(form: str, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, "red").save(sink, form, **options)
    return sink.getvalue()


def image_files(rng: Rng) -> Files:
    bomb = zlib.compress(bytes(300 * 2**20))
    jpeg = saved("JPEG")
    sized = jpeg.index(b"\xff\xc0") + 5
    webp = saved("WEBP", lossless=True)
    crafted = {
        "iccp-bomb": png_of(chunk(b"iCCP", b"x\0\0" + bomb)),
        "ztxt-bomb": png_of(chunk(b"zTXt", b"x\0\0" + bomb)),
        "itxt-bomb": png_of(chunk(b"iTXt", b"x\0\1\0\0\0" + bomb)),
        "many-texts": png_of(*[chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**20)))] * 300),
        "pixels-bomb": png_of(chunk(b"IDAT", bomb)),
        "2^31-wide": png_of(size=(2**31 - 1, 2**31 - 1)),
        "16000-x-4000": png_of(size=(16_000, 4_000), depth=16, colour=6),
        "zero-wide": png_of(size=(0, 8)),
        "colour-type-9": png_of(colour=9),
        "frames": png_of(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "exif-overlaps": png_of(chunk(b"eXIf", exif_of_overlaps(40_000, 2**20))),
        "exif-noise": png_of(chunk(b"eXIf", b"II*\0" + rng.bytes(5000))),
        "exif-loop": png_of(chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(100))),
        "chunk-of-2-gb": png_of()[:33] + struct.pack(">I", 2**31 - 1) + b"tEXtx",
        "jpeg-65500": jpeg[:sized] + struct.pack(">HH", 65500, 65500) + jpeg[sized + 4 :],
        "jpeg-8000": jpeg[:sized] + struct.pack(">HH", 8000, 8000) + jpeg[sized + 4 :],
        "jpeg-segments": jpeg[:2] + (b"\xff\xe1\xff\xff" + b"Exif\0\0".ljust(65533, b"\0")) * 60 + jpeg[2:],
        "webp-16383": re.sub(
            rb"(VP8L....\x2f)....", lambda match: match[1] + b"\xff\xff\xff\x0f", webp, flags=re.DOTALL
        ),
        "bmp-rle": b"BM" + struct.pack("<IHHIIIIHHIIIIII", 100, 0, 0, 54, 40, 30_000, 2_000, 1, 8, 1, 0, 0, 0, 0, 0),
        "gif": saved("GIF"),
    }
    return filled(rng, crafted, [png((40, 40)), saved("JPEG", (40, 40)), saved("WEBP", (40, 40)), saved("BMP")])


KINDS: dict[str, tuple[Callable[[Rng], Files], str]] = {
    "npz": (npz_files, "set.npz#x"),
    "tar": (tar_files, "set.tar"),
    "parquet": (parquet_files, "set.parquet#image"),
    "yaml": (yaml_files, ""),
    "images": (image_files, "images/"),
}
"""The generator of each kind, and where its file is in the folder of a release."""


def write_files(kind: str, folder: Path) -> list[Path]:
    """The releases of a kind, each in a folder of its own."""
    make, place = KINDS[kind]
    releases = []
    for name, data in make(np.random.default_rng(SEED)).items():
        release = folder / name
        target = release / {"": "release.yaml", "images/": "images/0.png"}.get(place, place.partition("#")[0])
        target.parent.mkdir(parents=True)
        target.write_bytes(data)
        if place:
            (release / "release.yaml").write_text(f'name: "{name}"\nimages: "{place}"\n')
        releases.append(release)
    return releases


def read(release: Path) -> Iterator[str]:
    """Read a release as an audit does; yields what is wrong with it.

    Errors that are not for users are raised.
    """
    from actors.encoder.decode import UnreadableImageError, decode
    from flows.spec.releases import scan_releases
    from flows.spec.spec import load_spec
    from storage.errors import LayerprintError
    from storage.image_sets.open import list_images, open_reader

    found = scan_releases(f"{release.parent}/{release.name.replace('[', '?')}*")
    yield from found.broken.values()
    try:
        load_spec(release / "release.yaml")
    except LayerprintError as error:
        yield str(error)
    for described in found.releases[:1]:
        try:
            manifest = list_images(described.images)
            reader = open_reader(manifest.uri, manifest.kind)
            for image in (*manifest.images(0, 10), manifest.image(len(manifest) - 1)):
                decode(reader.read(image))
        except (LayerprintError, UnreadableImageError) as error:
            yield str(error)


def main(kind: str, folder: str) -> None:
    """Read all files of a kind."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)
    for release in write_files(kind, Path(folder)):
        gc.collect()
        give_back(0)  # what earlier files left in the allocator is not this file's
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        began = time.monotonic()
        wrong = list(read(release))
        seconds = time.monotonic() - began
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) // 1024
        print(json.dumps({"name": release.name, "wrong": wrong, "seconds": seconds, "peak": peak}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
