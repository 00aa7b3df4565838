"""What an audit costs at a size: a few products of measured figures. It writes the tables of ``docs/scale.md``.

    python -m benchmarks.cost_model            print the tables
    python -m benchmarks.cost_model --write    put them into docs/scale.md

The setting is ViT-S/14 at 112 px: 13 layers of 384 dimensions, projected to 64, as the benchmarks measure it.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import typer

from actors.ray_cluster.dispatch import IN_FLIGHT_PER_HOST
from actors.stages.embed import shard_size
from actors.workers.partition import SAMPLE_ROWS
from benchmarks.scheduler import FLEETS, SHARD_SECONDS, SHARDS, DriverCost, simulated
from scoring.nearest.search_plan import (
    BUILT_SECONDS,
    EXACT_SECONDS,
    FEWEST_SAMPLED,
    IN_CELL_SECONDS,
    QUERY_SECONDS,
    SCANNED_SECONDS,
    TUNED,
    SearchMode,
    index_partitions,
    measured_images,
    search_mode,
)

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
SIZES = (10**6, 10**8, 10**9)
LAYERS, DIMS, COMPONENTS, CELLS, PROBES = 13, 384, 64, 10, 4
MEASURED_PARTITIONS = 1000  # of the index that BUILT_SECONDS is of
INDEX_CACHE = 6 * 2**30  # LanceDB's default for a process, from memory of its documents: not checked here
RELEASE_IMAGES, MANY_IMAGES = 10_000, 50_000

_GIB, _HOUR = 2**30, 3600


def _from(value: float, benchmark: str, what: str) -> float:
    """A measured figure with the benchmark that prints it and what it is."""
    made: float = field(default=value, metadata={"benchmark": benchmark, "what": what})
    return made


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures on 2 cores of a quiet x86_64 server by the benchmark that measures them.

    ``pipeline`` was measured with an S3 server on the same cores.
    """

    images_per_second: float = _from(47.5, "embedding", "bare loop, images/s")
    pipeline: float = _from(
        0.93, "embedding", "of the bare loop, from an S3 server on the same cores to committed rows"
    )
    decode: float = _from(3.3e-3, "driver", "JPEG of 512 px decoded and resized by one core, s")
    row_bytes: float = _from(20_021, "driver", "embedding table, bytes an image")
    manifest_memory: float = _from(78, "driver", "manifest in memory, bytes an image")
    manifest_stored: float = _from(11, "driver", "manifest in the store, bytes an image")
    receipt: float = _from(2.2e-3, "driver", "receipt listed and read, s")
    fragment: float = _from(2.5e-4, "driver", "one fragment of the commit, s")
    result: float = _from(7.7e-4, "scheduler", "one result, s of the driver")
    pending: float = _from(2.1e-7, "scheduler", "and for each call under way, s")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device: peak from its maker's data sheet; the share of it that a small ViT gets is assumed.

    ``cores`` decode images for it.
    """

    name: str
    teraflops: float
    used: float = 0.3
    cores: int = 16


ACCELERATORS = (
    Accelerator("A100, float32", 19.5, used=0.6),
    Accelerator("A100, bfloat16", 312.0),
    Accelerator("H100, bfloat16", 989.0),
)

MEASURED = Measured()


def vit_flops(side: int, patch: int, width: int, depth: int, mlp: int = 4, channels: int = 3) -> float:
    """Floating-point operations of one forward pass of a ViT, a multiplication and an addition as two.

    Patch embedding, and per block the four projections of attention, its two products of all pairs of tokens, and the
    two layers of the MLP; norms and softmax are left out.

    >>> round(vit_flops(224, 16, 768, 12) / 1e9, 1)
    35.1
    """
    patches = (side // patch) ** 2
    tokens = patches + 1
    block = 2 * tokens * width * width * (4 + 2 * mlp) + 4 * tokens * tokens * width
    return 2 * patches * patch * patch * channels * width + depth * block


FLOPS = vit_flops(112, 14, 384, 12)


class Embedding(NamedTuple):
    """How fast a device embeds: images a second of the model alone, of its decoding cores, and of both together."""

    model: float
    decoding: float

    @property
    def together(self) -> float:
        """The slower of the two, less what the pipeline loses."""
        return MEASURED.pipeline * min(self.model, self.decoding)


def embedding_rate(device: Accelerator) -> Embedding:
    """What one device embeds."""
    return Embedding(device.teraflops * 1e12 * device.used / FLOPS, device.cores / MEASURED.decode)


class Storage(NamedTuple):
    """Bytes: embeddings, projected train vectors with their index, manifest."""

    embeddings: float
    projected: float
    manifest: float

    @property
    def total(self) -> float:
        return sum(self)


def storage(images: int) -> Storage:
    """What a reference leaves in the store."""
    return Storage(
        embeddings=images * MEASURED.row_bytes,
        projected=images * LAYERS * (4 * COMPONENTS + 8) * 2,  # the rows, and once more in the index
        manifest=images * MEASURED.manifest_stored,
    )


class Search(NamedTuple):
    """The search of all layers, in hours of 2 cores, and its memory in bytes.

    ``mode`` is what an audit chooses by itself. ``in_cell`` is the exact search in 10 cells. Of the search by an index,
    ``build`` is paid once per reference, ``sample`` once per set, ``release`` for every 10,000 images.
    """

    mode: SearchMode
    in_cell: float
    partitions: int
    build: float
    sample: float
    release: float
    memory: float


def search(images: int) -> Search:
    """Among so many training images."""
    partitions = min(index_partitions(images), SAMPLE_ROWS // FEWEST_SAMPLED)
    sampled = TUNED + measured_images(RELEASE_IMAGES)
    scanned = PROBES * images / partitions
    return Search(
        mode=search_mode("auto", "default", images, RELEASE_IMAGES, COMPONENTS, CELLS),
        in_cell=LAYERS * RELEASE_IMAGES * images / CELLS * IN_CELL_SECONDS / _HOUR,
        partitions=partitions,
        build=LAYERS * images * BUILT_SECONDS * partitions / MEASURED_PARTITIONS / _HOUR,
        sample=LAYERS * sampled * images * EXACT_SECONDS / _HOUR,
        release=LAYERS * RELEASE_IMAGES * (QUERY_SECONDS + scanned * SCANNED_SECONDS) / _HOUR,
        memory=scanned * 4 * COMPONENTS * 2 + SAMPLE_ROWS * 4 * DIMS,
    )


class Driver(NamedTuple):
    """What one process spends on a whole set: shards, bytes of the manifest, seconds."""

    shards: int
    manifest: float
    results: float
    receipts: float
    commit: float


def driver(images: int, hosts: int) -> Driver:
    """The driver of an embedding with so many hosts."""
    shards = math.ceil(images / shard_size(images))
    return Driver(
        shards=shards,
        manifest=images * MEASURED.manifest_memory,
        results=shards * DriverCost(MEASURED.result, MEASURED.pending).of(hosts),
        receipts=shards * MEASURED.receipt,
        commit=shards * MEASURED.fragment,
    )


class Requests(NamedTuple):
    """Requests to the object store of a reference's embedding: those that read, those that write, those that list."""

    reads: int
    writes: int
    lists: int


