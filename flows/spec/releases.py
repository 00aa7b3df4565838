"""Releases that a spec lists, or that ``release.yaml`` files under a folder or ``s3://`` prefix describe.

These files come with the images and are untrusted: they are read as plain data of bounded size, and cannot name images
outside the folder or prefix of the spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError

from flows.spec.fields import IMAGE_SET, KeyPattern, Name, SpecPart, Uri, explain
from flows.spec.yaml_file import read_yaml
from storage.errors import InputError, LayerprintError, StoreUnavailableError
from storage.image_sets.file_names import RELEASE_FILE
from storage.objects.open import ObjectMissingError, ObjectStore, open_store

MAX_FILE_BYTES = 64 * 2**10

_REMEDY = f"fix or remove each {RELEASE_FILE}; list a release with images elsewhere in the spec itself"


class ReleaseSpec(SpecPart):
    """One version of a generative model, represented by images that it generated."""

    name: Name
    version: Annotated[Name, Field(coerce_numbers_to_str=True)] = "1"
    run: Annotated[Name, Field(coerce_numbers_to_str=True, description="the training run, if there are several")] = "1"
    family: Name | None = Field(None, description="for example gan, flow, diffusion")
    images: Uri = Field(description=f"{IMAGE_SET}; in a {RELEASE_FILE} relative to its folder, which is the default")
    groups: KeyPattern | None = Field(
        None,
        description="regular expression whose group names what an image depends on, for example 'prompt_(\\d+)_': "
        "images of one name count as one",
    )

    @property
    def label(self) -> str:
        """Name and version, and the run unless it is the only one, as people write them."""
        return label_of(self.name, self.version, self.run)

    @property
    def maker(self) -> str:
        """Name and version, which attribution names."""
        return f"{self.name}@{self.version}"


def label_of(name: str, version: str, run: str) -> str:
    """A release as people write it: name and version, and the run unless it is the only one.

    >>> label_of("glow", "80", "1"), label_of("glow", "80", "2")
    ('glow@80', 'glow@80#2')
    """
    return f"{name}@{version}" + ("" if run == "1" else f"#{run}")


class ReleasePattern(SpecPart):
    """A folder or prefix of releases, in place of a list."""

    from_: Uri = Field(
        alias="from", description=f"s3://bucket/releases/* or a folder: each sub-folder with a {RELEASE_FILE}"
    )


class FoundReleases(NamedTuple):
    """The releases under a folder or prefix.

    Attributes:
        releases: In the order of their URIs, no two with the same label.
        broken: URI of an unusable file → the reason.
    """

    releases: list[ReleaseSpec]
    broken: dict[str, str]


def scan_releases(pattern: str) -> FoundReleases:
    """The releases that the ``release.yaml`` files of sub-folders describe, and the unusable files.

    Args:
        pattern: A folder or ``s3://`` prefix whose sub-folders are scanned; or one with ``*`` in its last parts, as in
            ``releases/*/v*``, which matches within a folder's name.

    Raises:
        StoreError: The folder or prefix cannot be read.
    """
    root, globs = _split(pattern)
    store = open_store(root)
    places: dict[str, str] = {}
    found = FoundReleases([], {})
    for folder in sorted(_folders(store, globs)):
        uri = store.child_uri(folder + RELEASE_FILE)
        try:
            release = _read(store, folder)
        except ObjectMissingError:  # not the folder of a release
            continue
        except StoreUnavailableError:  # no fault of this file
            raise
        except LayerprintError as error:
            found.broken[uri] = error.found
            continue
        if release.label in places:
            found.broken[uri] = f"{uri}: it describes {release.label}, like {places[release.label]}"
            continue
        places[release.label] = uri
        found.releases.append(release)
    return found


def find_releases(pattern: str) -> list[ReleaseSpec]:
    """The releases under a folder or prefix, if every file there is usable; see `scan_releases`.

    Raises:
        InputError: There is none, two files describe the same release, or some are unusable; it names all of them.
        StoreError: The folder or prefix cannot be read.
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
    """The folder to start from, and the patterns of the folder names below it, level by level.

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
    """The release that a folder's file describes, its images as a full URI."""
    uri = store.child_uri(folder + RELEASE_FILE)
    data = store.get_range(folder + RELEASE_FILE, 0, MAX_FILE_BYTES + 1)
    if not uri.isprintable():
        raise InputError(f"{uri!a}: control characters in its name", _REMEDY)
    content: Any = read_yaml(data, uri, _REMEDY, MAX_FILE_BYTES)
    if not isinstance(content, dict):
        raise InputError(f"{uri}: it contains {type(content).__name__}, not fields", _REMEDY)
    try:
        release = ReleaseSpec.model_validate({"images": ".", **content})
    except ValidationError as error:
        raise InputError(f"{uri}:\n{explain(error)}", _REMEDY) from None
    try:
        return release.model_copy(update={"images": _images_uri(store, folder, release.images)})
    except InputError as error:
        raise InputError(f"{uri}:\n  images: {error.found}", _REMEDY) from None


def _images_uri(store: ObjectStore, folder: str, images: str) -> str:
    """The image set that a release file names, if it is inside the store."""
    if ".." in re.split(r"[/\\]", images) or not images.isprintable():
        raise InputError(f"{images!r} is not a plain path", _REMEDY)
    if not images.startswith("/") and "://" not in images:
        return f"{store.child_uri(folder.removesuffix('/'))}/{'' if images == '.' else images.removeprefix('./')}"
    place, hash_mark, array = images.partition("#")
    absolute = open_store(place).uri
    if not absolute.startswith(f"{store.uri.rstrip('/')}/"):
        raise InputError(f"{absolute} is outside {store.uri}", _REMEDY)
    return absolute + hash_mark + array
