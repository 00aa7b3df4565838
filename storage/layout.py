"""Every key, prefix and table name of a store.

A store that was written before must be found again: these names never change. A *prefix* has no slash at its end and
holds one object per layer (`layer_key`); a constant with one is a folder to list. Digests that are part of a name are
shortened here, so callers give whole ones.

::

    layerprint.json                  whose store it is
    encoders/ manifests/ sets/       what was listed, and with which encoder
    vectors/ tables/ receipts/       Lance tables, the markers of committed ones, receipts of embedded shards
    searches/ partitions/ nearest/   a reference, and how near a set comes to it
    contaminated/ checks/            held-out images that are not used, and whether the others serve
    influence/ profiles/             scores and profiles of a release, per layer
    perturbed/ selfcheck/            sets that were made from others
    results/ reports/ pictures/      what people read
    claims/ failures/ jobs/ announced/ doctor/   notes of running and finished work
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

# -- in general ----------------------------------------------------------------------------------------------


def layer_key(prefix: str, layer: int, suffix: str) -> str:
    """The object of one layer under a prefix.

    >>> layer_key("nearest/ab", 3, "parquet")
    'nearest/ab/layer_03.parquet'
    """
    return f"{prefix}/layer_{layer:02d}.{suffix}"


def keys_under(store: ObjectStore, prefix: str) -> set[str]:
    """The keys of all objects under a prefix: what need not be made again."""
    return {info.key for info in store.list(prefix + "/")}


def name_of(key: str) -> str:
    """What is named by the key of a JSON document, the folder of a table, or a prefix.

    >>> name_of("tables/images-ab.json"), name_of("images-ab.lance"), name_of("nearest/ab")
    ('images-ab', 'images-ab', 'ab')
    """
    return key.rpartition("/")[2].removesuffix(".json").removesuffix(".lance")


# -- image sets and their embeddings -------------------------------------------------------------------------


def encoder_key(request: str) -> str:
    """What an encoder is, by the digest of what was asked for.

    >>> encoder_key("0123456789abcdef0123")
    'encoders/0123456789abcdef.json'
    """
    return f"{ENCODERS}{short(request)}.json"


def manifest_key(images: str) -> str:
    """The list of an image set, by its digest.

    >>> manifest_key("0123456789abcdef0123")
    'manifests/0123456789abcdef.parquet'
    """
    return f"manifests/{short(images)}.parquet"


def latest_table_key(encoder: str, uri: str) -> str:
    """Which table is the latest of the image set at a URI under an encoder (its digest).

    >>> latest_table_key("e", "s3://b/train/")
    'sets/f31ea6a4127c3feb.json'
    """
    return f"{SETS}{short(digest(encoder=encoder, uri=uri))}.json"


def embedding_table(encoder: str, images: str) -> str:
    """The table of an image set under an encoder, from the digests of both.

    >>> embedding_table("e", "i")
    'images-c43ccea6fee85621'
    """
    return f"images-{short(digest(encoder=encoder, images=images))}"


def is_embedding_table(table: str) -> bool:
    """Whether a table holds the embeddings of an image set.

    >>> is_embedding_table("images-ab"), is_embedding_table("train-ab-layer_03-0a1b2c3d")
    (True, False)
    """
    return table.startswith("images-")


def table_folder(table: str) -> str:
    """Where Lance keeps a table.

    >>> table_folder("images-ab")
    'vectors/images-ab.lance'
    """
    return f"{VECTORS}{table}.lance"


def marker_key(table: str) -> str:
    """The marker of a committed table.

    >>> marker_key("images-ab")
    'tables/images-ab.json'
    """
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
    """Which search ``auto`` chose for a train table.

    >>> search_mode_key("images-ab", 64, 50)
    'searches/a51430cc6019a62f.json'
    """
    return f"searches/{short(digest(train=train, components=components, cells=cells))}.json"


def partition_prefix(train: str, *, components: int, cells: int, seed: int, search: str, fit: int) -> str:
    """The partitions of a train table; ``fit`` is the version of how cells are fitted.

    >>> partition_prefix("images-ab", components=64, cells=50, seed=0, search="in_cell", fit=3)
    'partitions/95f8170bedc4ff8f'
    """
    code = digest(train=train, components=components, cells=cells, seed=seed, search=search, fit=fit)
    return f"partitions/{short(code)}"


def index_table(partition: str, layer: int) -> str:
    """The indexed train table of one layer; every attempt to write it appends a name of its own.

    >>> index_table("partitions/ab", 3)
    'train-ab-layer_03'
    """
    return f"train-{name_of(partition)}-layer_{layer:02d}"


def partition_of_index(table: str) -> str | None:
    """The partition that names an index table; None for any other table.

    >>> partition_of_index("train-ab-layer_03-0a1b2c3d"), partition_of_index("images-ab")
    ('partitions/ab/layer_03.npz', None)
    """
    index = re.match(r"train-([0-9a-f]+)-layer_(\d+)", table)
    return layer_key(f"partitions/{index[1]}", int(index[2]), "npz") if index else None


def nearest_prefix(table: str, partition: str, metric: str) -> str:
    """The nearest distances of a table's images to the train images.

    >>> nearest_prefix("images-ab", "partitions/ab", "euclidean")
    'nearest/5e0023b461351079'
    """
    return f"nearest/{short(digest(table=table, partition=partition, metric=metric))}"


def left_out_prefix(train: str, partition: str, left_out: int, seed: int) -> str:
    """The nearest distances of a sample of train images, each left out of train.

    >>> left_out_prefix("images-ab", "partitions/ab", 2000, 0)
    'nearest/e9006e67acb5fd84'
    """
    return f"nearest/{short(digest(train=train, partition=partition, left_out=left_out, seed=seed))}"


def samples_prefix(nearest: str) -> str:
    """The images that were searched exactly, to choose the number of probes.

    >>> samples_prefix("nearest/ab")
    'nearest/ab/samples'
    """
    return f"{nearest}/samples"


def block_key(key: str, start: int, stop: int) -> str:
    """The nearest distances of a block of images of one layer, until they are merged into that layer's object.

    >>> block_key("nearest/ab/layer_03.parquet", 0, 13)
    'nearest/ab/layer_03/000000000-000000013.parquet'
    """
    return f"{key.removesuffix('.parquet')}/{start:09d}-{stop:09d}.parquet"


def contaminated_key(nearest: str) -> str:
    """The held-out images that are not used, by the prefix of the nearest distances of all.

    >>> contaminated_key("nearest/ab")
    'contaminated/ab.json'
    """
    return f"contaminated/{name_of(nearest)}.json"


def checks_key(nearest: str, seed: int) -> str:
    """The checks of a reference, by the prefix of its held-out images' nearest distances.

    >>> checks_key("nearest/ab", 0)
    'checks/a47d2b1ec544485c.json'
    """
    return f"checks/{short(digest(nearest=nearest, seed=seed))}.json"


# -- releases ------------------------------------------------------------------------------------------------


def influence_prefix(held_out: str, release: str, contaminated: str) -> str:
    """The influences of a scored release: two prefixes of nearest distances, and the key of what is not used.

    >>> influence_prefix("nearest/ab", "nearest/cd", "contaminated/ab.json")
    'influence/a16176b6e4f581f5'
    """
    return f"influence/{short(digest(held_out=held_out, release=release, contaminated=contaminated))}"


def profile_prefix(held_out: str, release: str, contaminated: str, table: str, version: int, seed: int) -> str:
    """The profile of a release: as `influence_prefix`, with the version of its table that was read.

    >>> profile_prefix("nearest/ab", "nearest/cd", "contaminated/ab.json", "images-cd", 2, 0)
    'profiles/3072ccdb2686847a'
    """
    read = [table, version]
    code = digest(held_out=held_out, release=release, contaminated=contaminated, table=read, seed=seed)
    return f"profiles/{short(code)}"


def perturbed_prefix(images: Sequence[str], uri: str, change: str, constants: object) -> str:
    """A set whose images (their etags) were changed; ``constants`` says how strongly.

    >>> perturbed_prefix(["a", "b"], "s3://b/images/", "crop", {"crop": 0.9})
    'perturbed/1c076d24aa73f485'
    """
    return f"perturbed/{short(digest(images=images, uri=uri, change=change, constants=constants))}"


def done_key(prefix: str) -> str:
    """The mark of a set of images that is complete.

    >>> done_key("perturbed/ab")
    'perturbed/ab.done'
    """
    return f"{prefix}.done"


def selfcheck_prefix(reference: str, scoring: str) -> str:
    """The nearest distances of a self-check, by the digests of its reference and its scoring.

    >>> selfcheck_prefix("r", "s")
    'selfcheck/a2561131fd1410fc'
    """
    return f"selfcheck/{short(digest(reference=reference, scoring=scoring))}"


# -- results -------------------------------------------------------------------------------------------------


def results_folder(table: str) -> str:
    """The files of one results table.

    >>> results_folder("scores")
    'results/scores/'
    """
    return f"{RESULTS}{table}/"


def result_key(table: str, audit_id: str) -> str:
    """The file of one results table and audit.

    >>> result_key("scores", "glow-80")
    'results/scores/glow-80.parquet'
    """
    return f"{results_folder(table)}{audit_id}.parquet"


def report_key(audit_id: str) -> str:
    """The published report of an audit.

    >>> report_key("ab")
    'reports/ab.html'
    """
    return f"reports/{audit_id}.html"


def curves_key(audits: Sequence[str]) -> str:
    """The picture of the curves of some audits.

    >>> curves_key(["ab", "cd"])
    'pictures/curves-3fd008c8a5b0914f.png'
    """
    return f"{PICTURES}curves-{short(digest(audits=list(audits)))}.png"


def pairs_key(label: str, audit_id: str) -> str:
    """The picture of the closest pairs of an audit; the label must be fit for a file name.

    >>> pairs_key("glow-80", "ab")
    'pictures/pairs-glow-80-ab.png'
    """
    return f"{PICTURES}pairs-{label}-{audit_id}.png"


# -- notes of work -------------------------------------------------------------------------------------------


def claim_folder(name: str) -> str:
    """The generations of a claim.

    >>> claim_folder("work")
    'claims/work/'
    """
    return f"{CLAIMS}{name}/"


def claim_key(name: str, generation: int) -> str:
    """One generation of a claim.

    >>> claim_key("work", 3)
    'claims/work/00000003.json'
    """
    return f"{claim_folder(name)}{generation:08d}.json"


def failure_key(work: str) -> str:
    """Why some work failed.

    >>> failure_key("ab")
    'failures/ab.json'
    """
    return f"{FAILURES}{work}.json"


def announced_key(audit_id: str) -> str:
    """The mark of an audit whose events were emitted.

    >>> announced_key("ab")
    'announced/ab'
    """
    return f"{ANNOUNCED}{audit_id}"


def job_folder(job: str) -> str:
    """What a Ray job and its flow exchange.

    >>> job_folder("layerprint-ab-1")
    'jobs/layerprint-ab-1'
    """
    return f"{JOBS}{job}"
