from __future__ import annotations

import hashlib
import io
from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu
from sklearn.datasets import load_digits

from flows.demo.data import (
    PLANTED_SHARE,
    DemoMaterial,
    DemoRelease,
    build_demo_material,
    grey,
    png_bytes,
    split_digits,
    write_png_set,
)
from flows.demo.generators import Digits, PlantedCopies, VaeGenerator


@pytest.fixture(scope="module")
def material(slow: None) -> DemoMaterial:
    return build_demo_material(0)


def release(material: DemoMaterial, name: str) -> DemoRelease:
    return next(entry for entry in material.releases if entry.name == name)


def rows(digits: Digits) -> set[bytes]:
    return {digit.tobytes() for digit in digits}


def digest(digits: Digits) -> str:
    written: dict[str, bytes] = {}
    write_png_set(digits, written.__setitem__)
    return hashlib.sha256(repr(sorted(written.items())).encode()).hexdigest()


def test_the_parts_are_disjoint_and_hold_every_digit(material: DemoMaterial) -> None:
    parts = [rows(part) for part in material.split[::2]]
    assert all(first.isdisjoint(second) for first, second in combinations(parts, 2))
    assert set().union(*parts) == rows(load_digits().images.astype(np.uint8))


def test_images_keep_their_labels_and_every_part_its_share_of_each(material: DemoMaterial) -> None:
    bunch = load_digits()
    label_of = dict(zip((i.tobytes() for i in bunch.images.astype(np.uint8)), bunch.target, strict=True))
    split = material.split
    for digits, labels in zip(split[::2], split[1::2], strict=True):
        assert [label_of[digit.tobytes()] for digit in digits] == labels.tolist()
        expected = np.bincount(bunch.target) * len(labels) / len(bunch.target)
        assert np.abs(np.bincount(labels) - expected).max() < 3


def test_the_parts_are_not_runs_of_the_writers_order(material: DemoMaterial) -> None:
    position = {digit.tobytes(): k for k, digit in enumerate(load_digits().images.astype(np.uint8))}
    for part in material.split[::2]:
        positions = [position[digit.tobytes()] for digit in part]
        assert abs(np.mean(positions) / len(position) - 0.5) < 4 * np.sqrt(1 / 12 / len(part))


def test_another_seed_makes_another_split() -> None:
    assert rows(split_digits(0).train) != rows(split_digits(1).train)
    assert np.array_equal(split_digits(1).train, split_digits(1).train)


@pytest.mark.parametrize("name", ["unseen", "kde_wide", "mixture", "kde_tiny"])
def test_equal_seeds_give_equal_bytes_and_batches_differ(material: DemoMaterial, name: str) -> None:
    again = release(build_demo_material(0), name)
    first = release(material, name).sample(40, 0)
    fresh = release(material, name).sample(40, 1)
    assert digest(first) == digest(again.sample(40, 0)) != digest(fresh)
    assert first.shape == (40, 8, 8)
    assert first.dtype == np.uint8
    assert set(np.unique(np.concatenate([first, fresh]))) <= set(range(17))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_vae_and_its_planted_copies_repeat_on_any_number_of_threads(material: DemoMaterial, seed: int) -> None:
    train, drawn = material.split.train, []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.rand(count)
            vae = VaeGenerator(train, latent=4, steps=20, seed=seed)
            drawn.append(digest(PlantedCopies(vae, train, share=0.1, seed=seed).sample(40, 0)))
    finally:
        torch.set_num_threads(threads)
    assert drawn[0] == drawn[1] != digest(PlantedCopies(vae, train, share=0.1, seed=seed).sample(40, 1))


@pytest.mark.usefixtures("slow")
def test_only_the_memorizer_and_the_planted_release_come_closer_than_unseen_digits(
    material: DemoMaterial,
) -> None:
    train = material.split.train.reshape(-1, 64).astype(float)

    def nearest(digits: Digits) -> NDArray[np.float64]:
        distances: NDArray[np.float64] = cdist(digits.reshape(-1, 64).astype(float), train).min(1)
        return distances

    close = np.quantile(nearest(material.split.held_out), 0.01)
    share = {entry.name: (nearest(entry.batch(0)) < close).mean() for entry in material.releases}
    assert share["kde_tiny"] > 0.9
    assert share["planted"] == pytest.approx(PLANTED_SHARE, abs=0.01)
    assert max(share[name] for name in ("kde_wide", "mixture", "vae")) < 0.01
    unseen, held_out = nearest(material.split.unseen), nearest(material.split.held_out)
    assert mannwhitneyu(unseen, held_out).pvalue > 0.01


def test_the_planted_release_holds_exactly_its_share_of_copies(material: DemoMaterial) -> None:
    train, planted = rows(material.split.train), release(material, "planted")
    for number in (0, 1):
        digits = planted.batch(number)
        assert sum(digit.tobytes() in train for digit in digits) == round(PLANTED_SHARE * planted.size)
        assert len(rows(digits)) == planted.size
    base = release(material, "vae").batch(0)
    assert not rows(base) & train


def test_the_batches_of_unseen_digits_are_disjoint(material: DemoMaterial) -> None:
    unseen = release(material, "unseen")
    assert not rows(unseen.batch(0)) & rows(unseen.batch(1))
    assert rows(unseen.batch(0)) | rows(unseen.batch(1)) == rows(material.split.unseen)
    with pytest.raises(ValueError, match="batch 2 has 0"):
        unseen.batch(2)
    with pytest.raises(ValueError, match="batch 0 has 220"):
        unseen.sample(221, 0)


def test_a_png_gives_its_digit_back(material: DemoMaterial) -> None:
    digit = material.split.train[0]
    with Image.open(io.BytesIO(png_bytes(digit))) as image:
        assert (image.format, image.mode, image.size, image.info) == ("PNG", "L", (8, 8), {})
        pixels = np.asarray(image)
    np.testing.assert_array_equal(pixels, grey(digit))
    np.testing.assert_array_equal(np.rint(pixels / 255 * 16), digit)


def test_a_set_is_written_under_numbered_keys(material: DemoMaterial) -> None:
    written: list[tuple[str, bytes]] = []
    write_png_set(material.split.train[:2], lambda key, content: written.append((key, content)), "digits/train/")
    assert [key for key, _ in written] == ["digits/train/00000.png", "digits/train/00001.png"]
    assert written[1][1] == png_bytes(material.split.train[1])
