"""Broken files of a store are set aside, so that the next attempt makes them again.

They are moved to ``broken/``, where somebody can look at them; nothing reads or removes them. Only a run that can make
them again sets them aside. Others name them and go on without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from storage.errors import StoreError
from storage.layout import broken_key, table_folder
from storage.objects.base import BrokenObjectError, ObjectMissingError, ObjectStore
from storage.seal import PARSERS, content_digest, name_broken, read_sealed
from storage.vectors.lance_errors import DamagedTableError, refers_to

T = TypeVar("T")

MOST_ATTEMPTS = 30
"""Attempts of one piece of work; each ends with another broken file, and sets its neighbours aside as well."""

_log = logging.getLogger(__name__)


def with_repairs(store: ObjectStore, work: Callable[[], T], before_again: Callable[[], object] = lambda: None) -> T:
    """Do work that finds its output in the store; what it finds broken is set aside, and the work done again.

    Args:
        store: The store.
        work: Makes what is missing.
        before_again: Called before another attempt, to forget what was read.

    Raises:
        BrokenObjectError: A file breaks again and again, or cannot be set aside.
        LayerprintError: As the work raised it.
    """
    for _ in range(MOST_ATTEMPTS - 1):
        try:
            return work()
        except (BrokenObjectError, DamagedTableError) as error:
            if not set_aside(store, error):
                raise
        before_again()
    return work()


def set_aside(store: ObjectStore, error: BrokenObjectError | DamagedTableError) -> bool:
    """Set a broken file aside, and the broken ones beside it; of a table, all files and what refers to them.

    Returns:
        Whether another attempt has a chance: False in a store that cannot be written.
    """
    try:
        if isinstance(error, DamagedTableError):
            _set_table_aside(store, error.table)
        else:
            _set_file_aside(store, error)
            _set_neighbours_aside(store, error.key)
    except ObjectMissingError:
        return True  # another process was faster
    except StoreError as refused:
        _log.warning("%s; it cannot be set aside: %s", error.found, refused.found)
        return False
    name_broken(error, "set aside and made again")
    return True


def _set_file_aside(store: ObjectStore, error: BrokenObjectError) -> None:
    if content_digest(store.get(error.key)) == error.seen:  # else another process has made it again
        store.move(error.key, broken_key(error.key, error.seen))


def _set_neighbours_aside(store: ObjectStore, key: str) -> None:
    """A power failure seldom breaks one file alone."""
    folder = key.rpartition("/")[0]
    for info in list(store.list(f"{folder}/")) if folder else []:
        parse = PARSERS.get(info.key.rpartition(".")[2])
        if parse is None:
            continue
        try:
            read_sealed(store, info.key, parse)
        except BrokenObjectError as error:
            _set_file_aside(store, error)
            name_broken(error, "set aside and made again")
        except ObjectMissingError:
            continue


def _set_table_aside(store: ObjectStore, table: str) -> None:
    keys = [info.key for prefix in refers_to(table) for info in store.list(prefix)]
    keys += [info.key for info in store.list(f"{table_folder(table)}/")]
    seen = content_digest(repr(sorted(keys)).encode())
    for key in keys:  # what refers to the table first
        store.move(key, broken_key(key, seen))
