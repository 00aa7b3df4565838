"""The whole scoring of a release, from embedding tables to scores, against the published algorithm as published.

    python -m benchmarks.scoring [--layers 13] [--dims 384] [--train 50000] [--images 10000]

Ours are the stages of an audit, run on a Ray of our own: partition, index, search of the held-out images and their
checks, once per reference; search, scores and joint tests of each release. Theirs is `benchmarks.published`: one layer
of one release, the arrays in memory, multiplied by the layers; timed before and after ours, the faster one counts. Ray
and its workers are started before the clock: they serve a whole command.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray

from actors.stages.context import StageContext
from actors.stages.profile import profile
from actors.stages.reference import PartitionSettings, ReferenceTables, check_reference, finish_reference
from actors.stages.score import Scored, score
from actors.stages.search import search
from actors.workers.partition import StoredPartition
from actors.workers.search import Metric
from benchmarks.line import line
from benchmarks.published import CELLS, COMPONENTS, Cells, Sets, published_score, published_statistic
from flows.runtime.runtime import running
from storage.layout import layer_key
from storage.objects.open import open_store
from storage.vectors.tables import EmbeddingTable, Receipt, VectorStore, embedding_schema, layer_column, vector_array

Matrix = NDArray[np.float32]
T = TypeVar("T")

PLACES, SHARD_ROWS = 500, 4096
SAME = 1e-6


class Tables(NamedTuple):
    """The embedding tables of a reference and of two releases."""

    train: EmbeddingTable
    held_out: EmbeddingTable
    first: EmbeddingTable
    further: EmbeddingTable


class Release(NamedTuple):
    """What was made for a release, and the seconds of it."""

    scored: Scored
    search: float
    score: float
    profile: float

    @property
    def seconds(self) -> float:
        """Everything that an audit does with an embedded release."""
        return self.search + self.score + self.profile


def main(layers: int = 13, dims: int = 384, train: int = 50_000, images: int = 10_000) -> None:
    """Print the ratios for the first release and for a further one, and how far C_T is from the published one."""
    with tempfile.TemporaryDirectory() as folder, running() as runtime:
        context = StageContext(open_store(folder), runtime.cluster, runtime.report)
        tables = write_tables(context, layers, dims, train, images)
        context.run("layers", warm_up, [0] * 8, "warm")
        one_layer = of_layer(context, tables, layers // 2)
        before = _timed(lambda: published_score(one_layer, seed=0))[1]
        reference, once = build(context, tables, layers, "euclidean")
        releases = [scored_release(context, reference, table) for table in (tables.first, tables.further)]
        published = layers * min(before, _timed(lambda: published_score(one_layer, seed=0))[1])
        paper, _ = build(context, tables, layers, "abs_cosine")
        apart = max(abs(ours - theirs) for ours, theirs in both_scores(context, tables, paper))
    if apart > SAME:
        raise SystemExit(f"C_T of the paper preset is {apart:.2g} from the published one, on the same partition")
    name = f"scoring {layers} layers × {dims}, {train:,} train, {images:,} held-out and generated"
    note = "reference {:.1f} s, release {:.1f} s: search {:.1f}, score {:.1f}, profile {:.1f}"
    for which, ours, seconds in (
        ("first release", releases[0], once + releases[0].seconds),
        ("further release", releases[1], releases[1].seconds),
    ):
        parts = note.format(once, ours.seconds, ours.search, ours.score, ours.profile)
        figures = f"{published / seconds:.1f} × as fast", f"{seconds:.1f} s", f"{published:.1f} s as published"
        typer.echo(line(f"{name}, {which}", *figures, parts))
    typer.echo(f"C_T of the paper preset is at most {apart:.1g} from the published one, on the same partition")


# -- ours ----------------------------------------------------------------------------------------------------


def build(context: StageContext, tables: Tables, layers: int, metric: Metric) -> tuple[ReferenceTables, float]:
    """A reference with its checks, and the seconds it took."""
    settings = PartitionSettings(COMPONENTS, CELLS, seed=0)
    began = time.monotonic()
    reference = finish_reference(context, (tables.train, tables.held_out), range(layers), settings, metric)
    check_reference(context, reference)
    return reference, time.monotonic() - began


def scored_release(context: StageContext, reference: ReferenceTables, table: EmbeddingTable) -> Release:
    """All stages of a release, each with its seconds."""
    layers, partition, metric = reference.layers, reference.partition, reference.metric
    nearest, searching = _timed(lambda: search(context, table, layers, partition, metric, reference.search, "release"))
    scored, scoring = _timed(lambda: score(context, reference, table, nearest, "release"))
    _, profiling = _timed(lambda: profile(context, reference, table, nearest, "release"))
    return Release(scored, searching, scoring, profiling)


def _timed(make: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return make(), time.monotonic() - began


def warm_up(task: int) -> int:
    """Take long enough that every host gets a task, so that no clock runs while a process starts."""
    time.sleep(0.5)
    return task


# -- the published algorithm -----------------------------------------------------------------------------------


def both_scores(context: StageContext, tables: Tables, reference: ReferenceTables) -> Iterator[tuple[float, float]]:
    """C_T of the first release in each informative layer: ours, and the published one on our partition."""
    nearest = search(context, tables.first, reference.layers, reference.partition, "abs_cosine", "in_cell", "paper")
    for layer, result in score(context, reference, tables.first, nearest, "paper").layers.items():
        stored = StoredPartition.load(context.store, layer_key(reference.partition, layer, "npz")).partition
        projected = [stored.project(x) for x in of_layer(context, tables, layer)]
        theirs = published_statistic(Sets(*projected), Cells(*(stored.assign(x) for x in projected)))
        if result.score.c_t is not None:
            yield result.score.c_t, theirs


def of_layer(context: StageContext, tables: Tables, layer: int) -> Sets:
    """One layer of train, held-out images and the first release, read from their tables."""
    vectors = VectorStore(context.store)
    sets = (tables.train, tables.held_out, tables.first)
    return Sets(*(np.concatenate([x for _, x in vectors.scan(t.name, t.version, layer_column(layer))]) for t in sets))


# -- data ------------------------------------------------------------------------------------------------------


def write_tables(context: StageContext, layers: int, dims: int, train: int, images: int) -> Tables:
    """Embedding tables of random vectors around a few hundred places, the same places for all sets."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(3, 0.3, dims).astype(np.float32)
    places = rng.standard_normal((layers, PLACES, dims), np.float32) * scale
    sizes = {"train": train, "held-out": images, "first": images, "further": images}
    return Tables(*(_write_table(context, name, n, places, rng) for name, n in sizes.items()))


def _write_table(
    context: StageContext, name: str, images: int, places: Matrix, rng: np.random.Generator
) -> EmbeddingTable:
    layers, dims = len(places), int(places.shape[2])
    vectors, schema = VectorStore(context.store), embedding_schema(dict.fromkeys(range(layers), dims))
    vectors.create(name, schema)
    receipts = []
    for shard, start in enumerate(range(0, images, SHARD_ROWS)):
        rows = np.arange(start, min(start + SHARD_ROWS, images))
        place = rng.integers(0, PLACES, len(rows))
        x = [places[layer, place] + rng.standard_normal((len(rows), dims), np.float32) for layer in range(layers)]
        texts = pa.array([f"{name}/{row}" for row in rows])
        sides = pa.array([8] * len(rows), pa.int32())
        columns = [pa.array(rows), texts, texts, texts, sides, sides, *map(vector_array, x)]
        fragments = vectors.write_shard(name, pa.Table.from_arrays(columns, schema=schema))
        receipts.append(Receipt(shard, len(rows), fragments, [], {}, {}, 0, 0.0))
    return vectors.commit(name, schema, receipts)


if __name__ == "__main__":
    typer.run(main)
