"""Every key, prefix and table name of a store.

These names never change, so that existing stores are found again. A *prefix* has no trailing slash and holds one object
per layer (`layer_key`); the constants are folders to list. Callers pass full digests; names contain short ones.

::

    layerprint.json                  the reference to which the store belongs
    encoders/ manifests/ sets/       encoders, listed image sets, the latest table of each set
    vectors/ tables/ receipts/       Lance tables, markers of committed tables, receipts of embedded shards
    searches/ partitions/ nearest/   search modes, partitions of training sets, nearest distances of any set
    contaminated/ checks/            excluded held-out images, checks of a reference
    influence/ profiles/             influences and profiles of releases
    token_spaces/ copies/            spaces of patch tokens, evidence for copies
    copy_references/                 notes of the token tables that references need
    perturbed/ selfcheck/            derived image sets; distances of a self-check, and the kinds of copies it found
    results/ reports/ pictures/      Parquet results, pages, figures
    claims/ failures/ jobs/ announced/ doctor/   notes on running and finished work
    broken/                          files that were not what was written, set aside
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from storage.digest import digest, short
from storage.objects.base import ObjectStore

OWNER_KEY = "layerprint.json"

ENCODERS = "encoders/"
SETS = "sets/"
VECTORS = "vectors/"
MARKERS = "tables/"
RECEIPTS = "receipts/"
RESULTS = "results/"
PICTURES = "pictures/"
CLAIMS = "claims/"
FAILURES = "failures/"
JOBS = "jobs/"
ANNOUNCED = "announced/"
DOCTOR = "doctor/"
COPY_REFERENCES = "copy_references/"
BROKEN = "broken/"

# -- in general ----------------------------------------------------------------------------------------------


def is_store(store: ObjectStore) -> bool:
    """Whether an audit, or a copy of its results, is there."""
    return store.exists(OWNER_KEY) or any(True for prefix in (RESULTS, MARKERS, RECEIPTS) for _ in store.list(prefix))


def layer_key(prefix: str, layer: int, suffix: str) -> str:
    """The object of one layer under a prefix.

    >>> layer_key("nearest/ab", 3, "parquet")
    'nearest/ab/layer_03.parquet'
    """
    return f"{prefix}/layer_{layer:02d}.{suffix}"


def keys_under(store: ObjectStore, prefix: str) -> set[str]:
    """The keys of all objects under a prefix."""
    return {info.key for info in store.list(prefix + "/")}


def name_of(key: str) -> str:
    """The name in the key of a JSON document, the folder of a table, or a prefix.

    >>> name_of("tables/images-ab.json"), name_of("images-ab.lance"), name_of("nearest/ab")
    ('images-ab', 'images-ab', 'ab')
    """
    return key.rpartition("/")[2].removesuffix(".json").removesuffix(".lance")


# -- image sets and their embeddings -------------------------------------------------------------------------


def encoder_key(request: str) -> str:
    """The facts of an encoder, by the digest of the request."""
    return f"{ENCODERS}{short(request)}.json"


def manifest_key(images: str) -> str:
    """The list of an image set, by its digest.

    >>> manifest_key("0123456789abcdef0123")
    'manifests/0123456789abcdef.parquet'
    """
    return f"manifests/{short(images)}.parquet"


def latest_table_key(encoder: str, uri: str) -> str:
    """The latest table of the image set at a URI under an encoder (its digest)."""
    return f"{SETS}{short(digest(encoder=encoder, uri=uri))}.json"


def embedding_table(encoder: str, images: str) -> str:
    """The table of an image set under an encoder, from the digests of both.

    >>> embedding_table("e", "i")
    'images-c43ccea6fee85621'
    """
    return f"images-{short(digest(encoder=encoder, images=images))}"


def is_embedding_table(table: str) -> bool:
    """Whether a table holds the embeddings of an image set."""
    return table.startswith("images-")


def table_folder(table: str) -> str:
    """The folder of a Lance table."""
    return f"{VECTORS}{table}.lance"


def marker_key(table: str) -> str:
    """The marker of a committed table."""
    return f"{MARKERS}{table}.json"


def receipts_prefix(table: str, shard_size: int | None = None) -> str:
    """The receipts of a table, or only those of shards of this size.

    >>> receipts_prefix("images-ab"), receipts_prefix("images-ab", 256)
    ('receipts/images-ab', 'receipts/images-ab/256')
    """
    return f"{RECEIPTS}{table}" if shard_size is None else f"{RECEIPTS}{table}/{shard_size}"


def receipt_key(prefix: str, shard: int) -> str:
    """The receipt of one shard.

    >>> receipt_key("receipts/images-ab/256", 7)
    'receipts/images-ab/256/shard-000007.json'
    """
    return f"{prefix}/shard-{shard:06d}.json"


def table_of_receipt(key: str) -> str:
    """The table that a receipt belongs to.

    >>> table_of_receipt("receipts/images-ab/256/shard-000007.json")
    'images-ab'
    """
    return key.split("/")[1]


# -- references ----------------------------------------------------------------------------------------------


def search_mode_key(train: str, components: int, cells: int) -> str:
    """The search mode that ``auto`` chose for a training table."""
    return f"searches/{short(digest(train=train, components=components, cells=cells))}.json"


def partition_prefix(train: str, *, components: int, cells: int, seed: int, search: str, fit: int) -> str:
    """The partitions of a training table; ``fit`` is the version of the fitting of cells.

    >>> partition_prefix("images-ab", components=64, cells=50, seed=0, search="in_cell", fit=3)
    'partitions/95f8170bedc4ff8f'
    """
    code = digest(train=train, components=components, cells=cells, seed=seed, search=search, fit=fit)
    return f"partitions/{short(code)}"


def index_table(partition: str, layer: int) -> str:
    """The indexed training table of one layer; each attempt to write it appends a suffix.

    >>> index_table("partitions/ab", 3)
    'train-ab-layer_03'
    """
    return f"train-{name_of(partition)}-layer_{layer:02d}"


def partition_of_index(table: str) -> str | None:
    """The partition that refers to an index table; None for other tables.

    >>> partition_of_index("train-ab-layer_03-0a1b2c3d"), partition_of_index("images-ab")
    ('partitions/ab/layer_03.npz', None)
    """
    index = re.match(r"train-([0-9a-f]+)-layer_(\d+)", table)
    return layer_key(f"partitions/{index[1]}", int(index[2]), "npz") if index else None


def nearest_prefix(table: str, partition: str, metric: str) -> str:
    """The distances of a table's images to their nearest training images.

    >>> nearest_prefix("images-ab", "partitions/ab", "euclidean")
    'nearest/5e0023b461351079'
    """
    return f"nearest/{short(digest(table=table, partition=partition, metric=metric))}"


def left_out_prefix(train: str, partition: str, left_out: int, seed: int) -> str:
    """The nearest distances of a sample of training images, each left out of the training set."""
    return f"nearest/{short(digest(train=train, partition=partition, left_out=left_out, seed=seed))}"


def samples_prefix(nearest: str) -> str:
    """The exactly searched samples that decide the number of probes."""
    return f"{nearest}/samples"


def block_key(key: str, start: int, stop: int) -> str:
    """What was found for a block of images: nearest distances, before they are merged into their layer's object; or
    the evidence for copies, under its prefix.

    >>> block_key("nearest/ab/layer_03.parquet", 0, 13), block_key("copies/ab", 0, 512)
    ('nearest/ab/layer_03/000000000-000000013.parquet', 'copies/ab/000000000-000000512.parquet')
    """
    return f"{key.removesuffix('.parquet')}/{start:09d}-{stop:09d}.parquet"


def contaminated_key(nearest: str) -> str:
    """The excluded held-out images, by the prefix of the nearest distances of all."""
    return f"contaminated/{name_of(nearest)}.json"


def checks_key(nearest: str, seed: int) -> str:
    """The checks of a reference, by the prefix of its held-out images' nearest distances."""
    return f"checks/{short(digest(nearest=nearest, seed=seed))}.json"


