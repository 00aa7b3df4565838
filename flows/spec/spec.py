"""The spec: one YAML file that defines an audit. It is read, checked and resolved here, once."""

from __future__ import annotations

import json
import os
import posixpath
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from actors.encoder.config import DEFAULT_VIEWS, CopySettings, EncoderConfig, Pooling, Precision, ViewName
from flows.spec.cluster import ClusterSpec
from flows.spec.fields import IMAGE_SET, KeyPattern, Name, SpecPart, Uri, explain
from flows.spec.releases import ReleasePattern, ReleaseSpec, find_releases
from flows.spec.yaml_file import MAX_BYTES, read_yaml
from storage.errors import InputError
from storage.objects.open import ObjectMissingError, open_parent

__all__ = [
    "AuditSpec",
    "CopiesSpec",
    "EncoderSpec",
    "GateSpec",
    "ReferenceSpec",
    "ReleaseSpec",
    "ScoringSpec",
    "absolute_uri",
    "checked_spec",
    "load_spec",
    "read_content",
]


class EncoderSpec(SpecPart):
    """The model whose layers embed the images."""

    model: Name = Field(description="any timm model, for example vit_small_patch14_dinov2.lvd142m")
    weights: Uri = Field("hub", description="hub, random, or a path or s3:// URI of a .safetensors or .pth file")
    model_args: dict[str, Any] = Field({}, description="passed to timm.create_model, for example {depth: 6}")
    image_size: int = Field(224, ge=8, le=2048, description="pixels, both sides")
    pooling: Pooling = Field("mean", description="mean (of patch tokens) or cls")
    harmonise: Annotated[str, StringConstraints(pattern=r"^jpeg:([1-9][0-9]?|100)$")] | None = Field(
        None, description="jpeg:QUALITY re-encodes every image of all sets alike first"
    )
    layers: Literal["all"] | list[int] = Field("all", description="all, or a list like [0, 3, 11]")
    precision: Precision = Field(
        "float32", description="of the forward pass: float32, bfloat16 or float16; embeddings stay float32"
    )

    @field_validator("layers")
    @classmethod
    def _layers_make_sense(cls, value: Literal["all"] | list[int]) -> Literal["all"] | list[int]:
        if value != "all" and (not value or min(value) < 0):
            raise ValueError("layers are at least one number, none below 0")
        return value

    @property
    def jpeg_quality(self) -> int | None:
        """The quality of `harmonise`."""
        return int(self.harmonise.removeprefix("jpeg:")) if self.harmonise else None

    def config(self) -> EncoderConfig:
        """The frozen value that workers get."""
        return EncoderConfig(
            model=self.model,
            weights=self.weights,
            model_args=json.dumps(self.model_args, sort_keys=True),
            image_size=self.image_size,
            pooling=self.pooling,
            layers=None if self.layers == "all" else tuple(self.layers),
            harmonise=self.jpeg_quality,
            precision=self.precision,
        )


class ReferenceSpec(SpecPart):
    """The real data set: training images, and held-out images that no model was trained on."""

    name: Name
    train: Uri = Field(description=IMAGE_SET)
    held_out: Uri = Field(description=IMAGE_SET)
    held_out_groups: KeyPattern | None = Field(
        None, description="as `groups` of a release: regular expression whose group names what an image depends on"
    )

    @model_validator(mode="after")
    def _two_sets(self) -> ReferenceSpec:
        if self.train.rstrip("/") == self.held_out.rstrip("/"):
            raise ValueError(
                f"train and held_out are the same set, {self.train}: held-out images must never have been trained on"
            )
        return self


class ScoringSpec(SpecPart):
    """How distances become scores."""

    preset: Literal["default", "meehan", "paper"] = Field(
        "default", description="default; meehan and paper: distances and C_T as published"
    )
    components: int = Field(64, ge=1, le=4096, description="dimensions of the PCA")
    cells: int = Field(10, ge=1, le=10_000, description="cells of k-means")
    seed: int = Field(0, ge=0, lt=2**32)
    search: Literal["auto", "in_cell", "global"] = Field(
        "auto",
        description="nearest training image: in_cell (exact), global (of all, by index), auto (by their number)",
    )

    @model_validator(mode="after")
    def _published_in_cell(self) -> ScoringSpec:
        if self.search == "global" and self.preset != "default":
            raise ValueError(f"the {self.preset} preset searches within cells, as published: set search: in_cell")
        return self


