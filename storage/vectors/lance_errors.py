"""Errors of Lance as `StoreError` with a remedy.

Lance seldom says why a request failed: a refused HEAD has no body, and 503 and an expired token look alike. So after an
S3 failure in Lance, the store is queried once through our own client, whose errors are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lance.commit import CommitConflictError

from storage.errors import StoreError, StoreUnavailableError
from storage.layout import marker_key, partition_of_index, receipts_prefix, table_folder
from storage.objects.base import ObjectStore

_DAMAGED = re.compile(
    r"not found|does not appear to be a lance file|corrupt|failed to fill whole buffer|invalid (magic|protobuf)"
    r"|failed to decode|file size is too small|unexpected eof|out of (range|bounds)|invalid range",
    re.IGNORECASE,
)
_PASSING = re.compile(
    r"generic s3 error|error sending request|after \d+ retries|timed out|retry_timeout", re.IGNORECASE
)
_SYSTEM = re.compile(r"(?P<words>[^:]+?) \(os error (?P<number>\d+)\)")
_NO_SUCH_FILE = "2"


class DamagedTableError(StoreError):
    """A file of a table is missing or broken.

    Args:
        found: See `StoreError`.
        remedy: See `StoreError`.
        table: The table.
    """

    def __init__(self, found: str, remedy: str, *, table: str = "") -> None:
        super().__init__(found, remedy)
        self.table = table


@contextmanager
def lance_errors(store: ObjectStore, table: str, *, opening: bool = False) -> Iterator[None]:
    """Turns storage errors of Lance into `StoreError`; other errors pass unchanged.

    Args:
        store: The audit's store, whose ``vectors/`` holds the table.
        table: The table in use.
        opening: Nothing but a version is opened: whatever fails there, the table is damaged.

    Raises:
        StoreUnavailableError: S3 did not answer for a while.
        DamagedTableError: A file of the table is missing or broken.
        StoreError: The store refuses us, or its disk is full.
    """
    try:
        yield
    except CommitConflictError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # pyarrow's errors are ValueErrors, LanceDB's RuntimeErrors
        meaning = _meaning(store, table, " ".join(str(error).split()))
        if meaning is None and opening:
            meaning = damaged_table(store, table, str(error))
        if meaning is None:
            raise
        raise meaning from error


def _meaning(store: ObjectStore, table: str, text: str) -> StoreError | None:
    where = store.child_uri(table_folder(table))
    system = _SYSTEM.search(text)
    if system and system["number"] != _NO_SUCH_FILE:
        reason = system["words"].rpartition(")")[2].strip()
        return StoreError(f"{where}: {reason}", "check the path, its permissions and the free space there")
    if _PASSING.search(text) or "privileges" in text or "Status {" in text or "ListRequest" in text:
        try:
            store.exists(marker_key(table))
        except StoreError as error:
            return error
        return StoreUnavailableError(f"{where}: S3 failed for a while ({text[:200]})", "run the command again")
    if system or _DAMAGED.search(text):
        return damaged_table(store, table, text)
    return None


def damaged_table(store: ObjectStore, table: str, reason: str) -> DamagedTableError:
    """The error of a table with a missing or broken file.

    Args:
        store: The audit's store.
        table: ``images-<digest>`` (embeddings) or ``train-<partition>-layer_<k>-<attempt>`` (an index).
        reason: What was found.
    """
    names = " and ".join(store.child_uri(key) for key in refers_to(table))
    return DamagedTableError(
        f"{store.child_uri(table_folder(table))}: the table is damaged ({reason[:200]})",
        f"delete {names}, then run the command again: only this table is rebuilt",
        table=table,
    )


def refers_to(table: str) -> list[str]:
    """The key or prefixes without which the next run rebuilds a table: its partition, or its marker and receipts.

    >>> refers_to("images-ab")
    ['tables/images-ab.json', 'receipts/images-ab']
    """
    partition = partition_of_index(table)
    return [partition] if partition else [marker_key(table), receipts_prefix(table)]