# -- releases ------------------------------------------------------------------------------------------------


def influence_prefix(held_out: str, release: str, contaminated: str) -> str:
    """The influences of a scored release: two prefixes of nearest distances, and the key of the excluded images."""
    return f"influence/{short(digest(held_out=held_out, release=release, contaminated=contaminated))}"


def profile_prefix(held_out: str, release: str, contaminated: str, table: str, version: int, seed: int) -> str:
    """The profile of a release: as `influence_prefix`, with its table and the seed."""
    read = [table, version]
    code = digest(held_out=held_out, release=release, contaminated=contaminated, table=read, seed=seed)
    return f"profiles/{short(code)}"


def processed_prefix(table: str, version: int, partition: str, encoder: str, method: Sequence[object]) -> str:
    """How processings move the embeddings of a sample of a table's images; ``method``: which, and on how many."""
    read = [table, version]
    return f"processed/{short(digest(table=read, partition=partition, encoder=encoder, method=list(method)))}"


def processed_block_key(prefix: str, start: int) -> str:
    """A block of processed images, by the number of its first.

    >>> processed_block_key("processed/ab", 40)
    'processed/ab/000040.npz'
    """
    return f"{prefix}/{start:06d}.npz"


def perturbed_prefix(images: Sequence[str], uri: str, change: str, constants: object) -> str:
    """A set of changed images (by their etags); ``constants`` are the strengths of the changes."""
    return f"perturbed/{short(digest(images=images, uri=uri, change=change, constants=constants))}"


