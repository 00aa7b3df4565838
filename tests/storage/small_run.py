"""A small run over a table of three shards, which can be killed at a point of the commit protocol.

    python -m tests.storage.small_run STORE_URI WORKER [POINT]

Run as a module it waits for a line on its standard input, embeds the shards that have no receipt, commits, and prints
the marker; at POINT it kills itself with SIGKILL. WORKER is a fraction that marks the vectors as its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable, Receipt, VectorStore, embedding_schema, vector_array

DIMS = {0: 3, 7: 5}
SCHEMA = embedding_schema(DIMS)
SHARDS = [range(4), range(4, 9), range(9, 11)]
ROWS = list(range(11))


def shard_rows(shard: range, worker: float = 0) -> pa.Table:
    """The rows of a shard; all their vectors hold the row's number, and the worker's as a fraction."""
    count = len(shard)
    facts: list[Any] = [
        pa.array(list(shard), pa.int64()),
        pa.array([f"{row:02d}.png" for row in shard]),
        pa.array([f"sha-{row}" for row in shard]),
        pa.array(["PNG"] * count),
        pa.array([8] * count, pa.int32()),
        pa.array([9] * count, pa.int32()),
    ]
    values = np.array(shard, np.float32)[:, None] + np.float32(worker)
    return pa.Table.from_arrays([*facts, *(vector_array(values.repeat(d, 1)) for d in DIMS.values())], schema=SCHEMA)


def receipt_of(vectors: VectorStore, index: int, worker: float = 0) -> Receipt:
    rows = shard_rows(SHARDS[index], worker)
    return Receipt(
        shard=index,
        rows=rows.num_rows,
        fragments=vectors.write_shard("t", rows),
        rejects=[{"key": f"bad-{index}.png", "reason": "why"}],
        codecs={"PNG": rows.num_rows},
        sizes={"8×9": rows.num_rows},
        bytes_read=10,
        seconds=0.5,
    )


def embed_shard(vectors: VectorStore, index: int, worker: float = 0) -> bool:
    """What a worker does with a shard; False when another was first."""
    return vectors.leave_receipt("receipts/t", receipt_of(vectors, index, worker))


def commit_all(vectors: VectorStore) -> EmbeddingTable:
    """What a driver does when all shards have their receipts."""
    found = vectors.receipts("receipts/t")
    return vectors.commit("t", SCHEMA, [found[index] for index in range(len(SHARDS))])


def run(vectors: VectorStore, worker: float = 0) -> EmbeddingTable:
    """A run from its begin to its marker, on whatever an earlier one left."""
    done = vectors.committed("t")
    if done is not None:
        return done
    vectors.create("t", SCHEMA)
    for index in sorted({0, 1, 2} - set(vectors.receipts("receipts/t"))):
        embed_shard(vectors, index, worker)
    return commit_all(vectors)


def found_rows(vectors: VectorStore, table: EmbeddingTable) -> list[int]:
    rows: list[int] = vectors.dataset("t", table.version).to_table(columns=["row"])["row"].to_pylist()
    return rows


def _die_at(owner: Any, method: str, at: Callable[..., bool], after: bool = False) -> None:
    """Have a method end this process when it is called so, before or after it has done its work."""
    call = getattr(owner, method)

    def mortal(*arguments: Any, **options: Any) -> Any:
        if at(*arguments) and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        if at(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, mortal)


def _is(key: str) -> Callable[..., bool]:
    return lambda _store, written, _data: bool(written == key)


def _any(*_: object) -> bool:
    return True


def arm(store: type[ObjectStore], point: str) -> None:
    """Have this process die at a point of the protocol."""
    second, marker = "receipts/t/shard-000001.json", "tables/t.json"
    match point:
        case "after the table's creation":
            _die_at(VectorStore, "create", _any, after=True)
        case "after fragments before receipt":
            _die_at(store, "put_if_absent", _is(second))
        case "after a receipt":
            _die_at(store, "put_if_absent", _is(second), after=True)
        case "after receipts before commit":
            _die_at(lance.LanceDataset, "commit", _any)
        case "after commit before marker":
            _die_at(store, "put_if_absent", _is(marker))
        case "after marker":
            _die_at(store, "put_if_absent", _is(marker), after=True)
        case _:
            raise ValueError(f"no point {point!r}")


POINTS = (
    "after the table's creation",
    "after fragments before receipt",
    "after a receipt",
    "after receipts before commit",
    "after commit before marker",
    "after marker",
)


def main(uri: str, worker: str, point: str = "") -> None:
    store = open_store(uri)
    if point:
        arm(type(store), point)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(asdict(run(VectorStore(store), float(worker)))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
