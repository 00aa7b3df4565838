"""Nearest search by index among all training images, against an exact flat scan by faiss, on clustered random vectors.

    python -m benchmarks.search [--quick] [--images 1000000] [--queries 10000]

One after the other on all cores of one machine, the best of three runs each. What is timed is the search of an audit:
probes chosen on an exact sample, recall measured on another, the winners' distances recomputed in float64. The last
line holds the constants of `scoring.nearest.search_plan`.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from actors.workers.partition import SAMPLE_ROWS
from actors.workers.search_sample import TRAIN_ROWS, choose_probes, wanted_recall
from benchmarks.line import line, machine
from scoring.checks.search_error import Recall, measure_recall
from scoring.nearest.in_cell import TrainBlock, in_cell_neighbours
from scoring.nearest.paired_distances import recompute_euclidean
from scoring.nearest.search_plan import TUNED, index_centroids, index_partitions
from scoring.nearest.two_nearest import two_nearest
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore
from storage.vectors.train_index import nearest_indexed, write_indexed

Matrix = NDArray[np.float32]

DIMENSIONS, PLACES, CELLS, NEIGHBOURS, FEW, QUERIES = 64, 2000, 10, 50, 1000, 10_000
INSTALL = "faiss is not installed: pip install --target FOLDER faiss-cpu, then PYTHONPATH=FOLDER make context"


class Measured(NamedTuple):
    """What was measured: seconds, queries a second, recall."""

    build: float
    probes: int
    recall: Recall
    exact: float
    rate: float
    rate_neighbours: float
    rate_in_cell: float
    in_cell: float


def main(images: int = 1_000_000, queries: int = QUERIES, quick: bool = False) -> None:
    """Print rates, their ratio, recall, build time and the number of queries from which the index pays."""
    if quick:
        images, queries = 100_000, 4 * FEW
    draw = _clustered(np.random.default_rng(0))
    train, asked = draw(images), draw(queries + 2 * FEW)
    with tempfile.TemporaryDirectory() as folder:
        ours = measure(VectorStore(open_store(folder)), train, asked)
    what = (
        f"recall {ours.recall.rate:.4f} ({ours.recall.low:.4f}–{ours.recall.high:.4f}), {ours.probes} of "
        f"{index_partitions(images)} partitions, built in {ours.build:.0f} s"
    )
    name = f"nearest of {images:,} × {DIMENSIONS}"
    flat = flat_rate(train, asked[:queries])
    if flat is None:
        typer.echo(f"{name}: {ours.rate:,.0f} queries/s; {what} [{machine()}]\n{INSTALL}")
    else:
        pays = ours.build / (1 / flat - 1 / ours.rate)
        figures = f"{ours.rate / flat:.1f} ×", f"{ours.rate:,.0f} queries/s", f"{flat:,.0f} of faiss IndexFlatL2"
        typer.echo(line(name, *figures, f"{what}, which pays from {pays:,.0f} queries on"))
    in_cells = f"by an index of {CELLS} cells {ours.rate_in_cell:,.0f}"
    typer.echo(f"queries/s with {NEIGHBOURS} neighbours {ours.rate_neighbours:,.0f}, {in_cells}")
    probed = ours.probes * images**0.5
    scanned = (1 / ours.rate_in_cell - 1 / ours.rate_neighbours) / (images / CELLS - probed)
    typer.echo(
        f"costs: {1 / ours.rate_neighbours - scanned * probed:.2g} s a query, {scanned:.2g} s a vector scanned, "
        f"{ours.build / images:.2g} s a vector indexed, {ours.exact / FEW / images:.2g} s a pair compared, "
        f"{ours.in_cell:.2g} s a pair of one cell"
    )


def _clustered(rng: np.random.Generator) -> Callable[[int], Matrix]:
    """Draws vectors around a few thousand places."""
    places = rng.normal(scale=3, size=(PLACES, DIMENSIONS)).astype(np.float32)

    def draw(n: int) -> Matrix:
        noise: Matrix = rng.standard_normal((n, DIMENSIONS), np.float32)
        return places[rng.integers(0, PLACES, n)] + noise

    return draw


def measure(vectors: VectorStore, train: Matrix, asked: Matrix) -> Measured:
    """Index, choose the probes, measure the recall and the rates."""
    tuned, measured, queries = asked[:TUNED], asked[TUNED : 2 * FEW], asked[2 * FEW :]
    sample = train[:SAMPLE_ROWS]  # drawn at random, as all others
    began = time.monotonic()
    index = _indexed(vectors, "all", train, index_centroids(sample, len(train), 0))
    build = time.monotonic() - began
    blocks = [train[i : i + TRAIN_ROWS] for i in range(0, len(train), TRAIN_ROWS)]
    began = time.monotonic()
    exact = two_nearest(measured, blocks).first
    exact_seconds = time.monotonic() - began
    probes = choose_probes(
        index, tuned, two_nearest(tuned, blocks).first, wanted_recall(QUERIES), index_partitions(len(train))
    )
    found = measure_recall(_distances(index, measured, 1, probes), exact)
    rate, rate_neighbours = (_rate(index, queries, neighbours, probes) for neighbours in (1, NEIGHBOURS))
    cells = _indexed(vectors, "cells", train, index_centroids(sample, CELLS**2, 0))
    rate_in_cell = _rate(cells, queries[:FEW], NEIGHBOURS, 1)
    return Measured(
        build, probes, found, exact_seconds, rate, rate_neighbours, rate_in_cell, pair_seconds(train, queries)
    )


def pair_seconds(train: Matrix, queries: Matrix) -> float:
    """Seconds of the exact search for a pair of one cell: one core a layer, as the hosts do it, over the cores."""
    centroids = index_centroids(train[:SAMPLE_ROWS], CELLS**2, 0)
    k_means = KMeans(CELLS, init=centroids, n_init=1).fit(train[:SAMPLE_ROWS])
    cells, asking = k_means.predict(train), k_means.predict(queries)
    rows = np.arange(len(train))
    parts = [slice(start, start + TRAIN_ROWS) for start in range(0, len(train), TRAIN_ROWS)]
    blocks = [TrainBlock(rows[part], train[part], cells[part]) for part in parts]
    with threadpool_limits(1):
        began = time.process_time()
        near = in_cell_neighbours(queries, asking, blocks, NEIGHBOURS)
        in_cell_neighbours(near.vector, cells[near.rows[:, 0]], blocks, 1, near.rows[:, 0])
        seconds = time.process_time() - began
    pairs = int((np.bincount(cells, minlength=CELLS) * np.bincount(asking, minlength=CELLS)).sum())
    return seconds / pairs / (os.cpu_count() or 1)


def _indexed(vectors: VectorStore, name: str, train: Matrix, centroids: Matrix) -> Any:
    rows = np.arange(len(train))
    blocks = ((rows[i : i + TRAIN_ROWS], train[i : i + TRAIN_ROWS]) for i in range(0, len(train), TRAIN_ROWS))
    return vectors.open(name, write_indexed(vectors, name, blocks, centroids))


def _distances(index: Any, queries: Matrix, neighbours: int, probes: int) -> NDArray[np.float64]:
    return recompute_euclidean(queries, nearest_indexed(index, queries, neighbours, probes).vector)


def _rate(index: Any, queries: Matrix, neighbours: int, probes: int) -> float:
    """Queries a second, once the index is warm."""
    _distances(index, queries, neighbours, probes)
    return len(queries) / _best_seconds(lambda: _distances(index, queries, neighbours, probes))


def _best_seconds(search: Callable[[], object]) -> float:
    """The shortest of three runs: what a busy machine slows most is the flat scan."""
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        search()
        seconds.append(time.monotonic() - began)
    return min(seconds)


def flat_rate(train: Matrix, queries: Matrix) -> float | None:
    """Queries a second of faiss's exact flat index, all at once, all cores; None when faiss is not installed."""
    try:
        faiss: Any = importlib.import_module("faiss")
    except ModuleNotFoundError:
        return None
    flat = faiss.IndexFlatL2(train.shape[1])
    flat.add(train)
    flat.search(queries[:100], 1)
    return len(queries) / _best_seconds(lambda: flat.search(queries, 1))


if __name__ == "__main__":
    typer.run(main)
