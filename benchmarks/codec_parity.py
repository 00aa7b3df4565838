"""The codec check on real generators' images against JPEG-75 reals.

    python -m benchmarks.codec_parity DATA

DATA holds ``cifar10_train10k_test5k_jpeg.tar.xz`` (libjpeg quality 75) and ``cifar10_generated_extra14_q75.tar.xz``
(14 generators, the same quality). Each generator's images are checked as they are, re-saved as PNG, and re-saved at
JPEG quality 95: the first must pass, the others fail.
"""

from __future__ import annotations

import io
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import typer
from PIL import Image

from actors.encoder.decode import decode, jpeg_bytes
from flows.results.input_checks import FileFacts, parity_checks

Change = Callable[[bytes], bytes]


def main(data: Path, reals: int = 2000) -> None:
    """Print how many of the generators pass, as they are and re-saved."""
    real = images(data / "cifar10_train10k_test5k_jpeg.tar.xz", "train", reals)
    train = FileFacts.of_images(decode(content) for _, content in real)
    generators: dict[str, list[bytes]] = defaultdict(list)
    for name, content in images(data / "cifar10_generated_extra14_q75.tar.xz", "", 10**9):
        generators[PurePosixPath(name).parent.name].append(content)
    typer.echo(f"reals: {dict(train.codecs)}; {len(generators)} generators")
    for change in (as_is, as_png, as_jpeg_95):
        results = {
            name: all(
                check.passed
                for check in parity_checks(train, FileFacts.of_images(decode(change(c)) for c in contents), name)
            )
            for name, contents in generators.items()
        }
        passed = sum(results.values())
        typer.echo(f"{change.__name__}: {passed} of {len(results)} generators pass the codec and size check")


def images(archive: Path, under: str, most: int) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the image files of an archive below a folder."""
    count = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if member.isfile() and member.name.endswith((".jpg", ".png")) and (not under or under in parts):
                file = tar.extractfile(member)
                if file is not None and count < most:
                    count += 1
                    yield member.name, file.read()


def as_is(content: bytes) -> bytes:
    """The file itself."""
    return content


def as_png(content: bytes) -> bytes:
    """The image as PNG."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).save(buffer, "PNG")
    return buffer.getvalue()


def as_jpeg_95(content: bytes) -> bytes:
    """The image as JPEG of quality 95."""
    return jpeg_bytes(Image.open(io.BytesIO(content)).convert("RGB"), 95, "4:2:0")


if __name__ == "__main__":
    typer.run(main)
