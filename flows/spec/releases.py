"""Releases: what the spec lists, or what ``release.yaml`` files under a folder or ``s3://`` prefix describe.

Those files come with the images, from whoever made the release: they are read as plain data of bounded size, and
cannot name images outside the folder or prefix that the spec gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field, ValidationError

from flows.spec.fields import IMAGE_SET, Name, SpecPart, Uri, explain
from storage.errors import InputError
from storage.image_sets.open import RELEASE_FILE
from storage.objects.open import ObjectMissingError, ObjectStore, open_store

MAX_FILE_BYTES = 64 * 2**10

_REMEDY = f"mend or remove each {RELEASE_FILE}; a release whose images lie elsewhere belongs in the spec's own list"


class ReleaseSpec(SpecPart):
    """One version of one generative model, known by the images it generated."""

    name: Name
    version: Annotated[Name, Field(coerce_numbers_to_str=True)] = "1"
    run: Annotated[
        Name, Field(coerce_numbers_to_str=True, description="which training run, when there are several")
    ] = "1"
    family: Name | None = Field(None, description="for example gan, flow, diffusion")
    images: Uri = Field(description=f"{IMAGE_SET}; in a {RELEASE_FILE} relative to its folder, which is the default")

    @property
    def label(self) -> str:
        """Name and version, and the run when it is not the only one, as people write them."""
        return label_of(self.name, self.version, self.run)

    @property
    def maker(self) -> str:
        """Name and version: what attribution names."""
        return f"{self.name}@{self.version}"


def label_of(name: str, version: str, run: str) -> str:
    """How people write a release: name and version, and the run when it is not the only one.

    >>> label_of("glow", "80", "1"), label_of("glow", "80", "2")
    ('glow@80', 'glow@80#2')
    """
    return f"{name}@{version}" + ("" if run == "1" else f"#{run}")


class ReleasePattern(SpecPart):
    """Where releases are found, instead of a list of them."""

    from_: Uri = Field(
        alias="from", description=f"s3://bucket/releases/* or a folder: each sub-folder with a {RELEASE_FILE}"
    )


class FoundReleases(NamedTuple):
    """What is under a folder or prefix.

    Attributes:
        releases: In the order of their URIs, no two of the same label.
        broken: URI of a file that cannot be used → why.
    """

    releases: list[ReleaseSpec]
    broken: dict[str, str]


def scan_releases(pattern: str) -> FoundReleases:
    """The releases that the ``release.yaml`` files of sub-folders describe, and the files that do not.

    Args:
        pattern: A folder or ``s3://`` prefix of which every sub-folder is looked into; or one with ``*`` in its last
            parts, as in ``releases/*/v*``, which matches within a folder's name.

    Raises:
        StoreError: The place cannot be read.
    """
    root, globs = _split(pattern)
    store = open_store(root)
    places: dict[str, str] = {}
    found = FoundReleases([], {})
    for folder in sorted(_folders(store, globs)):
        uri = store.child_uri(folder + RELEASE_FILE)
        try:
            release = _read(store, folder)
        except ObjectMissingError:  # a folder of something else
            continue
        except InputError as error:
            found.broken[uri] = error.found
            continue
        if release.label in places:
            found.broken[uri] = f"{uri}: it describes {release.label}, as {places[release.label]} does"
            continue
        places[release.label] = uri
        found.releases.append(release)
    return found


def find_releases(pattern: str) -> list[ReleaseSpec]:
    """The releases under a folder or prefix, when every file there can be used; see `scan_releases`.

    Raises:
        InputError: There is none, two describe the same release, or files cannot be used: all of them are named.
        StoreError: The place cannot be read.
    """
    found = scan_releases(pattern)
    if found.broken:
        raise InputError("\n".join(found.broken.values()), _REMEDY)
    if not found.releases:
        raise InputError(
            f"releases.from: no folder {pattern} holds a {RELEASE_FILE}",
            f"put a {RELEASE_FILE} (name, version, family) beside each release's images, or list the releases",
        )
    return found.releases


def _split(pattern: str) -> tuple[str, Sequence[str]]:
    """The folder to begin at, and what the names of folders below it must match, level by level.

    >>> _split("s3://bucket/releases/*/v*"), _split("/data/releases")
    (('s3://bucket/releases', ['*', 'v*']), ('/data/releases', ['*']))
    """
    parts = pattern.rstrip("/").split("/")
    first = next((i for i, part in enumerate(parts) if "*" in part), len(parts))
    return "/".join(parts[:first]) or "/", parts[first:] or ["*"]


def _folders(store: ObjectStore, globs: Sequence[str], prefix: str = "") -> Iterator[str]:
    if not globs:
        yield prefix
        return
    for name in store.folders(prefix):
        if fnmatchcase(name, globs[0]):
            yield from _folders(store, globs[1:], f"{prefix}{name}/")


def _read(store: ObjectStore, folder: str) -> ReleaseSpec:
    """The release that a folder's file describes, its images as a whole URI."""
    uri = store.child_uri(folder + RELEASE_FILE)
    data = store.get_range(folder + RELEASE_FILE, 0, MAX_FILE_BYTES + 1)
    if not uri.isprintable():
        raise InputError(f"{uri!a}: control characters in its name", _REMEDY)
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{uri}: more than {MAX_FILE_BYTES // 2**10} KiB", _REMEDY)
    try:
        content: Any = yaml.load(data, _PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{uri}: {' '.join(str(error).split())}", _REMEDY) from error
    if not isinstance(content, dict):
        raise InputError(f"{uri}: it holds {type(content).__name__}, not fields", _REMEDY)
    try:
        release = ReleaseSpec.model_validate({"images": ".", **content})
    except ValidationError as error:
        raise InputError(f"{uri}:\n{explain(error)}", _REMEDY) from None
    try:
        return release.model_copy(update={"images": _images_uri(store, folder, release.images)})
    except InputError as error:
        raise InputError(f"{uri}:\n  images: {error.found}", _REMEDY) from None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which could make a short file endless."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name)")
        return super().compose_node(parent, index)


def _images_uri(store: ObjectStore, folder: str, images: str) -> str:
    """The image set that a release file names, when that lies where it may."""
    if ".." in re.split(r"[/\\]", images) or not images.isprintable():
        raise InputError(f"{images!r} is not a plain path", _REMEDY)
    if not images.startswith("/") and "://" not in images:
        return f"{store.child_uri(folder.removesuffix('/'))}/{'' if images == '.' else images.removeprefix('./')}"
    place, hash_mark, array = images.partition("#")
    absolute = open_store(place).uri
    if not absolute.startswith(f"{store.uri.rstrip('/')}/"):
        raise InputError(f"{absolute} lies outside {store.uri}", _REMEDY)
    return absolute + hash_mark + array
