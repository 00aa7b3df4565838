"""The views of an image."""

from __future__ import annotations

import numpy as np
import pytest

from actors.encoder.config import DEFAULT_VIEWS
from actors.encoder.views import VIEWS, view_of

SIDE, PATCH = 28, 14


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)


def test_all_symmetries_are_there_once(images: np.ndarray) -> None:
    turned = {view_of(images, name, PATCH).tobytes() for name in VIEWS if name != "shifted"}
    symmetries = {np.rot90(each, k, axes=(1, 2)).tobytes() for each in (images, images[:, :, ::-1]) for k in range(4)}
    assert turned == symmetries
    assert len(symmetries) == 8


def test_a_shifted_patch_is_half_of_two(images: np.ndarray) -> None:
    moved = view_of(images, "shifted", PATCH)
    assert moved.shape == images.shape
    assert np.array_equal(moved[:, : SIDE - 7, : SIDE - 7], images[:, 7:, 7:])
    assert (moved[:, :, SIDE - 7 :] == images[:, [*range(7, SIDE), *[SIDE - 1] * 7], -1:]).all()


def test_the_default_views_exist() -> None:
    assert set(DEFAULT_VIEWS) <= set(VIEWS)
