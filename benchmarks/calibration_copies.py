"""Simulated audits by the copy score: false alarms, coverage and lists where images are not independent or not alike.

    python -m benchmarks.calibration_copies [--quick] [--workers 2]

Images are made of tokens, as the score sees them: nine of a class at their places, with what is the image's own.
Everything is computed as an audit does: token evidence against the training images, scale, near-duplicates, one image
of each group, verdict and list. It prints Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from scoring.copies.copy_score import CopyScale
from scoring.copies.evidence import copy_evidence
from scoring.copies.groups import alike, alike_ratio, region_means, sizes
from scoring.copies.train_tokens import TrainTokens
from scoring.copies.units import Units
from scoring.verdict.copies import CopiesVerdict, copies_verdict

Tokens = NDArray[np.float16]
Raw = NDArray[np.float64]

PATCHES, DIMS, CLASSES = 9, 8, 10
SAVED_ANEW, COPIED = 0.08, 0.25
"""Noise of a picture that is saved again, and of a copy, as a share of the image's own."""


class Kind(NamedTuple):
    """What releases are like, and what they are compared with.

    Attributes:
        name: In words.
        copies: Share of the release's pictures that are copies.
        repeats: Images of each picture of a release, each saved anew.
        held_out_repeats: The same of held-out images.
        in_train: Images of each of a tenth of the training pictures, each saved anew; copies are copies of these.
        tails: Degrees of freedom of the spread of images; 0: all images are spread alike.
        shift: How much wider held-out images are spread than the release's; below 0: less wide.
        classes: Classes of the release.
        grouped: Whether near-duplicates count once, as in an audit.
    """

    name: str
    copies: float = 0.0
    repeats: int = 1
    held_out_repeats: int = 1
    in_train: int = 1
    tails: int = 0
    shift: float = 0.0
    classes: int = CLASSES
    grouped: bool = True


