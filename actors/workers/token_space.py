"""Fits the space of patch tokens to a sample of the training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.encoder.config import EncoderConfig
from actors.workers.embed import EmbedSettings, load_encoder, read_squares
from actors.workers.tokens import FittedSpace
from scoring.copies.token_space import DIMS, fit_token_space
from storage.errors import InputError
from storage.image_sets.image_ref import ImageRef, Kind
from storage.image_sets.open import open_reader
from storage.objects.open import open_store

_BATCH = 32


@dataclass(frozen=True, slots=True)
class FitTokenSpace:
    """A space to fit to some images of a set; ``layer`` None: a third of the encoder's depth."""

    store: str
    key: str
    set_uri: str
    kind: Kind
    images: tuple[ImageRef, ...]
    config: EncoderConfig
    layer: int | None
    settings: EmbedSettings


def fit_space(task: FitTokenSpace) -> None:
    """Fit the space and publish it; images that cannot be read are left out.

    Raises:
        InputError: The encoder cannot be loaded, has no such layer, or too few images can be read.
        StoreError: The images or the store cannot be read or written.
    """
    encoder = load_encoder(task.config, task.settings.device, task.settings.threads)
    layer = max(1, round(encoder.depth / 3)) if task.layer is None else task.layer
    squares = read_squares(open_reader(task.set_uri, task.kind), task.images, encoder, task.settings)
    if not squares:
        raise InputError(
            f"{task.set_uri}: none of {len(task.images)} images can be read", "look at the files of this set"
        )
    batches = (np.stack(squares[start : start + _BATCH]) for start in range(0, len(squares), _BATCH))
    tokens = np.concatenate([encoder.patch_tokens(batch, layer) for batch in batches])
    space = fit_token_space(tokens, min(DIMS, tokens.shape[2]))
    fitted = FittedSpace(space, layer, round(tokens.shape[1] ** 0.5))
    open_store(task.store).put_if_absent(task.key, fitted.to_bytes())
