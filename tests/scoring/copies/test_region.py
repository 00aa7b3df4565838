"""The copied region on random tokens, of which a known part is copied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from scoring.copies.region import (
    SHARE,
    bounding_box,
    cells,
    copied_regions,
    counted,
    from_hex,
    on_image,
    patch_shares,
    to_hex,
)
from scoring.copies.train_tokens import TrainTokens

SIDE, RIVALS = 6, 300
LEFT = np.zeros((SIDE, SIDE), np.bool_)
LEFT[:, :3] = True


def tokens(count: int, seed: int, dims: int = 8) -> NDArray[np.float16]:
    found = np.random.default_rng(seed).normal(size=(count, SIDE * SIDE, dims))
    return np.asarray(found / np.linalg.norm(found, axis=2, keepdims=True), np.float16)


@pytest.fixture(scope="module")
def others() -> NDArray[np.float16]:
    return tokens(RIVALS, 0)


def half_copied(noise: float = 0.0) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """An image whose left half is that of its source, with some noise."""
    query, source = tokens(2, 1)
    part = LEFT.ravel()
    copied = source[part] + np.random.default_rng(2).normal(0, noise, source[part].shape)
    query[part] = copied / np.linalg.norm(copied, axis=1, keepdims=True)
    return query, source


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_copied_half_is_the_region_in_both(others: NDArray[np.float16], noise: float) -> None:
    found = copied_regions(*half_copied(noise), TrainTokens(others))
    assert overlap(found.image, LEFT) >= 0.9
    assert overlap(found.source, LEFT) >= 0.9


def test_the_shares_are_those_of_a_count_by_hand(others: NDArray[np.float16]) -> None:
    query, source = half_copied(0.3)
    of_image, of_source = patch_shares(query, source, TrainTokens(others))
    wide = [part.astype(np.float64) for part in (query, source, others)]
    for shares, image, other in ((of_image, wide[0], wide[1]), (of_source, wide[1], wide[0])):
        own = (image @ other.T).max(axis=1)
        rivals = np.einsum("tk,nuk->tnu", image, wide[2]).max(axis=2)
        by_hand = (1 + (rivals >= own[:, None]).sum(axis=1)) / (1 + RIVALS)
        assert np.abs(shares.ravel() - by_hand).max() <= 1 / RIVALS  # but for two that are equally near


def test_where_the_part_lies_in_the_source_does_not_matter(others: NDArray[np.float16]) -> None:
    query, source = half_copied()
    order = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)[:, ::-1].ravel()
    found = copied_regions(query, source[order], TrainTokens(others))
    assert overlap(found.image, LEFT) >= 0.9
    assert overlap(found.source, LEFT[:, ::-1]) >= 0.9


def test_repeated_training_images_are_no_rivals(others: NDArray[np.float16]) -> None:
    query, source = half_copied()
    repeated = np.concatenate([others, np.repeat(source[None], 40, axis=0)])
    assert overlap(copied_regions(query, source, TrainTokens(repeated)).image, LEFT) >= 0.9


def test_an_image_that_copies_nothing_has_a_small_region(others: NDArray[np.float16]) -> None:
    shares = []
    for seed in range(20):
        query, source = tokens(2, 100 + seed)
        found = copied_regions(query, source, TrainTokens(others))
        shares += [found.image.mean(), found.source.mean()]
    assert np.mean(shares) < 0.02


def test_too_few_rivals_show_nothing(others: NDArray[np.float16]) -> None:
    few = round(1 / SHARE) - 2
    assert not copied_regions(*half_copied(), TrainTokens(others[:few])).image.any()


def test_patches_that_many_images_have_do_not_count(others: NDArray[np.float16]) -> None:
    """A plain background is in the source, and in many others."""
    query, source = half_copied()
    plain = others.copy()
    for some in (query[None], source[None], plain):
        some[:, ~LEFT.ravel()] = 8**-0.5
    assert overlap(copied_regions(query, source, TrainTokens(plain)).image, LEFT) >= 0.9


def test_patches_must_form_a_square(others: NDArray[np.float16]) -> None:
    query, source = half_copied()
    with pytest.raises(ValueError, match="30 patches are no square"):
        copied_regions(query[:30], source[:30], TrainTokens(others))


def test_one_patch_of_chance_is_smoothed_away() -> None:
    shares = np.full((5, 5), 0.5)
    shares[2, 2] = 0.01
    assert not counted(shares).any()
    shares[1:4, 1:4] = 0.01
    assert counted(shares)[2, 2]


@given(st.integers(1, 9).flatmap(lambda half: arrays(np.bool_, (2 * half, 2 * half))))
def test_a_mask_survives_its_text(mask: NDArray[np.bool_]) -> None:
    found = from_hex(to_hex(mask))
    assert found is not None
    assert np.array_equal(found, mask)


@pytest.mark.parametrize("text", ["", "f", "zz", "f0f0f0", "<script>", "é"])
def test_a_text_that_is_no_mask_is_none(text: str) -> None:
    assert from_hex(text) is None


def test_a_box_is_in_pixels() -> None:
    region = cells(LEFT)
    assert bounding_box(region, 84) == (0, 0, 42, 84)
    assert bounding_box(np.zeros((12, 12), np.bool_), 84) is None


def test_a_mirrored_view_is_brought_back() -> None:
    rows, columns = np.indices((2 * SIDE, 2 * SIDE))
    assert np.array_equal(on_image(LEFT, rows, columns[:, ::-1]), cells(LEFT[:, ::-1]))
