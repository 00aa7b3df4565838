"""Odd images through the embed stage on real sets: each is a row or a reject with its reason, once."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from actors.encoder.model import Encoder
from actors.ray_cluster.local import Cluster
from actors.stages import embed as embed_stage
from actors.stages.context import Progress, StageContext
from actors.workers.embed import EmbedSettings
from flows.results.input_checks import check_rejects
from storage.errors import InputError
from storage.image_sets.open import list_images
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable, VectorStore, vector_matrix
from tests.actors.conftest import TINY, pictures, png
from tests.storage.packing import info, tar

SIDE = 32
PHOTO = pictures(1, SIDE, seed=3)[0]


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _frames(kind: str) -> bytes:
    first, second = (Image.fromarray(picture) for picture in pictures(2, SIDE))
    return _file(first, kind, save_all=True, append_images=[second])


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, depth: int, colour: int, raw: bytes) -> bytes:
    """A whole PNG of given scan lines."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _deep_colour(picture: NDArray[np.uint8]) -> bytes:
    """A PNG of 16 bits a channel: the picture above, noise below."""
    noise = np.random.default_rng(0).integers(0, 256, picture.shape)
    deep = (picture.astype(np.uint16) << 8 | noise.astype(np.uint16)).astype(">u2")
    return _png(SIDE, SIDE, 16, 2, b"".join(b"\0" + line.tobytes() for line in deep))


def _turned(picture: NDArray[np.uint8]) -> bytes:
    """A photograph that its EXIF block says to turn by a quarter clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _file(Image.fromarray(np.rot90(picture)), "PNG", exif=exif)


BOMB = _png(10_000, 10_000, 1, 0, bytes(1251) * 10_000)
JPEG = _file(Image.fromarray(PHOTO), "JPEG", quality=90)
CMYK = _file(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=100, subsampling=0)
GREY = np.linspace(0, 65_535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)

ACCEPTED: dict[str, tuple[bytes, NDArray[np.uint8]]] = {
    "16 bits.png": (_deep_colour(PHOTO), PHOTO),
    "16 bits grey.png": (_file(Image.fromarray(GREY), "PNG"), np.dstack([GREY >> 8] * 3).astype(np.uint8)),
    "cmyk.jpg": (CMYK, np.asarray(Image.open(io.BytesIO(CMYK)).convert("RGB"))),
    "exif/turned.png": (_turned(PHOTO), PHOTO),
    "a space/ö 猫 #1?&%20+.png": (png(PHOTO[::-1]), PHOTO[::-1]),
    "UPPER.PNG": (png(PHOTO[:, ::-1]), PHOTO[:, ::-1]),
    "plain.png": (png(PHOTO), PHOTO),
}
CONTROL = {"line\nbreak.png": (png(255 - PHOTO), 255 - PHOTO), "tab\tand \x1b[31m.png": (png(PHOTO // 2), PHOTO // 2)}
REJECTED: dict[str, tuple[bytes, str]] = {
    "truncated.jpg": (JPEG[:-40], "truncated"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "bomb.png": (BOMB, "10000×10000 is more than 64,000,000 pixels"),
    "animated.gif": (_frames("GIF"), "a gif, of 256 colours or animated: convert it to png"),
    "animated.webp": (_frames("WEBP"), "animated: more than one frame"),
    "zero.png": (b"", "the file is empty (0 bytes)"),
    "text.png": (b"a page of the web", "not a png, jpg, webp or bmp file"),
}


@pytest.fixture
def context(tmp_path: Path, cluster: Cluster) -> StageContext:
    """A store for the audit, and the session's Ray."""

    def silent(_progress: Progress) -> None:
        """Nobody watches."""

    return StageContext(open_store(str(tmp_path / "audit")), cluster, silent)


def _embed(context: StageContext, tiny: Encoder, uri: str) -> embed_stage.Embedded:
    return embed_stage.embed(context, TINY, tiny.facts, list_images(uri), EmbedSettings(readers=2, batch_size=4), "odd")


def _check(
    context: StageContext,
    table: EmbeddingTable,
    tiny: Encoder,
    accepted: dict[str, NDArray[np.uint8]],
    rejected: set[str],
) -> None:
    """Every image is one row, with the embeddings of its upright RGB pixels, or one reject."""
    rows = VectorStore(context.store).dataset(table.name, table.version).to_table()
    assert rows["key"].to_pylist() == sorted(accepted)
    assert sorted(reject["key"] for reject in table.rejects) == sorted(rejected)
    expected = tiny.embed(np.stack([accepted[key] for key in sorted(accepted)]))
    for layer, x in expected.items():
        assert np.abs(vector_matrix(rows[f"layer_{layer:02d}"]) - x).max() <= 1e-5


def test_objects(store: ObjectStore, context: StageContext, tiny: Encoder) -> None:
    accepted = ACCEPTED | CONTROL
    for key, (content, _) in (accepted | REJECTED).items():
        store.put(key, content)
    store.put("notes.txt", b"no image, and not of the set")
    embedded = _embed(context, tiny, store.uri)
    assert embedded.forward_images == len(accepted)
    _check(context, embedded.table, tiny, {key: pixels for key, (_, pixels) in accepted.items()}, set(REJECTED))
    for reject in embedded.table.rejects:
        assert REJECTED[reject["key"]][1] in reject["reason"].lower()
    with pytest.raises(InputError, match="7 of 16 images could not be read") as caught:
        check_rejects(embedded.table, "release", most=0.05)
    assert "animated.gif: a GIF" in caught.value.found

    assert _embed(context, tiny, store.uri) == embed_stage.Embedded(embedded.table, 0)
    for key in REJECTED:  # fixed, as the message asks
        store.put(key, png(PHOTO)) if key.endswith(".png") else store.delete(key)
    fixed = _embed(context, tiny, store.uri)
    names = {key for key in REJECTED if key.endswith(".png")}
    assert fixed.forward_images == len(names)
    pixels = {key: pixels for key, (_, pixels) in accepted.items()} | dict.fromkeys(names, PHOTO)
    _check(context, fixed.table, tiny, pixels, set())


def test_members_of_a_tar_shard(store: ObjectStore, context: StageContext, tiny: Encoder) -> None:
    members = {key: content for key, (content, _) in (ACCEPTED | REJECTED).items()}
    store.put("odd.tar", tar(*members.items()))
    embedded = _embed(context, tiny, f"{store.uri}/odd.tar")
    accepted = {f"odd.tar/{key}": pixels for key, (_, pixels) in ACCEPTED.items()}
    _check(context, embedded.table, tiny, accepted, {f"odd.tar/{key}" for key in REJECTED})
    for reject in embedded.table.rejects:
        assert REJECTED[reject["key"].removeprefix("odd.tar/")][1] in reject["reason"].lower()


LINK = info("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("../../evil.png", "a member is named '../../evil.png'"),
        ("/tmp/evil.png", "a member is named '/tmp/evil.png'"),
        (LINK, "'link.png' is a link"),
    ],
    ids=["climbs", "absolute", "link"],
)
def test_a_tar_shard_that_climbs_out_is_refused(store: ObjectStore, name: str | tarfile.TarInfo, found: str) -> None:
    store.put("set/good.tar", tar(("a.png", png(PHOTO))))
    store.put("set/slip.tar", tar(("a.png", png(PHOTO)), (name, png(PHOTO))))
    before = {info.key for info in store.list()}
    with pytest.raises(InputError, match=r"slip\.tar: ") as caught:
        list_images(f"{store.uri}/set")
    assert found in caught.value.found
    assert "rewrite the shard" in caught.value.remedy
    assert {info.key for info in store.list()} == before
