"""Vector tables in LanceDB: one table per image set × encoder, one vector column per layer.

Workers write fragments and put a receipt under a deterministic name; the driver commits all receipts of a table at
once. Three rules make the commit safe:

* a receipt is put if absent, so of two workers that embed the same shard exactly one counts;
* the commit *overwrites* the table with the fragments of all receipts, so committing twice (two drivers, or a crash
  between commit and marker) gives the same rows once, where an append would double them; a table that already has
  exactly these files is left alone, so that the version in another driver's marker stays the latest;
* the marker is put if absent, after the commit, and names the version that every reader opens.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import lance
import numpy as np
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata, write_fragments
from numpy.typing import NDArray
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from storage.errors import StageError, StoreError, StoreUnavailableError
from storage.layout import MARKERS, VECTORS, marker_key, name_of, receipt_key, table_folder
from storage.objects.open import ObjectMissingError, ObjectStore, lance_storage_options
from storage.seal import parse_json, read_sealed, sealed_json
from storage.vectors.lance_errors import lance_errors

if TYPE_CHECKING:
    import lancedb

_log = logging.getLogger(__name__)

SCAN_WINDOW = 2**18

_READS = 16
"""Receipts that are read concurrently."""

ATTEMPTS = 6
"""Attempts to write a version. Lance puts it if absent, and gives up when that connection breaks, since the outcome is
unknown; here both steps may be repeated. One broken connection may cost two attempts: the request that it broke, and
the next one, sent on a pooled connection that is dead as well."""

_again = retry(
    retry=retry_if_exception_type(StoreUnavailableError),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    reraise=True,
)

FACT_FIELDS = [
    pa.field("row", pa.int64(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
    pa.field("codec", pa.string(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
]


def layer_column(layer: int) -> str:
    """The name of a layer's vector column.

    >>> layer_column(3)
    'layer_03'
    """
    return f"layer_{layer:02d}"


def embedding_schema(dims: dict[int, int]) -> pa.Schema:
    """The schema of an embedding table.

    Args:
        dims: Layer → vector length.
    """
    vectors = [pa.field(layer_column(k), pa.list_(pa.float32(), d), nullable=False) for k, d in dims.items()]
    return pa.schema([*FACT_FIELDS, *vectors])


def vector_array(x: NDArray[np.float32] | NDArray[np.float16]) -> pa.FixedSizeListArray:
    """A matrix (n, d) float32 or float16 as an Arrow column of n vectors, without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(x).reshape(-1)), x.shape[1])


def vector_matrix(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float32]:
    """An Arrow column of n vectors as a matrix (n, d) float32."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    flat: NDArray[np.float32] = array.flatten().to_numpy()
    return flat.reshape(len(array), array.type.list_size)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A worker's report on one embedded shard: small, and all that the driver sees of it.

    ``sizes`` and ``codecs`` count images by "width×height" and by codec; ``reused`` rows came from an earlier table.
    """

    shard: int
    rows: int
    fragments: list[str]
    rejects: list[dict[str, str]]
    codecs: dict[str, int]
    sizes: dict[str, int]
    bytes_read: int
    seconds: float
    reused: int = 0


def merge_receipts(parts: Sequence[Receipt]) -> Receipt:
    """The receipt of a shard that was embedded in parts, in the order of their rows."""
    return Receipt(
        shard=parts[0].shard,
        rows=sum(part.rows for part in parts),
        fragments=[fragment for part in parts for fragment in part.fragments],
        rejects=[reject for part in parts for reject in part.rejects],
        codecs=_total(part.codecs for part in parts),
        sizes=_total(part.sizes for part in parts),
        bytes_read=sum(part.bytes_read for part in parts),
        seconds=sum(part.seconds for part in parts),
        reused=sum(part.reused for part in parts),
    )


@dataclass(frozen=True, slots=True)
class EmbeddingTable:
    """A committed table: the content of its marker."""

    name: str
    version: int
    rows: int
    rejects: list[dict[str, str]]
    codecs: dict[str, int]
    sizes: dict[str, int]
    seconds: float = field(default=0.0)


class ImageIdentity(NamedTuple):
    """Where an image is in its set, and the SHA-256 of its bytes."""

    key: str
    sha256: str


