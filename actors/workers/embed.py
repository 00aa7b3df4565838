"""Embeds one shard of an image set: read ahead, decode, one forward pass per batch, write, leave a receipt."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from actors import metrics
from actors.encoder.config import EncoderConfig
from actors.encoder.decode import UnreadableImageError, decode, harmonised, to_square
from actors.workers.tokens import TokenPlan, tokens_of
from storage.errors import StageError
from storage.image_sets.image_ref import ImageReader, ImageRef, Kind
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import open_reader
from storage.objects.open import ObjectChangedError, ObjectMissingError, ObjectStore, open_store
from storage.seal import read_sealed
from storage.vectors.reuse import EarlierTable, unchanged_rows
from storage.vectors.tables import FACT_FIELDS, Receipt, VectorStore, embedding_schema, layer_column, vector_array

if TYPE_CHECKING:
    from actors.encoder.model import Encoder

Vectors = NDArray[np.float32] | NDArray[np.float16]

_CHANGED = "listed, but changed when it was read"


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """How a machine embeds; it does not change the embeddings.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Forward passes at a time, of one thread each; on a GPU there is one.
        readers: Threads that fetch and decode.
        batch_size: Images per forward pass.
    """

    device: str = "cpu"
    threads: int = 1
    readers: int = 8
    batch_size: int = 32


@dataclass(frozen=True, slots=True)
class EmbedShard:
    """One shard to embed: rows ``start`` to ``stop`` of a manifest; unchanged rows are copied from the earlier table.

    ``encoder_digest`` is that of the plan; an encoder with another one on this machine is an error. With ``tokens`` the
    rows hold patch tokens instead of embeddings. A ``part`` of a shard leaves no receipt: those of all parts are merged
    first.
    """

    store: str
    table: str
    receipts: str
    manifest_key: str
    set_uri: str
    kind: Kind
    index: int
    start: int
    stop: int
    config: EncoderConfig
    encoder_digest: str
    settings: EmbedSettings = EmbedSettings()
    earlier: EarlierTable | None = None
    tokens: TokenPlan | None = None
    part: bool = False

    @property
    def images(self) -> int:
        return self.stop - self.start


class _Listed(NamedTuple):
    """One image of a shard, at its row of the manifest."""

    row: int
    image: ImageRef


class _Read(NamedTuple):
    """An image ready for the encoder: pixels (s, s, 3) and the facts of its file; the decoded image is not kept."""

    row: int
    key: str
    pixels: NDArray[np.uint8]
    sha256: str
    codec: str
    width: int
    height: int


class _Reject(NamedTuple):
    """An image that cannot be embedded, and why."""

    key: str
    reason: str


def embed_shard(task: EmbedShard) -> Receipt:
    """Embed one shard; its rows count only once its receipt is committed.

    Besides the encoder, which the process keeps, this holds at most, with batches of b images of s × s pixels and a
    shard of n images:

    * 4 b decoded squares (3 batches ahead of the forward pass, and the one in it): 12 b s² bytes, 5 MB for b = 32 and
      s = 112;
    * per reader a file and up to 4 copies of `LARGE_PIXELS`, and one larger image of up to 64 MP;
    * the shard's embeddings: 4 n Σd bytes over the layers' lengths d, 82 MB for 4096 images and 13 layers of 384, and
      as much again while they are written.

    Raises:
        InputError: The encoder cannot be loaded.
        StageError: It is not the encoder of the plan, or its embeddings are not finite.
        StoreError: The images or the store cannot be read or written.
    """
    encoder = _planned_encoder(task)
    began = time.monotonic()
    store = open_store(task.store)
    manifest = load_manifest(store, task.manifest_key)
    reader = _reader(task.set_uri, task.kind, task.manifest_key)
    vectors = VectorStore(store)
    kept = _unchanged(vectors, task, manifest, encoder)
    known = set(kept["row"].to_pylist())
    rows_listed = map(_Listed, range(task.start, task.stop), manifest.images(task.start, task.stop))
    listed = [image for image in rows_listed if image.row not in known]
    rejects: list[dict[str, str]] = []
    with _reader_threads(task.settings.readers) as threads:
        reads = _read_ahead(threads, reader, listed, encoder, 3 * task.settings.batch_size)
        batches = _batches(reads, task.settings.batch_size, rejects)
        rows = pa.concat_tables([kept, *(_embed_batch(encoder, task, batch) for batch in batches)])
    rows = rows.sort_by("row") if known else rows
    receipt = Receipt(
        shard=task.index,
        rows=rows.num_rows,
        fragments=vectors.write_shard(task.table, rows),
        rejects=rejects,
        codecs=dict(Counter(rows["codec"].to_pylist())),
        sizes=dict(Counter(map("{}×{}".format, rows["width"].to_pylist(), rows["height"].to_pylist()))),
        bytes_read=sum(image.size for _, image in listed),
        seconds=time.monotonic() - began,
        reused=kept.num_rows,
    )
    if not task.part:
        vectors.leave_receipt(task.receipts, receipt)
    _count(receipt)
    return receipt


def describe_encoder(config: EncoderConfig) -> bytes:
    """The facts of an encoder as JSON; it runs in a worker, so that the driver never loads torch."""
    from actors.encoder.model import Encoder

    return Encoder(config).facts.to_json()


@lru_cache(maxsize=1)
def load_encoder(config: EncoderConfig, device: str, threads: int) -> Encoder:
    """The encoder on its device; a process keeps the last one.

    Raises:
        InputError: It cannot be loaded.
    """
    import torch  # here, because the driver imports this module and must stay small

    from actors.encoder.model import Encoder

    torch.set_num_threads(threads)
    return Encoder(config, device, passes=threads if device == "cpu" else 1)


def _planned_encoder(task: EmbedShard) -> Encoder:
    encoder = load_encoder(task.config, task.settings.device, task.settings.threads)
    if encoder.facts.digest != task.encoder_digest:
        raise StageError(
            f"the encoder on this machine has digest {encoder.facts.digest[:16]}, the audit was planned with "
            f"{task.encoder_digest[:16]}",
            "give all machines the same weights file and the same timm, or run the audit again",
        )
    return encoder


def _unchanged(vectors: VectorStore, task: EmbedShard, manifest: Manifest, encoder: Encoder) -> pa.Table:
    """The rows of images that have not changed since the set was last embedded."""
    schema = _schema(encoder, task)
    if task.earlier is None:
        return schema.empty_table()
    before = load_manifest(vectors.store, task.earlier.manifest_key)
    return unchanged_rows(vectors, task.earlier, before, manifest, task.start, task.stop).cast(schema)


@contextmanager
def _reader_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(count, thread_name_prefix="reader")
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # after an error nobody waits for slow reads


def _read_ahead(
    threads: ThreadPoolExecutor, reader: ImageReader, listed: list[_Listed], encoder: Encoder, most: int
) -> Iterator[_Read | _Reject]:
    """Images in order, with at most `most` reads and decodes in flight."""
    work = iter(listed)
    ahead: deque[Future[_Read | _Reject]] = deque()
    for image in islice(work, most):
        ahead.append(threads.submit(_read, reader, image, encoder.config, encoder.resample))
    while ahead:
        yield ahead.popleft().result()
        for image in islice(work, 1):
            ahead.append(threads.submit(_read, reader, image, encoder.config, encoder.resample))


def read_squares(
    reader: ImageReader, images: Sequence[ImageRef], encoder: Encoder, settings: EmbedSettings
) -> list[NDArray[np.uint8]]:
    """The squares (s, s, 3) of the images that can be read, in order."""
    listed = list(map(_Listed, range(len(images)), images))
    with _reader_threads(settings.readers) as threads:
        reads = _read_ahead(threads, reader, listed, encoder, 3 * settings.batch_size)
        return [read.pixels for read in reads if isinstance(read, _Read)]


def _batches(reads: Iterator[_Read | _Reject], size: int, rejects: list[dict[str, str]]) -> Iterator[list[_Read]]:
    """Batches of readable images, full up to the last one, which may be empty."""
    batch: list[_Read] = []
    for read in reads:
        if isinstance(read, _Reject):
            rejects.append(read._asdict())
            continue
        batch.append(read)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


def _schema(encoder: Encoder, task: EmbedShard) -> pa.Schema:
    return embedding_schema(encoder.facts.dims) if task.tokens is None else task.tokens.schema


def _embed_batch(encoder: Encoder, task: EmbedShard, batch: list[_Read]) -> pa.Table:
    schema = _schema(encoder, task)
    if not batch:
        return schema.empty_table()
    pixels = np.stack([read.pixels for read in batch])
    if task.tokens is None:
        vectors: Mapping[str, Vectors] = {layer_column(k): x for k, x in encoder.embed(pixels).items()}
        metrics.add(metrics.IMAGES_EMBEDDED, len(batch))
    else:
        vectors = tokens_of(encoder, task.store, task.tokens, pixels)
    _check_finite(vectors, batch)
    columns = [pa.array([getattr(read, field.name) for read in batch], field.type) for field in FACT_FIELDS]
    columns += [vector_array(vectors[name]) for name in schema.names[len(FACT_FIELDS) :]]
    return pa.Table.from_arrays(columns, schema=schema)


def _check_finite(vectors: Mapping[str, Vectors], batch: list[_Read]) -> None:
    for column, x in vectors.items():
        wrong = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(wrong):
            raise StageError(
                f"{column} of image {batch[wrong[0]].key} is not finite",
                "the encoder overflows: check its weights, or set encoder.precision to bfloat16 or float32",
            )


@lru_cache(maxsize=2)
def _manifest(store_uri: str, key: str) -> Manifest:
    return read_sealed(open_store(store_uri), key, Manifest.from_bytes)


@lru_cache(maxsize=2)
def _reader(uri: str, kind: Kind, _manifest_key: str) -> ImageReader:
    """A reader of a set; a set that was listed again is opened again."""
    return open_reader(uri, kind)


def load_manifest(store: ObjectStore, key: str) -> Manifest:
    """A manifest of the store; a process keeps the last two."""
    return _manifest(store.uri, key)


def _count(receipt: Receipt) -> None:
    metrics.add(metrics.IMAGES_REUSED, receipt.reused)
    metrics.add(metrics.READ_BYTES, receipt.bytes_read)
    for reason, images in Counter(metrics.reject_class(reject["reason"]) for reject in receipt.rejects).items():
        metrics.add(metrics.IMAGES_REJECTED, images, reason=reason)


def _read(reader: ImageReader, listed: _Listed, config: EncoderConfig, resample: Image.Resampling) -> _Read | _Reject:
    row, key, expected = listed.row, listed.image.key, listed.image.sha256
    try:
        image = harmonised(decode(reader.read(listed.image)), config.harmonise)
    except UnreadableImageError as error:
        return _Reject(key, str(error))
    except ObjectMissingError:
        return _Reject(key, "listed, but gone when it was read")
    except ObjectChangedError:
        return _Reject(key, _CHANGED)
    if expected not in (None, image.sha256):
        return _Reject(key, _CHANGED)
    pixels = to_square(image.rgb, config.image_size, resample)
    return _Read(row, key, pixels, image.sha256, image.codec, image.width, image.height)
