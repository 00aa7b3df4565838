"""Python values in a store that others can write to: nothing is unpickled without a valid signature."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import ray

from storage.errors import StoreError
from storage.objects.base import ObjectStore

_SIGNATURE_BYTES = 32


def put_signed(store: ObjectStore, key: str, value: object, secret: str, *, replace: bool = True) -> bool:
    """Write a value with its HMAC-SHA256; False when there is one already and it is not replaced.

    Args:
        store: The store.
        key: The object.
        value: Anything that cloudpickle accepts.
        secret: The key of the signature.
        replace: Whether to replace an existing object.
    """
    data: bytes = ray.cloudpickle.dumps(value)
    content = _sign(data, key, secret) + data
    if not replace:
        return store.put_if_absent(key, content)
    store.put(key, content)
    return True


def get_signed(store: ObjectStore, key: str, secret: str) -> Any:
    """Read a value.

    Raises:
        ObjectMissingError: There is none.
        StoreError: It was not signed with this secret for this key.
    """
    content = store.get(key)
    signature, data = content[:_SIGNATURE_BYTES], content[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(data, key, secret)):
        raise StoreError(f"{store.child_uri(key)}: not what was written there", "who else writes to this store?")
    return ray.cloudpickle.loads(data)


def _sign(data: bytes, key: str, secret: str) -> bytes:
    return hmac.digest(secret.encode(), key.encode() + b"\0" + data, hashlib.sha256)