class CopiesSpec(SpecPart):
    """What the copy score looks at."""

    layer: int | None = Field(None, ge=0, description="layer of the patch tokens; left out: a third of the depth")
    views: list[ViewName] = Field(
        list(DEFAULT_VIEWS), min_length=1, description="views in which images are compared; the cost grows with each"
    )

    @field_validator("views")
    @classmethod
    def _views_differ(cls, value: list[ViewName]) -> list[ViewName]:
        if len(set(value)) < len(value):
            raise ValueError("a view is listed twice")
        return value

    def settings(self) -> CopySettings:
        """The frozen value that the stages get."""
        return CopySettings(self.layer, tuple(self.views))


class GateSpec(SpecPart):
    """Limits that a release must keep to pass."""

    max_copy_rate: float = Field(0.0, ge=0.0, lt=1.0, description="share of generated images that may be copies")
    detectable_copy_rate: float = Field(
        0.01, gt=0.0, le=1.0, description="copy rate that the audit must rule out, else it is inconclusive"
    )
    max_rejected: float = Field(0.05, ge=0.0, le=1.0, description="share of a set's images that may be unreadable")


class AuditSpec(SpecPart):
    """The whole spec file."""

    store: Uri = Field(description="folder or s3:// prefix for everything that the audit writes")
    encoder: EncoderSpec
    reference: ReferenceSpec
    releases: list[ReleaseSpec] = Field(
        description="a list; in the file also {from: s3://bucket/releases/*}, see ReleasePattern"
    )
    scoring: ScoringSpec = ScoringSpec()
    copies: CopiesSpec | Literal[False] = Field(
        CopiesSpec(), description="the copy score, which decides the verdict; false: the layers' copy rates decide"
    )
    gate: GateSpec = GateSpec()
    cluster: ClusterSpec | None = Field(None, description="an existing Ray cluster; left out: a Ray on this machine")

    @model_validator(mode="after")
    def _releases_differ(self) -> AuditSpec:
        seen: set[str] = set()
        for release in self.releases:
            if release.label in seen:
                raise ValueError(f"releases: {release.label} is listed twice; give each its own name, version or run")
            seen.add(release.label)
        return self

    @property
    def copy_settings(self) -> CopySettings | None:
        """What the copy score looks at; None where the layers' copy rates decide, as in the published presets."""
        return self.copies.settings() if self.copies and self.scoring.preset == "default" else None

    def release(self, name: str) -> ReleaseSpec:
        """The release of this name or ``name@version``.

        Raises:
            InputError: none or several match.
        """
        matches = [r for r in self.releases if name in (r.label, r.maker, r.name)]
        if len(matches) == 1:
            return matches[0]
        problem = f"is ambiguous: {len(matches)} versions or runs" if matches else "is not in the spec"
        raise InputError(f"--release {name} {problem}", f"use one of: {', '.join(r.label for r in self.releases)}")

    def new_release(self, name: str, version: str, run: str, images: str) -> ReleaseSpec:
        """A release that the spec does not list.

        Raises:
            InputError: the name is not valid.
        """
        try:
            return ReleaseSpec(name=name, version=version, run=run, images=images)
        except ValidationError as error:
            raise InputError(f"{name}@{version}:\n{explain(error)}", "give NAME@VERSION") from None


def load_spec(path: Path | str, harmonise: str | None = None) -> AuditSpec:
    """Read and check a spec file. Relative paths in it are relative to the file's own folder.

    Releases given as a pattern are listed now, so that everything from ``--release`` to a retried flow uses one list,
    whose labels are checked together.

    Args:
        path: The file, or its ``s3://`` URI.
        harmonise: Replaces ``encoder.harmonise``.

    Raises:
        InputError: names each wrong field, its value and what is allowed.
    """
    content = read_content(path)
    if harmonise and isinstance(content.get("encoder"), dict):
        content["encoder"] = {**content["encoder"], "harmonise": harmonise}
    if isinstance(content.get("releases"), dict):
        content["releases"] = find_releases(checked_pattern(path, content["releases"]))
    spec = checked_spec(path, content)
    if not spec.releases:
        raise InputError(f"{path}:\n  releases: List should have at least 1 item (found [])", _REMEDY)
    return spec