class VectorStore:
    """The vector tables under ``<store>/vectors`` with their receipts and markers.

    Args:
        store: The audit's store.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.uri = store.child_uri(VECTORS.removesuffix("/"))

    @property
    def options(self) -> dict[str, str] | None:
        """The storage options of Lance; not cached, since credentials are renewed."""
        return lance_storage_options(self.uri)

    def guarded(self, name: str) -> AbstractContextManager[None]:
        """Turns storage errors of Lance into `StoreError`, see `lance_errors`."""
        return lance_errors(self.store, name)

    def table_uri(self, name: str) -> str:
        return self.store.child_uri(table_folder(name))

    def database(self) -> lancedb.DBConnection:
        import lancedb  # takes a second, and reading results does not need it

        return lancedb.connect(self.uri, storage_options=self.options)

    def open(self, name: str, version: int) -> Any:
        """The LanceDB table at exactly this version."""
        with lance_errors(self.store, name, opening=True):
            table = self.database().open_table(name)
            table.checkout(version)
            return table

    def dataset(self, name: str, version: int) -> lance.LanceDataset:
        """The same table as a Lance dataset, for scans of single columns."""
        with lance_errors(self.store, name, opening=True):
            return lance.dataset(self.table_uri(name), version=version, storage_options=self.options)

    def read(self, name: str, version: int, columns: list[str], **limits: Any) -> pa.Table:
        """Columns of a table; ``filter`` and ``limit`` as in `lance.LanceDataset.to_table`."""
        with self.guarded(name):
            return self.dataset(name, version).to_table(columns=columns, **limits)

    def scan(
        self, name: str, version: int, column: str, batch_rows: int = 16_384, part: slice | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """One vector column in the order of the table, block by block: (row (b,), vectors (b, d)).

        ``part``: positions in the table; None = all. The table is reopened every `SCAN_WINDOW` rows, since processing
        the blocks may outlast the credentials.
        """
        rows = self.dataset(name, version).count_rows()
        start, stop = (0, rows) if part is None else (part.start, min(part.stop, rows))
        for at in range(start, stop, SCAN_WINDOW):
            limits = {"offset": at, "limit": min(SCAN_WINDOW, stop - at)}
            with self.guarded(name):
                dataset = self.dataset(name, version)
                for batch in dataset.to_batches(["row", column], batch_size=batch_rows, scan_in_order=True, **limits):
                    yield batch["row"].to_numpy(), vector_matrix(batch[column])

    def take(
        self, name: str, version: int, column: str, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Some vectors of a column by their positions in the table: (row (b,), vectors (b, d)) in the same order."""
        with self.guarded(name):
            table = self.dataset(name, version).take(positions, columns=["row", column])
        return table["row"].to_numpy(), vector_matrix(table[column])

    def identities(self, table: EmbeddingTable, rows: Collection[int]) -> dict[int, ImageIdentity]:
        """Key and content digest of some rows of an embedding table."""
        if not rows:
            return {}
        chosen = f"row IN ({', '.join(str(int(row)) for row in rows)})"
        images = self.read(table.name, table.version, ["row", "key", "sha256"], filter=chosen).to_pylist()
        return {image["row"]: ImageIdentity(image["key"], image["sha256"]) for image in images}

    # -- shards and receipts ---------------------------------------------------------------------------------

    @_again
    def create(self, name: str, schema: pa.Schema) -> None:
        """Create the empty table with its full schema unless it exists."""
        with self.guarded(name):
            self.database().create_table(name, schema=schema, exist_ok=True)

    def write_shard(self, name: str, rows: pa.Table) -> list[str]:
        """Write one shard's rows as uncommitted fragments; returns their metadata as JSON texts."""
        if not rows.num_rows:
            return []
        with self.guarded(name):
            fragments = write_fragments(
                rows, self.table_uri(name), schema=rows.schema, mode="append", storage_options=self.options
            )
        self.check_written(name, fragments)
        self.store.make_durable(*_data_keys(name, fragments))
        return [json.dumps(fragment.to_json()) for fragment in fragments]

    def check_written(self, name: str, fragments: Sequence[FragmentMetadata]) -> None:
        """Check that data files are complete: Lance does not notice a file that a full disk truncated.

        Raises:
            StoreError: A file is incomplete.
        """
        for file, key in zip(_data(fragments), _data_keys(name, fragments), strict=True):
            size = self.store.info(key).size
            if size != file.file_size_bytes:
                raise StoreError(
                    f"{self.store.child_uri(key)}: {size} of {file.file_size_bytes} bytes were written",
                    "check the free space there and the limits on the size of files, then run again",
                )

    def leave_receipt(self, prefix: str, receipt: Receipt) -> bool:
        """Publish a shard's receipt; False if another worker was first (then its rows count, not ours)."""
        return self.store.put_if_absent(receipt_key(prefix, receipt.shard), sealed_json(asdict(receipt)))

    def receipts(self, prefix: str) -> dict[int, Receipt]:
        """All receipts under a prefix, by shard index.

        Raises:
            BrokenObjectError: One is not what was written.
        """
        keys = [info.key for info in self.store.list(prefix + "/")]
        with ThreadPoolExecutor(_READS) as pool:
            receipts = list(pool.map(lambda key: read_sealed(self.store, key, _parse_receipt), keys))
        return {receipt.shard: receipt for receipt in receipts}

    # -- commit ----------------------------------------------------------------------------------------------

    def committed(self, name: str) -> EmbeddingTable | None:
        """The marker of a finished table, or None.

        Raises:
            BrokenObjectError: It is not what was written.
        """
        try:
            return read_sealed(self.store, marker_key(name), _parse_marker)
        except ObjectMissingError:
            return None

    def finished(self) -> set[str]:
        """The names of all committed tables."""
        return {name_of(info.key) for info in self.store.list(MARKERS)}

    def commit(self, name: str, schema: pa.Schema, receipts: Sequence[Receipt]) -> EmbeddingTable:
        """Commit all shards of a table at once, then publish its marker.

        Args:
            name: Table, created with `create`.
            schema: The table's schema.
            receipts: One per shard, for all shards.

        Returns:
            The marker that counts: ours, or that of a driver that committed the same shards before us.
        """
        done = self.committed(name)
        if done is not None:
            return done
        ordered = sorted(receipts, key=lambda r: r.shard)
        rows = sum(r.rows for r in ordered)
        version = self._overwrite(name, schema, [f for r in ordered for f in r.fragments], rows)
        table = EmbeddingTable(
            name=name,
            version=version,
            rows=rows,
            rejects=[reject for r in ordered for reject in r.rejects],
            codecs=_total(r.codecs for r in ordered),
            sizes=_total(r.sizes for r in ordered),
            seconds=sum(r.seconds for r in ordered),
        )
        self.store.make_durable(*(f"{table_folder(name)}/{part}/" for part in ("_versions", "_transactions")))
        self.store.put_if_absent(marker_key(name), sealed_json(asdict(table)))
        return self.committed(name) or table

    @_again
    def _overwrite(self, name: str, schema: pa.Schema, fragments: list[str], rows: int) -> int:
        """Replace the table's content by these fragments; returns the new version."""
        complete = [FragmentMetadata.from_json(fragment) for fragment in fragments]
        with self.guarded(name):
            dataset = lance.dataset(self.table_uri(name), storage_options=self.options)
            if _data_files(dataset) != _files(complete):  # else: committed before a crash, or by another driver
                operation = lance.LanceOperation.Overwrite(schema, complete)
                transaction = lance.Transaction(dataset.version, operation, transaction_properties={"table": name})
                try:
                    lance.LanceDataset.commit(
                        self.table_uri(name), transaction, storage_options=self.options, max_retries=0
                    )
                except CommitConflictError:
                    _log.info("table %s: another driver committed the same shards first", name)
                dataset = lance.dataset(self.table_uri(name), storage_options=self.options)
            if _data_files(dataset) != _files(complete) or dataset.count_rows() != rows:
                raise StageError(
                    f"table {name} has {dataset.count_rows()} rows after its commit, its receipts say {rows}",
                    "run the audit again; if that does not help, delete the table's folder and its receipts",
                )
            return int(dataset.version)


def _parse_receipt(data: bytes) -> Receipt:
    return Receipt(**parse_json(data))


def _parse_marker(data: bytes) -> EmbeddingTable:
    return EmbeddingTable(**parse_json(data))


def _data(fragments: Iterable[FragmentMetadata]) -> list[Any]:
    return [file for fragment in fragments for file in fragment.files]


def _data_keys(table: str, fragments: Iterable[FragmentMetadata]) -> list[str]:
    return [f"{table_folder(table)}/data/{file.path}" for file in _data(fragments)]


def _files(fragments: Iterable[FragmentMetadata]) -> set[str]:
    return {file.path for file in _data(fragments)}


def _data_files(dataset: lance.LanceDataset) -> set[str]:
    return _files(fragment.metadata for fragment in dataset.get_fragments())


def _total(counts: Iterator[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)
