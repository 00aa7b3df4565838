"""How well releases are told apart: on the published curves, and on real generators through the whole pipeline.

    python -m benchmarks.attribution --curves published_ct_curves.csv
    python -m benchmarks.attribution --images DATA [--encoder digits|random|PATH] [--out FOLDER] [--pictures FOLDER]

It prints Markdown. DATA holds the MNIST and CIFAR-10 archives; CIFAR-10 is run with a real encoder (PATH) only.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest

from benchmarks.attribution_curves import compare_on_curves
from benchmarks.attribution_pictures import draw_confusion, draw_reliability, draw_sizes
from benchmarks.attribution_sets import Generator, Material, cifar_spec, load_generators, mnist_spec
from benchmarks.open_set import auroc, oscr, reliability, wilson
from scoring.attribution.attribute import REJECT, STRANGE, UNKNOWN, named
from scoring.attribution.baselines import frechet_rule, linear_probe, mean_rule, published_rule
from scoring.attribution.enrolment import Enrolment, enrol
from scoring.attribution.profile import Profile, Run, merged

Rows = NDArray[np.intp]
OURS = "curve and signature"


def main(
    curves: Annotated[Path | None, typer.Option(help="published_ct_curves.csv")] = None,
    images: Annotated[Path | None, typer.Option(help="folder with the MNIST and CIFAR-10 archives")] = None,
    encoder: Annotated[str, typer.Option(help="digits, random, or the path of a ViT-S/14 state dict")] = "digits",
    out: Annotated[Path | None, typer.Option(help="keep stores and weights here")] = None,
    pictures: Annotated[Path | None, typer.Option(help="draw pictures into this folder")] = None,
) -> None:
    """Run what was asked for."""
    if curves:
        compare_on_curves(curves)
    if images:
        folder = (out or Path(tempfile.mkdtemp(prefix="layerprint-context-"))).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        compare_on_images(
            "MNIST", load_generators(mnist_spec(images.resolve(), encoder, folder)), mnist_trials, pictures
        )
        if encoder not in ("digits", "random"):
            cifar = load_generators(cifar_spec(images.resolve(), encoder, folder))
            compare_on_images("CIFAR-10", cifar, cifar_trials, pictures)


# -- images ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """Suspect batches, (generator, rows), and the batches of each generator that are enrolled meanwhile."""

    suspects: list[tuple[int, Rows]]
    enrolled: list[list[Rows]]


@dataclass(frozen=True)
class Answer:
    """What one method says of one batch: how alike each enrolled maker is.

    ``confidence`` is the stated probability of the best among the enrolled (0: none is stated), ``known`` how surely
    the maker is enrolled, where a method says so by other means than its best score; ``names`` are the makers that the
    answer names, and ``possible`` those that are not refused, where a method says so.
    """

    scores: dict[str, float]
    confidence: float = 0.0
    known: float | None = None
    names: frozenset[str] | None = None
    possible: frozenset[str] | None = None

    @property
    def maker(self) -> str:
        """The most alike."""
        return max(self.scores, key=lambda maker: self.scores[maker])

    @property
    def familiar(self) -> float:
        """Score by which unknown makers are refused."""
        return max(self.scores.values()) if self.known is None else self.known


@dataclass
class Tally:
    """The answers of one method."""

    truth: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def pairs(self, images: int | None = None) -> tuple[list[str], list[str]]:
        """Who made each batch of so many images (None: any number), and who was named."""
        kept = [i for i, size in enumerate(self.images) if images in (None, size)]
        return [self.truth[i] for i in kept], [self.named[i] for i in kept]

    def right(self, images: int | None = None) -> NDArray[np.bool_]:
        """Whether each of those batches was named rightly."""
        return np.array([truth == named for truth, named in zip(*self.pairs(images), strict=True)])


def mnist_trials(generators: Sequence[Generator]) -> tuple[int, list[Trial]]:
    """5 batches of 100, each left out of all generators in turn and cut into 25 and 50; then halves of 250."""
    rng = np.random.default_rng(0)
    batches = [np.array_split(rng.permutation(one.images), 5) for one in generators]
    trials = []
    for fold in range(5):
        suspects = [
            (g, part)
            for size in (25, 50, 100)
            for g, cut in enumerate(batches)
            for part in np.array_split(cut[fold], len(cut[fold]) // size)
        ]
        trials.append(Trial(suspects, [cut[:fold] + cut[fold + 1 :] for cut in batches]))
    halves = [np.array_split(rng.permutation(one.images), 2) for one in generators]
    trials += [
        Trial([(g, half[i]) for g, half in enumerate(halves)], [np.array_split(half[1 - i], 5) for half in halves])
        for i in (0, 1)
    ]
    return 100, trials


def cifar_trials(generators: Sequence[Generator]) -> tuple[int, list[Trial]]:
    """Batches of 30, each left out in turn while all others stay enrolled."""
    rng = np.random.default_rng(0)
    batches = [
        np.array_split(rng.permutation(one.images)[: one.images // 30 * 30], one.images // 30) for one in generators
    ]
    trials = [
        Trial([(g, batch)], [[b for j, b in enumerate(cut) if (k, j) != (g, i)] for k, cut in enumerate(batches)])
        for g, mine in enumerate(batches)
        for i, batch in enumerate(mine)
    ]
    return 30, trials


def compare_on_images(
    title: str,
    material: Material,
    plan: Callable[[Sequence[Generator]], tuple[int, list[Trial]]],
    pictures: Path | None,
) -> None:
    """Every method on the same batches; each generator unknown in turn."""
    generators = material.generators
    size, trials = plan(generators)
    tallies = run_closed(material, trials)
    areas = run_open(material, trials, size)
    typer.echo(f"\n### {title}: {len(generators)} generators, batches of {size}\n")
    typer.echo("| method | accuracy (95 %) | AUROC | OSCR | only ours right : only it right (p) |")
    typer.echo("|---|---|---:|---:|---|")
    ours = tallies[OURS].right(size)
    for name, tally in tallies.items():
        right = tally.right(size)
        share = wilson(int(right.sum()), len(right))
        area = " | ".join(f"{value:.2f}" for value in areas[name]) if name in areas else "– | –"
        only_ours, only_it = int((ours & ~right).sum()), int((right & ~ours).sum())
        p = binomtest(only_ours, only_ours + only_it).pvalue if only_ours + only_it else 1.0
        paired = "" if name == OURS else f"{only_ours} : {only_it} ({p:.2g})"
        accuracy = f"{right.sum()}/{len(right)} = {share.value:.3f} ({share.low:.2f}–{share.high:.2f})"
        typer.echo(f"| {name} | {accuracy} | {area} | {paired} |")
    sizes = sorted(set(tallies[OURS].images))
    if len(sizes) > 1:
        typer.echo("\n| accuracy at | " + " | ".join(f"{m} images" for m in sizes) + " |")
        typer.echo("|---" + "|---:" * len(sizes) + "|")
        for name, tally in tallies.items():
            typer.echo(f"| {name} | " + " | ".join(f"{tally.right(m).mean():.2f}" for m in sizes) + " |")
    confidence, every = np.array(tallies[OURS].confidence), tallies[OURS].right()
    found = reliability(confidence, every)
    typer.echo(
        f"\nStated confidence {confidence.mean():.3f}, accuracy {every.mean():.3f} over {len(every)} answers of all "
        f"sizes; ECE {found.ece:.3f}"
    )
    typer.echo(verdicts(tallies[OURS], size))
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        slug = title.lower().replace("-", "")
        names = [one.name for one in generators]
        draw_confusion(names, *tallies[OURS].pairs(size), title, pictures / f"attribution-confusion-{slug}.png")
        draw_reliability(found, title, pictures / f"attribution-reliability-{slug}.png")
        if len(sizes) > 1:
            curves = {
                name: [wilson(int(tally.right(m).sum()), len(tally.right(m))) for m in sizes]
                for name, tally in tallies.items()
            }
            draw_sizes(sizes, curves, title, pictures / f"attribution-images-{slug}.png")


def verdicts(tally: Tally, images: int) -> str:
    """How often batches of so many images are named alone, among several, and refused to their own maker."""
    rows = [
        (truth, one.names, one.possible)
        for truth, one, size in zip(tally.truth, tally.answers, tally.images, strict=True)
        if size == images and one.names is not None and one.possible is not None
    ]
    alone = [truth in names for truth, names, _ in rows if len(names) == 1]
    held = [truth in names for truth, names, _ in rows if names]
    refused = [truth not in possible for truth, _, possible in rows]
    return (
        f"\nOf {len(rows)} batches of {images}: {len(alone)} attributed, {len(alone) - sum(alone)} of them wrongly; "
        f"{len(held)} with a name or several, {sum(held)} of them with the maker; "
        f"{sum(refused)} true makers refused at {REJECT:g}"
    )


def run_closed(material: Material, trials: Sequence[Trial]) -> dict[str, Tally]:
    """Every suspect of every trial by every method; the probe by its best layer in hindsight, which favours it."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    generators = material.generators
    for trial in trials:
        profiles = [generators[g].profile(rows) for g, rows in trial.suspects]
        for (g, rows), by_method in zip(trial.suspects, answers(material, trial, profiles), strict=True):
            for name, one in by_method.items():
                tally = tallies[name]
                tally.truth.append(generators[g].name)
                tally.named.append(one.maker)
                tally.images.append(len(rows))
                tally.confidence.append(one.confidence)
                tally.answers.append(one)
    probes = [name for name in tallies if name.startswith("probe")]
    best = max(
        probes,
        key=lambda name: float(
            np.mean([a == b for a, b in zip(tallies[name].truth, tallies[name].named, strict=True)])
        ),
    )
    kept = {name: tally for name, tally in tallies.items() if name not in probes}
    return kept | {f"per-image {best} (best in hindsight)": tallies[best]}


