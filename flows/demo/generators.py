"""Generators fitted on the training digits of the demo, from a plain memorizer to honest ones.

A generator is fitted at its first draw, so that a demo whose images exist already fits nothing. Each batch number is an
independent draw: equal generator, digits, seed and batch give equal images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

LEVELS = 16
"""Highest native grey level: a UCI digit's pixel counts the set bits of a 4×4 block."""

SIDE = 8
"""Width and height of a digit in pixels."""

Digits = NDArray[np.uint8]
"""Native digits: (n, 8, 8) uint8, grey levels 0..16."""


def to_levels(pixels: NDArray[np.floating]) -> Digits:
    """Round real-valued pixels to the native grey levels.

    Args:
        pixels: (n, 64) or (n, 8, 8) floating, in units of native grey levels.

    Returns:
        (n, 8, 8) uint8, 0..16.

    >>> to_levels(np.full((1, 64), 16.7)).max()
    np.uint8(16)
    """
    levels: Digits = np.clip(np.rint(pixels), 0, LEVELS).astype(np.uint8)
    return levels.reshape(-1, SIDE, SIDE)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread: the order of summation, and so the last bit of a fit, depends on the number of threads.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


class Generator(Protocol):
    """A generator of digits."""

    def sample(self, count: int, batch: int) -> Digits:
        """Draw `count` digits, (count, 8, 8) uint8 0..16; different batches are independent."""


def batch_rng(seed: int, batch: int) -> np.random.RandomState:
    """The random state of one batch (scikit-learn accepts the legacy class only).

    >>> batch_rng(0, 1).rand() == batch_rng(0, 1).rand() != batch_rng(0, 2).rand()
    True
    """
    return np.random.RandomState(np.random.SeedSequence([seed, batch]).generate_state(1))


class KernelDensityGenerator:
    """A Gaussian kernel on every training digit; the bandwidth decides whether it copies.

    Args:
        train: (n, 8, 8) uint8, 0..16.
        bandwidth: Standard deviation of the kernel, in grey levels.
        seed: Seed of the draws.
    """

    def __init__(self, train: Digits, *, bandwidth: float, seed: int) -> None:
        self.train, self.bandwidth, self.seed = train, bandwidth, seed

    @cached_property
    def density(self) -> KernelDensity:
        """The fitted density over the 64 pixels."""
        return KernelDensity(bandwidth=self.bandwidth).fit(self.train.reshape(len(self.train), -1))

    def sample(self, count: int, batch: int) -> Digits:
        """Draw `count` digits."""
        with one_thread():
            pixels = self.density.sample(count, random_state=batch_rng(self.seed, batch))
        return to_levels(pixels)


class MixtureGenerator:
    """A Gaussian mixture on the leading principal components, with isotropic noise for the remaining ones.

    The floor of the covariances keeps components from collapsing onto single digits.

    Args:
        train: (n, 8, 8) uint8, 0..16.
        clusters: Mixture components.
        dimensions: Principal components kept.
        floor: Added to the diagonals of the covariances, in squared grey levels.
        seed: Seed of the fit and of the draws.
    """

    def __init__(self, train: Digits, *, clusters: int, dimensions: int, floor: float, seed: int) -> None:
        self.train, self.seed = train, seed
        self.clusters, self.dimensions, self.floor = clusters, dimensions, floor

    @cached_property
    def fitted(self) -> tuple[PCA, GaussianMixture]:
        """The principal components of the training digits, and the mixture of their projections."""
        pixels = self.train.reshape(len(self.train), -1).astype(np.float64)
        projection = PCA(self.dimensions, svd_solver="full").fit(pixels)
        mixture = GaussianMixture(self.clusters, reg_covar=self.floor, random_state=self.seed)
        return projection, mixture.fit(projection.transform(pixels))

    def sample(self, count: int, batch: int) -> Digits:
        """Draw `count` digits, in random order of the components."""
        rng = batch_rng(self.seed, batch)
        with one_thread():
            projection, mixture = self.fitted
            projected, _ = mixture.set_params(random_state=rng).sample(count)
            pixels = projection.inverse_transform(rng.permutation(projected))
        return to_levels(pixels + rng.normal(0.0, np.sqrt(projection.noise_variance_), pixels.shape))


