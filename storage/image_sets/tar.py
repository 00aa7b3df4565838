"""Image sets in tar shards, as WebDataset writes them: ``.tar`` files, uncompressed, read by ranges.

An image's key is that of its shard, a slash and its name within: ``train/shard-0001.tar/000123.jpg``. An
ambiguous shard is refused: nothing is guessed, and no image is left out silently.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import InputError
from storage.image_sets.file_names import is_image
from storage.image_sets.image_ref import MAX_FILE_BYTES, ImageReader, ImageRef
from storage.image_sets.manifest import manifest_table
from storage.objects.base import ObjectChangedError, ObjectInfo, ObjectStore, checked_key
from storage.objects.range_file import RangeFile

MAX_HEADER_BYTES = 16 * 2**10
"""The longest header of a member (long names, extended attributes)."""

_BROKEN = (tarfile.TarError, ArithmeticError, RecursionError, ValueError)
_END_BYTES = 64 * 2**10  # two empty blocks, and the padding of the last record
_THREADS = 8
_SHARD = re.compile(r"(.*?\.tar)/", re.IGNORECASE | re.DOTALL)


def packed_error(uri: str) -> InputError:
    """The error for a tar that is compressed."""
    return InputError(f"{uri}: a compressed tar, which cannot be read by ranges", "unpack it to .tar: gunzip FILE")


def list_shards(store: ObjectStore, shards: Sequence[ObjectInfo]) -> pa.Table:
    """The images of tar shards, shard by shard, as the table of a manifest.

    Only the members' headers are read; a local member is read whole for its SHA-256, like any local image.

    Raises:
        InputError: A shard is not a tar archive that is intact to the last member.
        StoreError: The store cannot be read.
    """
    for shard in shards:
        if _SHARD.match(shard.key):
            raise InputError(f"{store.child_uri(shard.key)}: a shard in a folder named *.tar", "rename the folder")
    with ThreadPoolExecutor(_THREADS) as pool:
        return pa.concat_tables(pool.map(lambda shard: _list_shard(store, shard), shards))


def _list_shard(store: ObjectStore, shard: ObjectInfo) -> pa.Table:
    table = manifest_table("tar", _images(store, shard))
    twice = pc.value_counts(table["key"].combine_chunks())
    for item in twice.filter(pc.greater(twice.field("counts"), 1)).to_pylist()[:1]:
        name = item["values"].removeprefix(f"{shard.key}/")
        raise InputError(
            f"{store.child_uri(shard.key)}: {name!r} is listed {item['counts']} times",
            "rewrite the shard with each name once",
        )
    return table


def _images(store: ObjectStore, shard: ObjectInfo) -> Iterator[ImageRef]:
    for member in _members(store, shard):
        member.name = member.name.removeprefix("./")
        if is_image(member.name) and not member.isdir():
            _check(store.child_uri(shard.key), member)
            tag = store.content_tag(shard, member.offset_data, member.size)
            yield ImageRef(f"{shard.key}/{member.name}", member.size, tag, member.offset_data)


class _HeaderFile(RangeFile):
    """A tar archive whose headers are read, at most `MAX_HEADER_BYTES` per member."""

    allowed = MAX_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        self.allowed -= size
        if size < 0 or self.allowed < 0:
            raise tarfile.ReadError(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        return super().read(size)


def _members(store: ObjectStore, shard: ObjectInfo) -> Iterator[tarfile.TarInfo]:
    """All members of an archive that is intact from start to end marker."""
    file = _HeaderFile(store, shard, read_ahead=True)
    try:
        archive = tarfile.TarFile(fileobj=file, mode="r", encoding="utf-8", errors="surrogateescape")
        place = 0
        while (member := archive.next()) is not None:
            if not place < archive.offset <= shard.size or not _fits(member, archive.offset):
                raise tarfile.ReadError(f"a member at byte {place:,} that does not end: is it truncated?")
            place = archive.offset
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
            file.allowed = MAX_HEADER_BYTES
            yield member
        _check_end(file, archive.offset, shard.size)
    except _BROKEN as error:
        raise InputError(
            f"{store.child_uri(shard.key)}: not a tar shard that can be read ({error})",
            "rewrite it, uncompressed, with tar or webdataset.ShardWriter, and check its upload",
        ) from error


def _fits(member: tarfile.TarInfo, stop: int) -> bool:
    """Whether a member's bytes end before the next header: headers can state several sizes."""
    plain = member.isreg() and not member.issparse()
    return member.size >= 0 and (not plain or member.offset_data + member.size <= stop)


def _check_end(file: _HeaderFile, end: int, size: int) -> None:
    """Check that an archive stops at its end marker: tarfile also takes a broken or missing header for the end."""
    file.allowed = _END_BYTES
    file.seek(end)
    rest = file.read(min(size - end, _END_BYTES))
    if len(rest) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end marker: is it truncated?")
    if any(rest[: tarfile.BLOCKSIZE]):
        raise tarfile.ReadError(f"a broken header at byte {end:,}")
    if any(rest) or size - end > _END_BYTES:
        raise tarfile.ReadError(f"more data follows its end marker at byte {end:,}: was it concatenated with cat?")


def _check(uri: str, member: tarfile.TarInfo) -> None:
    """Refuse an image that is not plain bytes under a plain name."""
    try:
        checked_key(member.name)
        member.name.encode()
    except (InputError, UnicodeEncodeError) as error:
        raise InputError(
            f"{uri}: a member is named {member.name!a}", "rewrite the shard with relative names in UTF-8"
        ) from error
    if not member.isreg() or member.issparse():
        what = "sparse" if member.issparse() else "a link" if member.issym() or member.islnk() else "not a file"
        raise InputError(f"{uri}: {member.name!r} is {what}", "rewrite the shard with tar --dereference, not sparse")


class TarReader(ImageReader):
    """Images of tar shards, read by ranges.

    Args:
        store: Where the shards are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, image: ImageRef) -> bytes:
        shard = _SHARD.match(image.key)
        if shard is None:
            raise InputError(f"{image.key!r} is not an image of a tar shard", "list the image set again")
        size = min(image.size, MAX_FILE_BYTES + 1)
        data = self._store.get_range(shard[1], image.offset, size, image.etag)
        if len(data) < size:
            raise ObjectChangedError(
                f"{self._store.child_uri(image.key)}: its shard is shorter than when it was listed",
                "list the set again",
            )
        return data