def answers(
    material: Material, trial: Trial, profiles: Sequence[Profile], without: int | None = None
) -> list[dict[str, Answer]]:
    """For each suspect: method → answer.

    Args:
        material: All generators.
        trial: Who is suspect and what is enrolled.
        profiles: Of the suspects.
        without: A generator that is not enrolled; then there is no probe, to save time.
    """
    generators = material.generators
    runs = _runs(generators, trial, without)
    enrolment = enrol(runs, material.background)
    found: list[dict[str, Answer]] = []
    makers = [maker.name for maker in enrolment.makers]
    distances = enrolment.distances(profiles)
    for i, profile in enumerate(profiles):
        signature = enrolment.log_likelihood(distances.signature[i])
        found.append(
            {
                OURS: _ours(distances.fused[i], enrolment),
                "signature alone": Answer(dict(zip(makers, signature, strict=True))),
                "curve alone": Answer(dict(zip(makers, -distances.curve[i], strict=True))),
                "published rule": Answer(published_rule(profile, runs)),
                "one Fréchet distance": Answer(frechet_rule(profile, runs)),
                "nearest mean": Answer(mean_rule(profile, runs)),
            }
        )
    for layer in range(len(generators[0].layers)) if without is None else ():
        enrolled = {
            one.name: one.layers[layer].projected[np.concatenate(trial.enrolled[g])] for g, one in enumerate(generators)
        }
        suspects = [generators[g].layers[layer].projected[rows] for g, rows in trial.suspects]
        for by_method, scores in zip(found, linear_probe(enrolled, suspects), strict=True):
            by_method[f"probe of layer {layer}"] = Answer(scores)
    return found


