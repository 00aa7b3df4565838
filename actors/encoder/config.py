"""The configuration and the facts of an encoder; free of torch, so that the driver can import it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

Pooling = Literal["mean", "cls"]
Precision = Literal["float32", "bfloat16", "float16"]


ViewName = Literal[
    "as it is",
    "mirrored",
    "shifted",
    "turned left",
    "turned right",
    "upside down",
    "upside down, mirrored",
    "turned left, mirrored",
    "turned right, mirrored",
]
"""Views in which an image is compared with the training images, see `actors.encoder.views`."""

DEFAULT_VIEWS: tuple[ViewName, ...] = ("as it is", "mirrored", "shifted")


@dataclass(frozen=True, slots=True)
class CopySettings:
    """What the copy score looks at.

    Attributes:
        layer: The layer of the patch tokens; None: a third of the encoder's depth.
        views: Views of generated and held-out images.
    """

    layer: int | None
    views: tuple[ViewName, ...]


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The requested encoder; the spec documents each field.

    ``harmonise`` is the JPEG quality at which every image is first re-encoded, None for no re-encoding. ``model_args``
    is a JSON object, so that a configuration can be hashed and sent. ``weights`` is ``hub``, ``random``, a path or an
    s3:// URI. ``layers`` is None for all. ``precision`` is that of the matrix products; embeddings are always float32.
    """

    model: str
    weights: str
    model_args: str = "{}"
    image_size: int = 224
    pooling: Pooling = "mean"
    layers: tuple[int, ...] | None = None
    harmonise: int | None = None
    seed: int = 0
    precision: Precision = "float32"


def unusual(precision: Precision) -> dict[str, str]:
    """The precision as a part of a digest; float32 adds nothing, so that older digests stay.

    >>> unusual("float32"), unusual("bfloat16")
    ({}, {'precision': 'bfloat16'})
    """
    return {} if precision == "float32" else {"precision": precision}


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """The resolved encoder: everything that decides its embeddings, and the digest of all that.

    ``dims`` is the vector length of each used layer, ``names`` its name.
    """

    digest: str
    weights_digest: str
    dims: dict[int, int]
    names: dict[int, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    image_size: int
    pooling: str
    model: str
    harmonise: int | None = None
    precision: Precision = "float32"

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> EncoderFacts:
        fields = json.loads(text)
        for name in ("dims", "names"):
            fields[name] = {int(layer): value for layer, value in fields[name].items()}
        for name in ("mean", "std"):
            fields[name] = tuple(fields[name])
        return cls(**fields)