KINDS = (
    Kind("independent images"),
    Kind("groups of 10", repeats=10),
    Kind("groups of 10, each image counted", repeats=10, grouped=False),
    Kind("60 pictures 5 times", repeats=5),
    Kind("held-out images 5 times", held_out_repeats=5),
    Kind("repeated in train 10 times", in_train=10),
    Kind("heavy tails", tails=3),
    Kind("one class", classes=1),
    Kind("three classes", classes=3),
    Kind("held-out 10 % wider", shift=0.1),
    Kind("held-out 10 % narrower", shift=-0.1),
    Kind("independent images", copies=0.02),
    Kind("independent images", copies=0.1),
    Kind("groups of 5", copies=0.2, repeats=5),
    Kind("repeated in train 10 times", copies=0.1, in_train=10),
    Kind("heavy tails", copies=0.1, tails=3),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of the simulation: images, and audits a kind."""

    references: int = 8
    audits: int = 25
    train: int = 400
    held_out: int = 300
    generated: int = 300
    seed: int = 0


QUICK = Settings(references=1, audits=2, train=120, held_out=110, generated=60)


class Audit(NamedTuple):
    """What one audit said.

    Attributes:
        verdict: The verdict.
        low: Lower bound of the rate of copies.
        high: Upper bound of the rate of copies that pass its line.
        share: Share of copies among the release's groups.
        passed: Share of copies that pass the line.
        at_least_wrong: More groups are said to be copies than are, or more files.
        false_share: Of the listed images.
        listed: Share of the copies that are listed; None without copies.
        units: Groups of the release.
    """

    verdict: str
    low: float
    high: float
    share: float
    passed: float
    at_least_wrong: bool
    false_share: float
    listed: float | None
    units: int


class World:
    """Images of classes: at each place tokens like those of the class, with what is the image's own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.centres = rng.normal(size=(CLASSES, PATCHES, DIMS))
        self.own = np.exp(rng.normal(0, 0.3, CLASSES))

    def draw(
        self, rng: np.random.Generator, count: int, kind: Kind, spread: float = 1.0, classes: int = CLASSES
    ) -> Raw:
        """Pictures (count, 9, 8), not yet of length 1."""
        which = rng.integers(classes, size=count)
        wide = spread * self.own[which]
        if kind.tails:
            wide = wide * np.sqrt(kind.tails / rng.chisquare(kind.tails, count))
        return np.asarray(self.centres[which] + wide[:, None, None] * rng.normal(size=(count, PATCHES, DIMS)))


def repeated(rng: np.random.Generator, pictures: Raw, times: int) -> Raw:
    """Every picture so many times, each saved anew."""
    if times == 1:
        return pictures
    again = np.repeat(pictures, times, axis=0)
    return np.asarray(again + SAVED_ANEW * rng.normal(size=again.shape))


def tokens(images: Raw) -> Tokens:
    """Images as tokens of length 1."""
    return np.asarray(images / np.linalg.norm(images, axis=2, keepdims=True), np.float16)


class Scored(NamedTuple):
    """Pictures, each saved several times: a row a picture, a column an image; and what an audit knows of them."""

    scores: NDArray[np.float64]
    nearest: NDArray[np.float64]
    unrelated: NDArray[np.float64]
    tokens: Tokens

    def some(self, pictures: NDArray[np.int64], images: int) -> Scored:
        """The first images of some pictures, one after the other."""
        scores, nearest, unrelated = (each[pictures, :images].ravel() for each in self[:3])
        return Scored(scores, nearest, unrelated, self.tokens[pictures, :images].reshape(-1, PATCHES, DIMS))

    def groups(self, ratio: float) -> NDArray[np.int64]:
        """Near-duplicates."""
        return alike(region_means(self.tokens), lambda places: self.tokens[places], self.unrelated, ratio)


def together(one: Scored, other: Scored) -> Scored:
    """The images of both."""
    scores, nearest, unrelated = (np.concatenate(both) for both in zip(one[:3], other[:3], strict=True))
    return Scored(scores, nearest, unrelated, np.concatenate([one.tokens, other.tokens]))


class Reference:
    """Training images of a kind, the scale that they set, and the pictures that every audit divides anew.

    Where held-out images are like those of a release, both come from the same pictures, so that audits are as good as
    independent.
    """

    def __init__(self, settings: Settings, kind: Kind, rng: np.random.Generator) -> None:
        self.kind, self.rng = kind, rng
        world = World(rng)
        often = settings.train // 10 if kind.in_train > 1 else 0
        sources = world.draw(rng, settings.train, kind)
        images = np.concatenate([repeated(rng, sources[:often], kind.in_train), sources[often:]])
        self.train = TrainTokens(tokens(images))
        own = np.sort(rng.choice(len(images), min(len(images), 200), replace=False))
        self.scale = CopyScale.of(copy_evidence([self.train.tokens[own]], self.train, own))
        self.pictures, self.unseen = settings.generated // kind.repeats, settings.held_out // kind.held_out_repeats
        alone = kind.shift or kind.classes < CLASSES
        of_release = world.draw(rng, self.pictures + (0 if alone else self.unseen), kind, classes=kind.classes)
        self.honest = self._score(of_release, max(kind.repeats, kind.held_out_repeats))
        self.others = None
        if alone:
            self.others = self._score(world.draw(rng, 2 * self.unseen, kind, 1 + kind.shift), kind.held_out_repeats)
        self.copies = None
        if kind.copies:
            copied = sources[:often] if often else sources
            made = copied[rng.integers(len(copied), size=self.pictures)]
            self.copies = self._score(made + COPIED * rng.normal(size=made.shape), kind.repeats)

    def _score(self, pictures: Raw, times: int) -> Scored:
        seen = tokens(repeated(self.rng, pictures, times))
        evidence = copy_evidence([seen], self.train)
        values = (self.scale.score(evidence), evidence.nearest, evidence.unrelated)
        scores, nearest, unrelated = (each.reshape(-1, times) for each in values)
        return Scored(scores, nearest, unrelated, seen.reshape(-1, times, PATCHES, DIMS))

    def audit(self) -> Audit:
        """One release, and its held-out images."""
        kind, rng, copied = self.kind, self.rng, 0
        order = rng.permutation(len(self.honest.scores))
        release = self.honest.some(order[: self.pictures], kind.repeats)
        if self.others is None:
            held_out = self.honest.some(order[self.pictures :], kind.held_out_repeats)
        else:
            held_out = self.others.some(rng.permutation(2 * self.unseen)[: self.unseen], kind.held_out_repeats)
        if self.copies is not None:
            copied = int(rng.binomial(self.pictures, kind.copies))
            chosen = self.copies.some(rng.permutation(self.pictures)[:copied], kind.repeats)
            release = together(chosen, self.honest.some(order[: self.pictures - copied], kind.repeats))
        units, groups = None, np.arange(len(release.scores))
        if kind.grouped:
            known = (held_out.nearest, held_out.unrelated, len(self.train))
            of_held_out = held_out.groups(alike_ratio(*known, len(held_out.scores)))
            groups = release.groups(alike_ratio(*known, len(release.scores)))
            units = Units(of_held_out, groups, sizes(groups), int(rng.integers(2**32)))
        judged = copies_verdict(held_out.scores, release.scores, max_copy_rate=0.0, detectable=0.02, units=units)
        return self._checked(judged, held_out.scores, groups, copied * kind.repeats)

    def _checked(
        self, judged: CopiesVerdict, held_out: NDArray[np.float64], groups: NDArray[np.int64], copies: int
    ) -> Audit:
        """The audit of a release whose first images are copies."""
        counts, listed = judged.counts, judged.listed
        copied = len(np.unique(groups[:copies]))
        passed = 0.0
        if self.copies is not None:
            line = np.sort(held_out)[-counts.ranks[-1] * self.kind.held_out_repeats]
            passed = float((self.copies.scores > line).mean())
        return Audit(
            judged.verdict,
            counts.low,
            judged.high,
            copied / counts.m,
            passed,
            counts.at_least > copied or judged.files_at_least > copies,
            float(listed[copies:].sum() / max(1, listed.sum())),
            float(listed[:copies].mean()) if copies else None,
            counts.m,
        )


def audits_of(settings: Settings, number: int) -> list[Audit]:
    """All audits of one kind, by its number."""
    with threadpool_limits(1):
        found = []
        for reference in range(settings.references):
            rng = np.random.default_rng([settings.seed, number, reference])
            against = Reference(settings, KINDS[number], rng)
            found += [against.audit() for _ in range(settings.audits)]
        return found


def row(kind: Kind, audits: Sequence[Audit]) -> str:
    """A row of the table."""

    def percent(shares: Sequence[float]) -> str:
        return f"{100 * float(np.mean(shares)):.1f}"

    truth = float(np.mean([audit.share for audit in audits]))
    listed = [audit.listed for audit in audits if audit.listed is not None]
    cells = [
        kind.name,
        f"{100 * kind.copies:g}",
        f"{np.mean([audit.units for audit in audits]):.0f}",
        str(len(audits)),
        percent([audit.verdict == "copying" for audit in audits]),
        percent([audit.verdict == "no copying seen" for audit in audits]),
        percent([audit.low <= truth for audit in audits]),
        percent([audit.high >= truth * audit.passed for audit in audits]),
        percent([audit.at_least_wrong for audit in audits]),
        f"{np.mean([audit.false_share for audit in audits]):.3f}",
        percent(listed) if listed else "–",
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| release | copies, % | units | audits | called, % | no copying seen, % | low covers, % | high covers, % | "
    '"at least" wrong, % | false share of the list | copies listed, % |'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small audits")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    given = parser.parse_args(arguments)
    work = partial(audits_of, QUICK if given.quick else Settings())
    sys.stdout.write(f"{HEAD}\n|---|{'---:|' * (HEAD.count('|') - 2)}\n")
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for kind, audits in zip(KINDS, pool.map(work, range(len(KINDS))), strict=True):
            sys.stdout.write(row(kind, audits) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
