"""Python values in a store that others can write to: nothing is unpickled without the key's seal."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import ray

from storage.errors import StoreError
from storage.objects.base import ObjectStore

_SEAL_BYTES = 32


def put_sealed(store: ObjectStore, key: str, value: object, secret: str, *, replace: bool = True) -> bool:
    """Write a value with its HMAC-SHA256; returns False where one is there and is not replaced.

    Args:
        store: Where.
        key: The object.
        value: Anything that cloudpickle takes.
        secret: Known to those who may write values here.
        replace: Whether one that is there gives way.
    """
    data: bytes = ray.cloudpickle.dumps(value)
    whole = _seal(data, key, secret) + data
    if not replace:
        return store.put_if_absent(key, whole)
    store.put(key, whole)
    return True


def get_sealed(store: ObjectStore, key: str, secret: str) -> Any:
    """Read a value.

    Raises:
        ObjectMissingError: there is none.
        StoreError: it was not written with this secret, or for another key.
    """
    whole = store.get(key)
    seal, data = whole[:_SEAL_BYTES], whole[_SEAL_BYTES:]
    if not hmac.compare_digest(seal, _seal(data, key, secret)):
        raise StoreError(f"{store.child_uri(key)}: not what was written there", "who else writes to this store?")
    return ray.cloudpickle.loads(data)


def _seal(data: bytes, key: str, secret: str) -> bytes:
    return hmac.digest(secret.encode(), key.encode() + b"\0" + data, hashlib.sha256)
