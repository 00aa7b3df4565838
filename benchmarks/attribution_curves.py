"""The published C_T curves: the published rule, and distances that know how far runs of one model differ."""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.open_set import auroc, oscr, wilson
from scoring.attribution.baselines import published_similarity
from scoring.attribution.run_covariance import fit_run_covariance

Floats = NDArray[np.float64]
Scores = dict[str, float]
"""Enrolled maker → how alike; the highest is the answer."""

Rule = Callable[[Mapping[str, Floats], Floats], list[Scores]]
"""Enrolled curves, maker → (R, L), and the curves of suspects (n, L)."""

DIFFUSION = ("ddpm", "ddim", "pndm")
"""One network with three samplers."""


def published(enrolled: Mapping[str, Floats], suspects: Floats) -> list[Scores]:
    """The rule of He et al. 2024."""
    return [
        {maker: max(published_similarity(x, one) for one in runs) for maker, runs in enrolled.items()} for x in suspects
    ]


def covariance_aware(enrolled: Mapping[str, Floats], suspects: Floats) -> list[Scores]:
    """Minus D², with the covariance between runs; the curves come without their images, so S is part of it."""
    spread = fit_run_covariance(list(enrolled.values()))
    if spread is None:
        raise ValueError("no maker has two runs")
    inverse = np.linalg.inv(spread.covariance)
    found: list[Scores] = [{} for _ in suspects]
    for maker, runs in enrolled.items():
        steps = suspects - runs.mean(axis=0)
        distances = np.einsum("nl,lk,nk->n", steps, inverse, steps) / (1 + 1 / len(runs))
        for scores, distance in zip(found, distances, strict=True):
            scores[maker] = -float(distance)
    return found


def compare_on_curves(path: Path) -> None:
    """Two sets of published curves, 6 generators x 3 each, and the new curves of the second against the first."""
    first, second = read_curves(path), read_batches(path)
    print_curves("runs", *first)
    print_curves("batches of 500 images", *second)
    new = np.array([maker not in DIFFUSION for maker in second[1]])
    truth = [maker for maker in second[1] if maker not in DIFFUSION]
    for name, rule in (("published", published), ("D² with run covariance", covariance_aware)):
        named = [_best(scores) for scores in rule(_enrolled(*first, []), second[0][new])]
        right = sum(a == b for a, b in zip(named, truth, strict=True))
        typer.echo(f"\nGAN batches against the runs, {name}: {right}/{len(truth)}")


def print_curves(title: str, x: Floats, makers: Sequence[str]) -> None:
    """Leave one curve out, every split, every generator unknown once."""
    merged_makers = ["diffusion" if maker in DIFFUSION else maker for maker in makers]
    typer.echo(f"\n{len(x)} published C_T curves of {x.shape[1]} layers, {len(set(makers))} generators, {title}\n")
    typer.echo("| rule | samplers | leave one run out | mean of all splits | AUROC | OSCR |")
    typer.echo("|---|---|---|---:|---:|---:|")
    for name, rule in (("published", published), ("D² with run covariance", covariance_aware)):
        for first, curves in (("", x), (", without layer 1", x[:, 1:])):
            for samplers, labels in (("apart", makers), ("merged", merged_makers)):
                right = [answers(rule, curves, labels, [i]) == [labels[i]] for i in range(len(labels))]
                share = wilson(sum(right), len(right))
                area, open_area = open_set_of_curves(rule, curves, labels)
                splits = f"{mean_of_splits(rule, curves, labels):.3f}" if samplers == "apart" else "–"
                typer.echo(
                    f"| {name}{first} | {samplers} | {sum(right)}/{len(right)} ({share.low:.2f}–{share.high:.2f}) "
                    f"| {splits} | {area:.2f} | {open_area:.2f} |"
                )


def read_curves(path: Path) -> tuple[Floats, list[str]]:
    """The curves of `model_ct_scores.txt` that carry no note: (18, 12) and their generators."""
    curves: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["file"] == "model_ct_scores.txt" and not row["note"]:
                curves[row["architecture"], row["run"]][int(row["layer"])] = float(row["score"])
    ordered = sorted(curves.items())
    return np.array([[c[layer] for layer in sorted(c)] for _, c in ordered]), [maker for (maker, _), _ in ordered]


def read_batches(path: Path) -> tuple[Floats, list[str]]:
    """Three curves a generator from the `fingerprinting_baseline` files, (18, 12), of batches of 500 images.

    Two are the training batches of ``ffull_scores.txt``, the third the test batch of ``fsmall_scores.txt``, where all
    generators have one. Layer 0 is NaN there and left out. Those of the diffusion samplers are the images of
    `read_curves` seen again; those of the GANs are new.
    """
    wanted = [("ffull_scores.txt", "train1"), ("ffull_scores.txt", "train2"), ("fsmall_scores.txt", "test1")]
    curves: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            folder, _, name = row["file"].rpartition("/")
            if folder == "fingerprinting_baseline" and (name, row["run"]) in wanted and int(row["layer"]) > 0:
                curves[row["architecture"], wanted.index((name, row["run"]))][int(row["layer"])] = float(row["score"])
    ordered = sorted(curves.items())
    return np.array([[c[layer] for layer in sorted(c)] for _, c in ordered]), [maker for (maker, _), _ in ordered]


def answers(rule: Rule, x: Floats, makers: Sequence[str], test: Sequence[int]) -> list[str]:
    """The makers that a rule names for some curves, all others being enrolled."""
    return [_best(scores) for scores in rule(_enrolled(x, makers, test), x[list(test)])]


def _enrolled(x: Floats, makers: Sequence[str], without: Sequence[int]) -> dict[str, Floats]:
    rows: dict[str, list[int]] = defaultdict(list)
    for i, maker in enumerate(makers):
        if i not in without:
            rows[maker].append(i)
    return {maker: x[kept] for maker, kept in rows.items()}


def mean_of_splits(rule: Rule, x: Floats, makers: Sequence[str]) -> float:
    """Mean accuracy over all choices of one test run for every maker."""
    by_maker = [[i for i, maker in enumerate(makers) if maker == one] for one in dict.fromkeys(makers)]
    accuracies = [
        np.mean([found == makers[i] for found, i in zip(answers(rule, x, makers, test), test, strict=True)])
        for test in itertools.product(*by_maker)
    ]
    return float(np.mean(accuracies))


def open_set_of_curves(rule: Rule, x: Floats, makers: Sequence[str]) -> tuple[float, float]:
    """Mean AUROC and OSCR with each maker unknown in turn."""
    areas = []
    for stranger in dict.fromkeys(makers):
        known, right, unknown = [], [], []
        strange = [i for i, maker in enumerate(makers) if maker == stranger]
        for i, maker in enumerate(makers):
            (scores,) = rule(_enrolled(x, makers, [*strange, i]), x[[i]])
            if maker == stranger:
                unknown.append(max(scores.values()))
            else:
                known.append(max(scores.values()))
                right.append(_best(scores) == maker)
        areas.append(
            (auroc(np.array(known), np.array(unknown)), oscr(np.array(known), np.array(right), np.array(unknown)))
        )
    area, open_area = np.mean(areas, axis=0)
    return float(area), float(open_area)


def _best(scores: Scores) -> str:
    return max(scores, key=lambda maker: scores[maker])
