"""A store of objects in a local folder."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.errors import InputError, StoreError
from storage.objects.base import ObjectInfo, ObjectMissingError, ObjectStore, checked_key
from storage.objects.private import store_folder_mode

_TEMPORARY = (".layerprint-", ".tmp")
_NOT_A_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_CHUNK_BYTES = 2**20


class LocalStore(ObjectStore):
    """A folder. Links to files and folders are followed, as ``find -L`` does.

    A link to one of its own parent folders is not followed, and a dangling link is not an object. A key cannot
    escape the root; a link that its owner placed inside the root may point anywhere.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(path)))
        super().__init__(str(self.root))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        start = self.root / checked_key(folder) if folder else self.root
        with _local_errors(str(start)):
            for info in self._walk(str(start), f"{folder}/" if folder else "", ()):
                if info.key.startswith(prefix):
                    yield info

    def _walk(self, folder: str, base: str, parents: tuple[str, ...]) -> Iterator[ObjectInfo]:
        real = os.path.realpath(folder)
        if real in parents or not os.path.isdir(folder):
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from self._walk(entry.path, f"{base}{entry.name}/", (*parents, real))
                elif entry.is_file() and not _is_temporary(entry.name):
                    info = _local_info(entry, base)
                    if info is not None:
                        yield info

    def info(self, key: str) -> ObjectInfo:
        with _local_errors(self.child_uri(key), reading=True):
            if not self._path(key).is_file():
                raise FileNotFoundError
            return _stat_info(key, self._path(key).stat())

    def modified(self, key: str) -> float:
        with _local_errors(self.child_uri(key), reading=True):
            return self._path(key).stat().st_mtime

    def folders(self, prefix: str = "") -> Iterator[str]:
        folder = self._path(prefix.removesuffix("/")) if prefix else self.root
        with _local_errors(str(folder)), suppress(*_NOT_A_FILE), os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if entry.is_dir())

    def get(self, key: str, etag: str | None = None) -> bytes:
        with _local_errors(self.child_uri(key), reading=True):
            return self._path(key).read_bytes()

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        with _local_errors(self.child_uri(key), reading=True), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def put(self, key: str, data: bytes) -> None:
        with _local_errors(self.child_uri(key)), self._written(key, data) as temporary:
            os.replace(temporary, self._path(key))
            _sync(temporary.parent)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        with _local_errors(self.child_uri(key)), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
            _sync(temporary.parent)
        return True

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A complete and durable temporary file beside the target, so that no reader sees half a file, ever."""
        folder = self._path(key).parent
        _make_folder(self.root, store_folder_mode())
        _make_folder(folder)
        temporary = folder / f"{_TEMPORARY[0]}{uuid.uuid4().hex}{_TEMPORARY[1]}"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        with _local_errors(self.child_uri(key)):
            return self._path(key).is_file()

    def delete(self, key: str) -> None:
        with _local_errors(self.child_uri(key)), suppress(*_NOT_A_FILE):
            self._path(key).unlink()

    def move(self, key: str, to: str) -> None:
        with _local_errors(self.child_uri(key), reading=True):
            if not self._path(key).is_file():
                raise FileNotFoundError
        with _local_errors(self.child_uri(to)):
            _make_folder(self._path(to).parent)
            os.replace(self._path(key), self._path(to))
            _sync(self._path(to).parent)

    def make_durable(self, *places: str) -> None:
        folders: set[Path] = set()
        for place in places:
            path = self._path(place.removesuffix("/"))
            with _local_errors(str(path)):
                for folder, _, names in os.walk(path) if place.endswith("/") else [(path.parent, None, [path.name])]:
                    for name in names:
                        _sync(Path(folder, name))
                    folders |= {Path(folder), Path(folder).parent}
        for each in sorted(folders, reverse=True):
            with _local_errors(str(each)):
                _sync(each)

    def content_tag(self, info: ObjectInfo, start: int = 0, length: int | None = None) -> str:
        with _local_errors(self.child_uri(info.key), reading=True), self._path(info.key).open("rb") as file:
            if length is None:
                return hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(start)
            state = hashlib.sha256()
            while length > 0 and (data := file.read(min(length, _CHUNK_BYTES))):
                state.update(data)
                length -= len(data)
            return state.hexdigest()

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk; one that is gone by now needs none."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, durably."""
    if folder.is_dir():
        return
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for each in new:
        _sync(each.parent)


def _is_temporary(name: str) -> bool:
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


def _local_info(entry: os.DirEntry[str], base: str) -> ObjectInfo | None:
    try:
        entry.name.encode()
        stat = entry.stat()
    except UnicodeEncodeError as error:
        raise InputError(f"{base}{entry.name!a}: the file name is not UTF-8", "rename the file") from error
    except FileNotFoundError:  # deleted during the scan
        return None
    return _stat_info(base + entry.name, stat)


def _stat_info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}")


@contextmanager
def _local_errors(where: str, *, reading: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if reading and isinstance(error, _NOT_A_FILE):
            raise ObjectMissingError(
                f"{where}: no such file", "was it deleted or renamed since it was listed?"
            ) from error
        raise StoreError(
            f"{where}: {error.strerror}", "check the path, its permissions and the free space there"
        ) from error