def done_key(prefix: str) -> str:
    """The marker of a complete set of images."""
    return f"{prefix}.done"


def selfcheck_prefix(reference: str, scoring: str) -> str:
    """The nearest distances of a self-check, by the digests of its reference and its scoring."""
    return f"selfcheck/{short(digest(reference=reference, scoring=scoring))}"


def kinds_key(*, train: str, held_out: str, copies: object, method: int) -> str:
    """Which kinds of copies a self-check found.

    It is told by the digest of the training images, the table of the held-out ones, whose name depends on the encoder,
    and the settings and version of the copy score.
    """
    return f"selfcheck/kinds-{short(digest(train=train, held_out=held_out, copies=copies, method=method))}.json"


# -- copies --------------------------------------------------------------------------------------------------


def token_space_key(encoder: str, train: str, layer: int | None) -> str:
    """The space of patch tokens that was fitted on training images, from the digests of encoder and list."""
    return f"token_spaces/{short(digest(encoder=encoder, train=train, layer=layer))}.npz"


def copy_reference_key(table: str) -> str:
    """The note that a reference needs a token table; its name says all, so broken content cannot lose the table."""
    return f"{COPY_REFERENCES}{table}.json"


def copies_prefix(table: str, train: str, *, left_out: str | None, method: int) -> str:
    """The evidence for the images of a token table, from the names of it and of the training images' table.

    ``left_out``: what training images are compared with, see `actors.workers.copy_evidence.FindCopies`.
    """
    return f"copies/{short(digest(table=table, train=train, left_out=left_out, method=method))}"


def groups_key(table: str, train: str, held_out: str, *, method: int) -> str:
    """The groups of near-duplicates of a token table, whose limit training and held-out images set."""
    return f"copies/{short(digest(table=table, train=train, held_out=held_out, method=method))}/groups.parquet"


# -- results -------------------------------------------------------------------------------------------------


def results_folder(table: str) -> str:
    """The files of one results table."""
    return f"{RESULTS}{table}/"


def result_key(table: str, audit_id: str) -> str:
    """The file of one results table and audit.

    >>> result_key("scores", "glow-80")
    'results/scores/glow-80.parquet'
    """
    return f"{results_folder(table)}{audit_id}.parquet"


def report_key(audit_id: str) -> str:
    """The published report of an audit."""
    return f"reports/{audit_id}.html"


def curves_key(audits: Sequence[str]) -> str:
    """The figure with the curves of some audits."""
    return f"{PICTURES}curves-{short(digest(audits=list(audits)))}.png"


def pairs_key(label: str, audit_id: str) -> str:
    """The figure with the closest pairs of an audit; the label must be a valid file name."""
    return f"{PICTURES}pairs-{label}-{audit_id}.png"


# -- notes of work -------------------------------------------------------------------------------------------


def claim_folder(name: str) -> str:
    """The generations of a claim."""
    return f"{CLAIMS}{name}/"


def claim_key(name: str, generation: int) -> str:
    """One generation of a claim.

    >>> claim_key("work", 3)
    'claims/work/00000003.json'
    """
    return f"{claim_folder(name)}{generation:08d}.json"


def failure_key(work: str) -> str:
    """The failure of some work."""
    return f"{FAILURES}{work}.json"


def announced_key(audit_id: str) -> str:
    """The marker of an audit whose events were emitted."""
    return f"{ANNOUNCED}{audit_id}"


def job_folder(job: str) -> str:
    """The messages between a Ray job and its flow."""
    return f"{JOBS}{job}"


def broken_key(key: str, seen: str) -> str:
    """Where a broken object is set aside; ``seen`` is the digest of its content.

    >>> broken_key("checks/ab.json", "0123456789abcdef0123")
    'broken/0123456789abcdef/checks/ab.json'
    """
    return f"{BROKEN}{short(seen)}/{key}"