def read_content(path: Path | str) -> dict[str, Any]:
    """The fields of a spec file, unchanged except that paths are absolute.

    Raises:
        InputError: there is no such file, or it does not contain fields.
    """
    remote = isinstance(path, str) and "://" in path
    try:
        data = _remote_start(str(path)) if remote else _local_start(Path(path))
    except (FileNotFoundError, ObjectMissingError):
        raise InputError(
            f"there is no spec {path}", "give the path of a YAML file; `layerprint init` writes one"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "give a YAML file") from error
    content = read_yaml(data, f"{path} cannot be read", "give a YAML file")
    if not isinstance(content, dict):
        kind = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path} contains {kind}, not fields", "start from the one that `layerprint init` writes")
    return _with_paths_from(content, str(path).rpartition("/")[0] if remote else Path(path).resolve().parent)


def _local_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _remote_start(uri: str) -> bytes:
    store, key = open_parent(uri)
    return store.get_range(key, 0, MAX_BYTES + 1)


def checked_spec(path: Path | str, content: dict[str, Any]) -> AuditSpec:
    """The spec with these fields.

    Raises:
        InputError: names each wrong field.
    """
    try:
        return AuditSpec.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}:\n{explain(error)}", _REMEDY) from None


def checked_pattern(path: Path | str, releases: dict[str, Any]) -> str:
    """The pattern of the spec's releases.

    Raises:
        InputError: it has none.
    """
    try:
        return ReleasePattern.model_validate(releases).from_
    except ValidationError as error:
        raise InputError(f"{path}:\n{explain(error, 'releases')}", _REMEDY) from None


_REMEDY = "fix these fields; `layerprint init` writes a whole spec with every field explained"


def _with_paths_from(content: dict[str, Any], folder: Path | str) -> dict[str, Any]:
    """Make relative paths absolute; leave everything else, also wrong fields, as it is."""
    resolved = {**content, "store": absolute_uri(content.get("store"), folder)}
    reference = content.get("reference")
    if isinstance(reference, dict):
        paths = {field: absolute_uri(reference[field], folder) for field in ("train", "held_out") if field in reference}
        resolved["reference"] = {**reference, **paths}
    encoder = content.get("encoder")
    if isinstance(encoder, dict) and encoder.get("weights") not in (None, "hub", "random"):
        resolved["encoder"] = {**encoder, "weights": absolute_uri(encoder["weights"], folder)}
    releases = content.get("releases")
    if isinstance(releases, dict) and "from" in releases:
        resolved["releases"] = {**releases, "from": absolute_uri(releases["from"], folder)}
    if isinstance(releases, list):
        resolved["releases"] = [
            {**release, "images": absolute_uri(release["images"], folder)}
            if isinstance(release, dict) and "images" in release
            else release
            for release in releases
        ]
    return {key: value for key, value in resolved.items() if key in content}


def absolute_uri(value: Any, folder: Path | str) -> Any:
    """A relative path made absolute; URIs with a scheme, and anything that is not text, stay.

    >>> absolute_uri("../digits/train/", "s3://bucket/specs")
    's3://bucket/digits/train'
    """
    if not isinstance(value, str) or not value.strip() or "://" in value:
        return value
    path, hash_mark, array = value.strip().partition("#") if ".npz#" in value else (value.strip(), "", "")
    if isinstance(folder, str) and not path.startswith(("/", "~")):
        scheme, _, place = folder.partition("://")
        return f"{scheme}://{posixpath.normpath(f'{place}/{path}')}{hash_mark}{array}"
    return os.path.normpath(Path(folder) / Path(path).expanduser()) + hash_mark + array