class _VaeNetwork(nn.Module):
    """Two small perceptrons around a Gaussian latent; the decoder returns the logit of a set bit per pixel."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        pixels, width = SIDE * SIDE, 128
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.SiLU(), nn.Linear(width, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, pixels))

    def loss(self, share: Tensor, noise: Tensor) -> Tensor:
        """Negative evidence bound per image; `share` is pixels / 16, the observed share of set bits."""
        mean, log_variance = self.encoder(share).chunk(2, dim=1)
        logits = self.decoder(mean + noise * torch.exp(log_variance / 2))
        bits = nn.functional.binary_cross_entropy_with_logits(logits, share, reduction="none").sum(1)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        bound: Tensor = (LEVELS * bits + divergence).mean()
        return bound


class VaeGenerator:
    """A small variational autoencoder with a binomial likelihood over the 16 bits behind a pixel.

    Args:
        train: (n, 8, 8) uint8, 0..16.
        latent: Latent dimensions.
        steps: Optimizer steps of 100 images.
        seed: Seed of the fit and of the draws.

    Source:
        Kingma & Welling 2014 (arXiv 1312.6114), eq. 3.
    """

    def __init__(self, train: Digits, *, latent: int, steps: int = 1500, seed: int) -> None:
        self.train, self.latent, self.steps, self.seed = train, latent, steps, seed

    @cached_property
    def network(self) -> _VaeNetwork:
        """The trained network."""
        noise = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _VaeNetwork(self.latent)
        share = torch.from_numpy(self.train.reshape(len(self.train), -1)).float() / LEVELS
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        for _ in range(self.steps):
            batch = share[torch.randint(len(share), (100,), generator=noise)]
            optimizer.zero_grad()
            torch.autograd.backward(network.loss(batch, torch.randn(len(batch), self.latent, generator=noise)))
            optimizer.step()
        return network

    def sample(self, count: int, batch: int) -> Digits:
        """Decode `count` draws of the prior and observe each pixel's 16 bits."""
        rng = batch_rng(self.seed, batch)
        latent = torch.from_numpy(rng.standard_normal((count, self.latent)).astype(np.float32))
        with one_thread():
            decoder = self.network.decoder
            with torch.no_grad():
                share = decoder(latent).sigmoid().double().numpy()
        return to_levels(rng.binomial(LEVELS, share).astype(np.float64))


class UnseenDigits:
    """Real digits that nothing was trained on, in two batches of different digits.

    Args:
        digits: (n, 8, 8) uint8, 0..16; the first half is batch 0, the second batch 1.
    """

    def __init__(self, digits: Digits) -> None:
        self.halves = np.array_split(digits, 2)

    def sample(self, count: int, batch: int) -> Digits:
        """The first `count` digits of one half.

        Raises:
            ValueError: there is no such batch, or it has fewer than `count` digits.
        """
        held = len(self.halves[batch]) if batch in (0, 1) else 0
        if count > held:
            raise ValueError(f"batch {batch} has {held} unseen digits, {count} were requested")
        return self.halves[batch][:count]


class PlantedCopies:
    """Draws of another generator, a share of them replaced by exact copies of training digits.

    Args:
        base: The generator of the other digits.
        train: (n, 8, 8) uint8, 0..16; copied without repetition.
        share: Share of copies in every batch.
        seed: Seed of the choice and the positions of the copies.
    """

    def __init__(self, base: Generator, train: Digits, *, share: float, seed: int) -> None:
        self.base, self.train, self.share, self.seed = base, train, share, seed

    def sample(self, count: int, batch: int) -> Digits:
        """Draw `count` digits, `round(share * count)` of them copies."""
        digits = self.base.sample(count, batch).copy()
        rng, copies = batch_rng(self.seed, batch), round(self.share * count)
        positions = rng.choice(count, copies, replace=False)
        digits[positions] = self.train[rng.choice(len(self.train), copies, replace=False)]
        return digits