def requests(images: int) -> Requests:
    """Where each image is an object of its own; a shard reads the manifest once, writes a fragment and a receipt."""
    shards = math.ceil(images / shard_size(images))
    return Requests(reads=images + 2 * shards, writes=2 * shards, lists=math.ceil(images / 1000))


class Bends(NamedTuple):
    """Where something stops being small: training images, or hosts."""

    in_cells: int
    partitions: int
    index_cache: int
    manifest: int
    hosts_cpu: int
    hosts_gpu: int


def bends() -> Bends:
    """All of them."""
    by_index = bisect_left(
        range(10**9), 1, key=lambda n: search_mode("auto", "default", n, MANY_IMAGES, COMPONENTS, CELLS) == "global"
    )
    return Bends(
        in_cells=by_index,
        partitions=(SAMPLE_ROWS // FEWEST_SAMPLED) ** 2,
        index_cache=INDEX_CACHE // (4 * COMPONENTS + 8),
        manifest=int(_GIB / MEASURED.manifest_memory),
        hosts_cpu=hosts_fed(SHARD_SECONDS),
        hosts_gpu=hosts_fed(1.0),
    )


def hosts_fed(shard_seconds: float) -> int:
    """The most hosts that one driver keeps at work: it takes their results as fast as they come.

    >>> cost, hosts = DriverCost(MEASURED.result, MEASURED.pending), hosts_fed(20.0)
    >>> hosts * cost.of(hosts) <= 20.0 < (hosts + 1) * cost.of(hosts + 1)
    True
    """
    each = MEASURED.pending * IN_FLIGHT_PER_HOST
    root = math.sqrt(MEASURED.result**2 + 4 * each * shard_seconds)
    return int((root - MEASURED.result) / (2 * each))


# -- the page --------------------------------------------------------------------------------------------------


def tables() -> dict[str, str]:
    """The tables of the page by name, as Markdown."""
    devices = [(device, embedding_rate(device)) for device in ACCELERATORS]
    limits = bends()
    return {
        "measured": _table(
            ["figure", "value", "benchmark"],
            [[f.metadata["what"], f"{f.default:,g}", f.metadata["benchmark"]] for f in fields(Measured)],
        ),
        "bends": _table(
            ["what", "up to"],
            [
                [
                    f"exact search in the cell of sets of {MANY_IMAGES:,}, by the planner's choice",
                    f"{limits.in_cells:.1e} training images",
                ],
                ["partitions of the index grow as √T", f"{limits.partitions:.1e} training images"],
                [
                    "a layer's index fits LanceDB's cache, if its default is 6 GiB",
                    f"{limits.index_cache:.1e} training images",
                ],
                ["the manifest takes less than 1 GiB of the driver", f"{limits.manifest:.1e} images"],
                [f"one driver feeds hosts that need {SHARD_SECONDS:.0f} s a shard", f"{limits.hosts_cpu:,} hosts"],
                ["one driver feeds hosts that need 1 s a shard", f"{limits.hosts_gpu:,} hosts"],
                [
                    "10⁶ images without a GPU, on 2 cores",
                    _hours(1e6 / (MEASURED.images_per_second * MEASURED.pipeline) / _HOUR),
                ],
                ["one image", f"{FLOPS / 1e9:.2f} GFLOP"],
            ],
        ),
        "embedding": _table(
            ["device", "model alone", "cores that feed it", f"with {ACCELERATORS[0].cores} cores", *map(_size, SIZES)],
            [
                [
                    device.name,
                    f"{rate.model:,.0f}/s",
                    f"{math.ceil(rate.model * MEASURED.decode):,}",
                    f"{rate.together:,.0f}/s",
                    *(_hours(n / rate.together / _HOUR) for n in SIZES),
                ]
                for device, rate in devices
            ],
        ),
        "storage": _table(
            ["images", "embeddings", "projected train vectors", "manifest", "together"],
            [[_size(n), *map(_bytes, storage(n)), _bytes(storage(n).total)] for n in SIZES],
        ),
        "search": _table(
            [
                "training images",
                "chosen",
                "release of 10,000, in cells",
                "by index",
                "building the index",
                "exact sample, a set",
                "partitions",
                "memory of an actor",
            ],
            [
                [
                    _size(n),
                    "in cells" if s.mode == "in_cell" else "index",
                    *map(_hours, (s.in_cell, s.release, s.build, s.sample)),
                    f"{s.partitions:,}",
                    _bytes(s.memory),
                ]
                for n, s in ((n, search(n)) for n in SIZES)
            ],
        ),
        "driver": _table(
            ["images", "shards", "manifest in memory", "results", "receipts", "commit"],
            [
                [_size(n), f"{d.shards:,}", _bytes(d.manifest), *(_hours(s / _HOUR) for s in d[2:])]
                for n, d in ((n, driver(n, 64)) for n in SIZES)
            ],
        ),
        "scheduler": _table(
            ["hosts", "of the ideal", "driver busy", "with deaths", "deaths", "most of one host"],
            [
                [
                    f"{hosts:,}",
                    f"{fleet.calm_share:.3f}",
                    f"{fleet.calm.driver_share:.0%}",
                    f"{fleet.rough_share:.3f}",
                    f"{fleet.rough.deaths.sum()}",
                    f"{fleet.rough.deaths.max()}",
                ]
                for hosts, fleet in (
                    (hosts, simulated(SHARDS, hosts, DriverCost(MEASURED.result, MEASURED.pending))) for hosts in FLEETS
                )
            ],
        ),
        "requests": _table(
            ["images", "reads", "writes", "pages listed"],
            [[_size(n), *(f"{count:,}" for count in requests(n))] for n in SIZES],
        ),
    }


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _size(images: int) -> str:
    """A power of ten.

    >>> _size(10**8)
    '10⁸'
    """
    return "10" + str(round(math.log10(images))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _bytes(number: float) -> str:
    for unit, size in (("TiB", 2**40), ("GiB", _GIB), ("MiB", 2**20)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1024:,.0f} KiB"


def _hours(hours: float) -> str:
    """A time in its fitting unit.

    >>> _hours(0.001), _hours(0.2), _hours(30)
    ('3.6 s', '12.0 min', '30.0 h')
    """
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{_HOUR * hours:.1f} s"


def filled(page: str) -> str:
    """The page with its tables as they are now; each stands between ``<!-- name -->`` and ``<!-- /name -->``."""
    for name, table in tables().items():
        page, found = re.subn(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", rf"\1{table}\n\2", page, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"the page has {found} places for the table {name}, not one")
    return page


def main(write: bool = False) -> None:
    """Print the tables, or write them into the page."""
    if write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        for name, table in tables().items():
            typer.echo(f"\n{name}\n\n{table}")


if __name__ == "__main__":
    typer.run(main)
