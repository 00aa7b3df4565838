"""Claims in the store, so that two processes do not do the same work at the same time.

A claim is the object ``claims/<name>/<generation>.json``; the highest generation counts. A process takes it by putting
the next generation if absent, so exactly one wins, and keeps it by renewing it. The claim of a killed process expires
after the lease, or at once for a process that can see that its holder is gone. The clocks of the machines must agree to
within a fraction of the lease.

Claims only save work; correctness does not depend on them: stages may be repeated, and publish by put-if-absent.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from storage.errors import StoreError
from storage.layout import claim_folder, claim_key
from storage.objects.base import BrokenObjectError, ObjectMissingError, ObjectStore
from storage.seal import name_broken, parse_json, read_sealed, sealed_json

LEASE_S = 120.0
_RENEWALS = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """The holder of a claim, and when it expires unless renewed (seconds since 1970)."""

    token: str
    host: str
    space: str
    pid: int
    since: float
    expires: float

    def lives(self, now: float) -> bool:
        """Whether its holder may still be working."""
        if now >= self.expires:
            return False
        return self.space != process_space() or _is_running(self.pid)

    @property
    def holder(self) -> str:
        """A description of the holder."""
        return f"process {self.pid} on {self.host}"


class Claims:
    """The claims of a store.

    Args:
        store: The store.
        lease_s: Seconds that a claim outlives its last renewal.
    """

    def __init__(self, store: ObjectStore, lease_s: float = LEASE_S) -> None:
        self._store = store
        self._lease_s = lease_s

    def holder(self, name: str) -> Claim | None:
        """The live claim of this name."""
        _, claim = self._latest(name)
        return claim if claim is not None and claim.lives(time.time()) else None

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Hold a claim during the block; yields False if another process holds it."""
        generation, claim = self._take(name)
        if claim is None:
            yield False
            return
        key, ended = claim_key(name, generation), threading.Event()
        renewing = threading.Thread(target=self._renew, args=(key, claim, ended), daemon=True, name=f"claim-{name}")
        renewing.start()
        try:
            yield True
        finally:
            ended.set()
            renewing.join()
            self._store.put(key, _to_json(replace(claim, expires=0.0)))

    def _take(self, name: str) -> tuple[int, Claim | None]:
        before, current = self._latest(name)
        now = time.time()
        if current is not None and current.lives(now):
            return before, None
        mine = Claim(uuid.uuid4().hex, platform.node(), process_space(), os.getpid(), now, now + self._lease_s)
        if not self._store.put_if_absent(claim_key(name, before + 1), _to_json(mine)):
            return before, None
        generations = self._generations(name)
        if generations[-1] != before + 1:  # others took, released and cleaned up since we looked
            self._store.delete(claim_key(name, before + 1))
            return before, None
        for old in generations[:-1]:
            self._store.delete(claim_key(name, old))
        return before + 1, mine

    def _renew(self, key: str, claim: Claim, ended: threading.Event) -> None:
        while not ended.wait(self._lease_s / _RENEWALS):
            try:
                self._store.put(key, _to_json(replace(claim, expires=time.time() + self._lease_s)))
            except StoreError as error:
                _log.warning("the claim %s could not be renewed: %s", key, error.found)

    def _latest(self, name: str) -> tuple[int, Claim | None]:
        """The highest generation (0: none yet), and its claim."""
        for generation in reversed(self._generations(name)):
            try:
                return generation, read_sealed(self._store, claim_key(name, generation), _parse)
            except ObjectMissingError:  # cleaned up since it was listed: there is a higher one
                continue
            except BrokenObjectError as error:
                name_broken(error, "nobody holds it")
                return generation, None
        return 0, None

    def _generations(self, name: str) -> list[int]:
        prefix = claim_folder(name)
        names = (info.key.removeprefix(prefix).removesuffix(".json") for info in self._store.list(prefix))
        return sorted(int(name) for name in names if name.isdecimal())


def _to_json(claim: Claim) -> bytes:
    return sealed_json(asdict(claim))


def _parse(data: bytes) -> Claim:
    return Claim(**parse_json(data))


@lru_cache(maxsize=1)
def process_space() -> str:
    """Names the space in which process ids are unique: a boot of the machine and a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{platform.node()}/{uuid.getnode()}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, and belongs to another user
        return True
    return True
