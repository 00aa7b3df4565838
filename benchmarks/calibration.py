"""Simulated audits: false alarms, coverage and detection of the verdicts, beside C_T read the published way.

Run ``python -m benchmarks.calibration [--quick] [--pictures DIR]``; it prints Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from scoring.nearest.in_memory import in_cell_nearest
from scoring.partition.fit import Partition, fit_partition
from scoring.partition.moments import Moments
from scoring.score.effect import effect_size
from scoring.score.layer_score import LayerScore, score_layer
from scoring.score.permutation import LayerSample, permutation_p
from scoring.verdict.copying import copying_verdict
from scoring.verdict.fit import fit_verdict

Floats = NDArray[np.float32]

CT_RULES = {"C_T < 0": 0.0, "C_T < -1.645": -1.645, "C_T < -1.96": -1.96}
FEATURES = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of the simulation."""

    audits: int = 200
    references: int = 20
    train: int = 2000
    held_out: int = 1000
    generated: tuple[int, ...] = (200, 500, 2000)
    shares: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
    spreads: tuple[tuple[float, float], ...] = ((0.05, 1.03), (0.0, 1.03), (0.0, 1.1))
    layers: int = 4
    cells: int = 10
    truth: int = 60_000
    permutations: int = 199
    seed: int = 0


QUICK = Settings(
    audits=8, references=2, train=500, held_out=400, generated=(300,), shares=(0.0, 0.05), truth=4000, permutations=99
)


class Setting(NamedTuple):
    """One kind of release: share of copies, spread of the others, number of images."""

    share: float
    spread: float
    m: int


class Audit(NamedTuple):
    """What one simulated audit said.

    Attributes:
        setting: The release.
        copying: Called copying with nothing allowed.
        copying_over_1: Called copying with 1 % allowed.
        c_t: (L,) C_T of each layer.
        a_covered: (L,) whether the interval of Â holds the true value.
        rate_covered: (L,) whether the interval of the copy rate does.
        fit: The fit verdict.
    """

    setting: Setting
    copying: bool
    copying_over_1: bool
    c_t: tuple[float, ...]
    a_covered: tuple[bool, ...]
    rate_covered: tuple[bool, ...]
    fit: str


class World:
    """A distribution of images: unequal clusters of unequal spread, seen through linear layers that agree in part."""

    def __init__(self, rng: np.random.Generator, layers: int, clusters: int = 12) -> None:
        spectrum = 1 / np.sqrt(1 + np.arange(FEATURES))
        self.weights = rng.dirichlet(np.full(clusters, 2.0))
        self.centres = rng.normal(size=(clusters, FEATURES)) * spectrum
        self.scales = 0.5 * np.exp(rng.normal(0, 0.4, clusters))[:, None] * spectrum
        common = rng.normal(size=(FEATURES, FEATURES))
        own = rng.normal(size=(layers, FEATURES, FEATURES))
        self.maps = [(common + one) / np.sqrt(2 * FEATURES) for one in own]

    def draw(self, rng: np.random.Generator, count: int, spread: float = 1.0) -> Floats:
        """(count, 64) images; ``spread`` widens every cluster."""
        cluster = rng.choice(len(self.weights), count, p=self.weights)
        noise = rng.normal(size=(count, FEATURES))
        return (self.centres[cluster] + spread * self.scales[cluster] * noise).astype(np.float32)


class Distances(NamedTuple):
    """Nearest distances and cells of one set in one layer."""

    distance: NDArray[np.float64]
    cell: NDArray[np.int32]

    def take(self, rows: NDArray[np.intp]) -> Distances:
        """Those of some images."""
        return Distances(self.distance[rows], self.cell[rows])


class Layer:
    """One layer of a reference."""

    def __init__(self, image_map: NDArray[np.float64], train: Floats, cells: int, seed: int) -> None:
        self.image_map = image_map
        seen = self._see(train)
        self.partition: Partition = fit_partition(Moments.of(seen), seen, components=64, cells=cells, seed=seed)
        self.train = self.partition.project(seen)
        self.train_cells = self.partition.assign(self.train)

    def locate(self, images: Floats) -> Distances:
        """Distance to train inside the cell."""
        projected = self.partition.project(self._see(images))
        cell = self.partition.assign(projected)
        near = in_cell_nearest(projected, cell, self.train, self.train_cells, "euclidean")
        return Distances(near.distance, cell)

    def _see(self, images: Floats) -> Floats:
        return (images @ self.image_map).astype(np.float32)