def run_open(material: Material, trials: Sequence[Trial], size: int) -> dict[str, tuple[float, float]]:
    """Mean AUROC and OSCR of each method, each generator unknown in turn."""
    generators = material.generators
    areas: dict[str, list[tuple[float, float]]] = defaultdict(list)
    sized = [Trial([one for one in trial.suspects if len(one[1]) == size], trial.enrolled) for trial in trials]
    sized = [trial for trial in sized if trial.suspects]
    profiles = [[generators[g].profile(rows) for g, rows in trial.suspects] for trial in sized]
    for stranger in range(len(generators)):
        known: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        unknown: dict[str, list[float]] = defaultdict(list)
        for trial, of_trial in zip(sized, profiles, strict=True):
            found = answers(material, trial, of_trial, stranger)
            for (g, _), by_method in zip(trial.suspects, found, strict=True):
                for name, one in by_method.items():
                    if g == stranger:
                        unknown[name].append(one.familiar)
                    else:
                        known[name].append((one.familiar, one.maker == generators[g].name))
        for name, pairs in known.items():
            likeness, right = np.array([one for one, _ in pairs]), np.array([one for _, one in pairs])
            strange = np.array(unknown[name])
            areas[name].append((auroc(likeness, strange), oscr(likeness, right, strange)))
    return {name: (float(np.mean(found, axis=0)[0]), float(np.mean(found, axis=0)[1])) for name, found in areas.items()}


def _runs(generators: Sequence[Generator], trial: Trial, without: int | None) -> list[Run]:
    runs = []
    for g, one in enumerate(generators):
        if g != without:
            parts = tuple(one.profile(rows) for rows in trial.enrolled[g])
            whole = merged(parts)
            c_t = one.profile(np.concatenate(trial.enrolled[g])).c_t
            runs.append(
                Run(one.name, "1", Profile(whole.placed, whole.signature, c_t), parts, (one.shifts,) * len(parts))
            )
    return runs


def _ours(fused: NDArray[np.float64], enrolment: Enrolment) -> Answer:
    """What `attribute` says, without the number of images needed, which takes a simulation."""
    makers = [maker.name for maker in enrolment.makers]
    likelihood = enrolment.log_likelihood(fused)
    unknown = enrolment.unknown.probability(fused, UNKNOWN)
    names = named(enrolment, fused, REJECT) if unknown <= STRANGE else np.empty(0, np.intp)
    possible = np.flatnonzero(enrolment.p_values(fused) > REJECT)
    return Answer(
        scores=dict(zip(makers, likelihood, strict=True)),
        confidence=float(softmax(likelihood).max()),
        known=-unknown,
        names=frozenset(makers[k] for k in names),
        possible=frozenset(makers[k] for k in possible),
    )


if __name__ == "__main__":
    typer.run(main)
