"""What the copy scores of unseen, honest and planted images say of a set-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from flows.results.audit_result import COPYING, INCONCLUSIVE, NO_COPYING
from flows.spec.spec import GateSpec
from scoring.checks.copies_power import smallest_rate_seen
from scoring.verdict.copies import CopiesVerdict, copies_verdict
from scoring.verdict.planted import smallest_rate_called, tail_line

CERTAIN = 0.99
"""At this power or more plain copies must be called copying: a miss is a fault, not chance."""

PLANTED_SHARES = (0.01, 0.05)
KIND_SHARE = 0.05

PLAIN = "re-encoded"
"""The kind of copy that must be found."""

SMALLEST_CLASS = 20
"""Images of a class that are audited as a release of their own."""

_FALSE_CALLS, _SURPRISING = 0.05, 0.01

ANY = (COPYING, NO_COPYING, INCONCLUSIVE)
HONEST = (NO_COPYING, INCONCLUSIVE)
NOT_CLEAN = (COPYING, INCONCLUSIVE)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSet:
    """Copy scores of the distinct images of a set.

    Attributes:
        numbers: (q,) int64, which image of the set each is.
        scores: (q,) float64.
        sources: (q,) int64, the row of the training image that each is most like.
    """

    numbers: NDArray[np.int64]
    scores: NDArray[np.float64]
    sources: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> ScoredSet:
        """Some of the images."""
        return ScoredSet(self.numbers[chosen], self.scores[chosen], self.sources[chosen])


@dataclass(frozen=True)
class Kind:
    """What was found of one kind of copy.

    Attributes:
        name: The kind.
        planted: Number of different copies.
        found: How many of them lie above the line that 1 % of the unseen images pass.
        source_right: How many lie above it and are most like the image that they are a copy of.
        images: Images of the release of which `KIND_SHARE` are such copies.
        verdict: Its verdict.
        listed: Images that it lists.
        listed_right: How many of them are planted.
        smallest_rate: Smallest rate of such copies that is called copying with 80 % probability, with these halves;
            None = not even half a release.
        wanted: The verdicts that are right.
    """

    name: str
    planted: int
    found: int
    source_right: int
    images: int
    verdict: str
    listed: int
    listed_right: int
    smallest_rate: float | None
    wanted: tuple[str, ...]

    @property
    def missed(self) -> int:
        """How many do not lie above the line."""
        return self.planted - self.found

    @property
    def passed(self) -> bool:
        """Whether the verdict is right."""
        return self.verdict in self.wanted


@dataclass(frozen=True)
class CopiesTrial:
    """One artificial release and its verdict.

    Attributes:
        name: What it is made of.
        planted: Copies among its images.
        images: Its distinct images; 0 when it could not be made.
        verdict: The verdict; of several releases how many are called copying.
        at_least: So many images are copies, says the verdict.
        listed: Images that it lists.
        listed_right: How many of them are planted.
        wanted: The verdicts that are right.
        passed: Whether the verdict is right.
        sentence: The verdict in words, or why there is none.
    """

    name: str
    planted: int
    images: int
    verdict: str
    at_least: int | None
    listed: int | None
    listed_right: int | None
    wanted: tuple[str, ...]
    passed: bool
    sentence: str


@dataclass(frozen=True)
class CopiesSelfCheck:
    """What this set-up says of honest and of planted releases.

    Attributes:
        trials: Releases without copies, then with copies of all kinds.
        kinds: The kinds of copies, one by one.
        smallest_rate: Smallest rate of copies of all kinds together that is called copying with 80 % probability.
        detectable: That of copies that no unseen image resembles, with all held-out images, by the number of generated
            images; None = no rate.
        held_out_images: Distinct held-out images.
        unseen_images: Those that judge here.
        altered_images: Images that were altered and compared with the training images.
        views: Views of each of them.
    """

    trials: list[CopiesTrial]
    kinds: list[Kind]
    smallest_rate: float | None
    detectable: dict[int, float | None]
    held_out_images: int
    unseen_images: int
    altered_images: int
    views: int

    @property
    def passed(self) -> bool:
        """Whether every verdict is right."""
        return all(trial.passed for trial in self.trials) and all(kind.passed for kind in self.kinds)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        kinds = [{**asdict(kind), "missed": kind.missed, "passed": kind.passed} for kind in self.kinds]
        return {**asdict(self), "kinds": kinds, "passed": self.passed}


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges releases by the unseen half of the held-out images.

    Attributes:
        unseen: (n,) float64, the scores of the unseen half.
        release: The other half.
        gate: The limits.
        seed: Seed of everything that is drawn.
    """

    unseen: NDArray[np.float64]
    release: ScoredSet
    gate: GateSpec
    seed: int

    def verdict(self, scores: NDArray[np.float64]) -> CopiesVerdict:
        """The verdict on a release with these scores."""
        return copies_verdict(
            self.unseen,
            scores,
            max_copy_rate=self.gate.max_copy_rate,
            detectable=self.gate.detectable_copy_rate,
        )

    def placebo(self, name: str, images: ScoredSet) -> CopiesTrial:
        """A release without copies."""
        return _trial(name, 0, HONEST, self.verdict(images.scores))

    def classes(self, classes: Sequence[str]) -> CopiesTrial:
        """Every class of the release half as a release; ``classes`` holds the class of each image of the half."""
        name, sizes = "one class only", {each: classes.count(each) for each in sorted(set(classes))}
        if len(sizes) < 2:
            return _skipped(name, "skipped: the folders of the held-out images name no classes")
        large = [each for each, size in sizes.items() if size >= SMALLEST_CLASS]
        if not large:
            return _skipped(name, f"skipped: no class has {SMALLEST_CLASS} images in the half that is audited")
        labels = np.array(classes)
        called = [each for each in large if self.verdict(self.release.scores[labels == each]).verdict == COPYING]
        chance = float(binom.sf(len(called) - 1, len(large), _FALSE_CALLS)) if called else 1.0
        which = f": {', '.join(called)}" if called else ""
        return CopiesTrial(
            name=name,
            planted=0,
            images=sum(sizes[each] for each in large),
            verdict=f"{len(called)} of {len(large)} called",
            at_least=None,
            listed=None,
            listed_right=None,
            wanted=HONEST,
            passed=not called or (len(large) > 1 and chance > _SURPRISING),
            sentence=f"{len(called)} of {len(large)} releases of one class are called copying{which}",
        )

    def planted(self, name: str, copies: ScoredSet, canvases: NDArray[np.int64], share: float) -> CopiesTrial:
        """A release of which this share are copies of several kinds; the images that they lie on are left out."""
        scores, count = self._release(copies, canvases, share)
        found = self.verdict(scores)
        wanted = NOT_CLEAN if share > self.gate.detectable_copy_rate else ANY
        return _trial(name, count, wanted, found)

    def kind(self, name: str, copies: ScoredSet, trained: NDArray[np.int64], canvases: NDArray[np.int64]) -> Kind:
        """What is found of one kind.

        Args:
            name: The kind.
            copies: Its copies.
            trained: The row of the training image that each number of ``copies`` is made of.
            canvases: The row of the image of the release half that each lies on.
        """
        above = copies.scores > tail_line(self.unseen)
        right = copies.sources == trained[copies.numbers]
        scores, count = self._release(copies, canvases, KIND_SHARE)
        found = self.verdict(scores)
        return Kind(
            name=name,
            planted=len(copies),
            found=int(above.sum()),
            source_right=int((above & right).sum()),
            images=len(scores),
            verdict=found.verdict,
            listed=int(found.listed.sum()),
            listed_right=int(found.listed[:count].sum()),
            smallest_rate=self.smallest_rate(copies),
            wanted=self._wanted(name, count, len(scores)),
        )

    def smallest_rate(self, copies: ScoredSet) -> float | None:
        """The smallest rate of such copies that is called copying with 80 % probability, with these halves."""
        return smallest_rate_called(
            self.unseen,
            self.release.scores,
            copies.scores,
            max_copy_rate=self.gate.max_copy_rate,
            detectable=self.gate.detectable_copy_rate,
            seed=self.seed,
        )

    def _wanted(self, name: str, planted: int, images: int) -> tuple[str, ...]:
        """Plain copies must be called where they surely can be; of other kinds it is measured whether they are."""
        if name != PLAIN:
            return ANY
        surely = smallest_rate_seen(len(self.unseen), images, self.gate.max_copy_rate, power=CERTAIN)
        return (COPYING,) if surely is not None and planted / images >= surely else ANY

    def _release(self, copies: ScoredSet, canvases: NDArray[np.int64], share: float) -> tuple[NDArray[np.float64], int]:
        """Scores of a release of which a share are copies, which come first; and how many they are."""
        images = max(1, min(len(self.release), int(len(copies) / share)))
        count = min(len(copies), math.ceil(share * images))
        others = ~np.isin(self.release.numbers, canvases[copies.numbers[:count]])
        rng = np.random.default_rng(self.seed)
        honest = rng.permutation(self.release.scores[others])[: images - count]
        return np.concatenate([copies.scores[:count], honest]), count


def _trial(name: str, planted: int, wanted: tuple[str, ...], found: CopiesVerdict) -> CopiesTrial:
    """Judge a release whose first images are the planted ones."""
    return CopiesTrial(
        name=name,
        planted=planted,
        images=found.counts.m,
        verdict=found.verdict,
        at_least=found.counts.at_least,
        listed=int(found.listed.sum()),
        listed_right=int(found.listed[:planted].sum()),
        wanted=wanted,
        passed=found.verdict in wanted,
        sentence=found.sentence,
    )


def _skipped(name: str, why: str) -> CopiesTrial:
    return CopiesTrial(name, 0, 0, "–", None, None, None, ANY, True, why)