class Reference:
    """A world, a train set drawn from it, the layers, and the true Â of any release."""

    def __init__(self, settings: Settings, seed: Sequence[int]) -> None:
        self.settings = settings
        self.rng = np.random.default_rng(seed)
        self.world = World(self.rng, settings.layers)
        self.train = self.world.draw(self.rng, settings.train)
        self.layers = [Layer(one, self.train, settings.cells, seed[-1]) for one in self.world.maps]
        self.true_p = self.locate(self.world.draw(self.rng, settings.truth))
        self.true_copy = self.locate(self.copies(settings.truth // 4))
        self._others: dict[float, list[Distances]] = {}
        self._truth: dict[tuple[int, float, float, bytes], float] = {}

    def locate(self, images: Floats) -> list[Distances]:
        """In every layer."""
        return [layer.locate(images) for layer in self.layers]

    def copies(self, count: int) -> Floats:
        """Train images, changed by a hundredth of the spread of their cluster."""
        noise = 0.005 * self.rng.normal(size=(count, FEATURES)) / np.sqrt(1 + np.arange(FEATURES))
        return (self.train[self.rng.integers(0, len(self.train), count)] + noise).astype(np.float32)

    def truth(self, layer: int, share: float, spread: float, groups: NDArray[np.int32]) -> float:
        """Â of a layer for endless images of a release, in these groups of cells; ½ by design for an honest one."""
        if (share, spread) == (0.0, 1.0):
            return 0.5
        key = (layer, share, spread, groups.tobytes())
        if key not in self._truth:
            self._truth[key] = self._true_a(layer, share, spread, groups)
        return self._truth[key]

    def _true_a(self, layer: int, share: float, spread: float, groups: NDArray[np.int32]) -> float:
        if spread not in self._others:
            self._others[spread] = self.locate(self.world.draw(self.rng, self.settings.truth, spread))
        p, copy, other = self.true_p[layer], self.true_copy[layer], self._others[spread][layer]
        total = weight = 0.0
        for group in range(int(groups.max()) + 1):
            in_p = p.distance[groups[p.cell] == group]
            parts = [(share, copy), (1 - share, other)]
            mass = [part * float((groups[one.cell] == group).mean()) for part, one in parts]
            above = [_above(in_p, one.distance[groups[one.cell] == group]) for _, one in parts]
            if in_p.size and sum(mass) > 0:
                total += in_p.size * (mass[0] * above[0] + mass[1] * above[1]) / sum(mass)
                weight += in_p.size
        return total / weight


def _above(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    if not p.size or not q.size:
        return 0.5
    zeros = np.zeros(max(p.size, q.size), np.int32)
    return effect_size(p, zeros[: p.size], q, zeros[: q.size]).a_hat if min(p.size, q.size) > 1 else 0.5


def audits_of_reference(settings: Settings, number: int) -> list[Audit]:
    """All audits against one reference."""
    with threadpool_limits(1):
        reference = Reference(settings, [settings.seed, number])
        count = settings.audits // settings.references
        return [audit for _ in range(count) for audit in _one_sample(reference)]


def _one_sample(reference: Reference) -> Iterator[Audit]:
    """Audits of one held-out sample: all shares and sizes from the same draws, the smaller within the larger."""
    settings, rng, most = reference.settings, reference.rng, max(reference.settings.generated)
    p = reference.locate(reference.world.draw(rng, settings.held_out))
    copies, copied = reference.locate(reference.copies(most)), rng.random(most)
    plans = [(1.0, settings.shares, settings.generated)]
    plans += [(spread, (share,), (500 if 500 in settings.generated else most,)) for share, spread in settings.spreads]
    for spread, shares, sizes in plans:
        others = reference.locate(reference.world.draw(rng, most, spread))
        for share in shares:
            q = [_mixed(one, copy, copied < share) for one, copy in zip(others, copies, strict=True)]
            for m in sizes:
                rows = np.arange(m)
                yield _audit(reference, Setting(share, spread, m), p, [one.take(rows) for one in q])


def _mixed(others: Distances, copies: Distances, copied: NDArray[np.bool_]) -> Distances:
    return Distances(
        np.where(copied, copies.distance, others.distance), np.where(copied, copies.cell, others.cell).astype(np.int32)
    )


def _audit(reference: Reference, setting: Setting, p: list[Distances], q: list[Distances]) -> Audit:
    scores: list[LayerScore] = []
    samples: list[LayerSample] = []
    truth: list[float] = []
    for i, layer in enumerate(reference.layers):
        scored = score_layer(i, *p[i], *q[i], layer.partition.centroids)
        scores.append(scored.score)
        truth.append(reference.truth(i, setting.share, setting.spread, scored.groups))
        samples.append(LayerSample(p[i].distance, scored.groups[p[i].cell], q[i].distance, scored.groups[q[i].cell]))
    test = permutation_p(samples, permutations=reference.settings.permutations, seed=int(reference.rng.integers(2**31)))
    return Audit(
        setting,
        copying_verdict(scores, 0.0).copying,
        copying_verdict(scores, 0.01).copying,
        tuple(score.c_t for score in scores if score.c_t is not None),
        tuple(_holds(score, a_hat) for score, a_hat in zip(scores, truth, strict=True)),
        tuple(score.copy.low <= setting.share <= score.copy.high for score in scores if score.copy),
        fit_verdict(scores, test).verdict,
    )


def _holds(score: LayerScore, a_hat: float) -> bool:
    return score.effect is not None and score.effect.low <= a_hat <= score.effect.high


class Row(NamedTuple):
    """Shares over the audits of one setting; coverage is the mean over layers.

    Attributes:
        setting: The release.
        audits: Number of audits.
        copying: Called copying, nothing allowed.
        copying_over_1: Called copying, 1 % allowed.
        c_t: Flagged by each published rule in any layer.
        mean_c_t: Mean C_T over audits and layers.
        a_covered: Coverage of the interval of Â.
        rate_covered: Coverage of the interval of the copy rate.
        closer: Fit verdict "closer than unseen".
        different: Any fit verdict but "no difference seen".
    """

    setting: Setting
    audits: int
    copying: float
    copying_over_1: float
    c_t: dict[str, float]
    mean_c_t: float
    a_covered: float
    rate_covered: float
    closer: float
    different: float


def summarise(audits: Sequence[Audit]) -> list[Row]:
    """One row a setting, in the order of spread, share and m."""

    def order(audit: Audit) -> tuple[float, float, int]:
        return (audit.setting.spread, audit.setting.share, audit.setting.m)

    rows = []
    for _, grouped in groupby(sorted(audits, key=order), key=order):
        group = list(grouped)

        def share(says: Callable[[Audit], float], group: list[Audit] = group) -> float:
            return float(np.mean([says(audit) for audit in group]))

        rows.append(
            Row(
                group[0].setting,
                len(group),
                share(lambda audit: audit.copying),
                share(lambda audit: audit.copying_over_1),
                {name: share(lambda audit, limit=limit: min(audit.c_t) < limit) for name, limit in CT_RULES.items()},  # type: ignore[misc]
                share(lambda audit: float(np.mean(audit.c_t))),
                share(lambda audit: float(np.mean(audit.a_covered))),
                share(lambda audit: float(np.mean(audit.rate_covered))),
                share(lambda audit: audit.fit.startswith("closer")),
                share(lambda audit: not audit.fit.startswith("no difference")),
            )
        )
    return rows


def simulate(settings: Settings, workers: int) -> list[Row]:
    """Run all audits, references side by side."""
    numbers = range(settings.references)
    if workers == 1:
        return summarise([audit for number in numbers for audit in audits_of_reference(settings, number)])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        found = pool.map(audits_of_reference, [settings] * settings.references, numbers)
        return summarise([audit for audits in found for audit in audits])


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    names = ["copies", "spread", "m", "audits", "copying (0 allowed)", "copying (1 % allowed)", *CT_RULES, "mean C_T"]
    names += ["coverage Â", "coverage copy rate", "fit: closer", "fit: any difference"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---:|" * len(names)]
    for row in rows:
        cells = [f"{100 * row.setting.share:g} %", f"×{row.setting.spread:g}", str(row.setting.m), str(row.audits)]
        cells += [_percent(row.copying), _percent(row.copying_over_1), *map(_percent, row.c_t.values())]
        cells += [f"{row.mean_c_t:+.2f}"]
        cells += [_percent(share) for share in (row.a_covered, row.rate_covered, row.closer, row.different)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def draw_curves(rows: Sequence[Row], folder: Path) -> Path:
    """Share of audits flagged against the share of copies, one panel a number of images."""
    mpl.use("Agg")
    from matplotlib.figure import Figure

    plain = [row for row in rows if row.setting.spread == 1.0]
    sizes = sorted({row.setting.m for row in plain})
    figure = Figure(figsize=(4 * len(sizes), 3.6), layout="constrained")
    for axis, m in zip(figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], sizes, strict=True):
        here = [row for row in plain if row.setting.m == m]
        copies = [100 * row.setting.share for row in here]
        axis.plot(copies, [row.copying for row in here], "o-", color="black", label="copying verdict (0 allowed)")
        axis.plot(
            copies, [row.copying_over_1 for row in here], "s-", color="0.5", label="copying verdict (1 % allowed)"
        )
        for name in CT_RULES:
            axis.plot(copies, [row.c_t[name] for row in here], ".--", label=f"{name} in any layer")
        axis.axhline(0.05, color="0.8", linewidth=0.8)
        axis.set(title=f"{m} generated images", xlabel="copies among them, %", ylim=(-0.02, 1.02))
    figure.axes[0].set_ylabel("share of audits flagged")
    figure.axes[-1].legend(fontsize=7)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "calibration.png"
    figure.savefig(path, dpi=120)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small audits")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write detection curves as PNG")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    given = parser.parse_args(arguments)
    rows = simulate(QUICK if given.quick else Settings(), given.workers)
    sys.stdout.write(markdown(rows) + "\n")
    if given.pictures:
        sys.stdout.write(f"\n{draw_curves(rows, given.pictures)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
