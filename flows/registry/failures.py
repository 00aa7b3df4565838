"""Releases that could not be audited: the reason, kept in the store, and when a sweep tries again.

A failure that is the release's own fault is tried again when the release or the spec has changed, since it would fail
in the same way. Any other (a store out of reach, workers that died) may pass: it is tried again after 15 minutes, 30,
60 and so on up to a day, and at once when something has changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version

from flows.results.identity import reference_key
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.text import one_line
from storage.digest import digest, short
from storage.errors import InputError, LayerprintError
from storage.layout import FAILURES, failure_key
from storage.objects.open import ObjectMissingError, ObjectStore
from storage.seal import parse_json, read_sealed, sealed_json, unless_broken

FIRST_WAIT_S = 15 * 60.0
MOST_WAIT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a release could not be audited.

    Attributes:
        label: The release.
        found: What went wrong, and where.
        remedy: What to do about it.
        own_fault: Whether the release's own input was the reason.
        saw: What was tried, see `attempt_digest`.
        attempts: How often the same was tried.
        at: When it failed last (seconds since 1970).
    """

    label: str
    found: str
    remedy: str
    own_fault: bool
    saw: str
    attempts: int
    at: float

    @property
    def retry_at(self) -> float | None:
        """When the same is tried again; None = never.

        >>> Failure("a@1", "", "", False, "", 3, 1000.0).retry_at
        4600.0
        """
        if self.own_fault:
            return None
        return self.at + min(MOST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self.attempts - 1, 20))

    @property
    def when(self) -> str:
        """When it is tried again, for people."""
        if self.retry_at is None:
            return "tried again when it has changed"
        return f"tried again from {dt.datetime.fromtimestamp(self.retry_at, dt.UTC):%Y-%m-%d %H:%M} UTC on"


def work_name(spec: AuditSpec, release: ReleaseSpec) -> str:
    """The name of the work on a release under a spec, for its claim and its failure."""
    return short(digest(spec=reference_key(spec), release=[release.name, release.version, release.run]))


def attempt_digest(spec: AuditSpec, release: ReleaseSpec, images: str) -> str:
    """Digest of what an attempt works on; ``images`` is the digest of the release's manifest."""
    return digest(
        spec=reference_key(spec),
        release=release.model_dump(mode="json"),
        images=images,
        layerprint=version("layerprint"),
    )


def load_failure(store: ObjectStore, name: str) -> Failure | None:
    """The failure of this work; None when it never failed or succeeded since."""
    return _read(store, failure_key(name))


def all_failures(store: ObjectStore) -> Iterator[Failure]:
    """Every failure of the store."""
    for info in store.list(FAILURES):
        failure = _read(store, info.key)
        if failure is not None:
            yield failure


def _read(store: ObjectStore, key: str) -> Failure | None:
    """A failure; None where there is none, or, with a warning, a broken one."""
    try:
        return unless_broken(
            lambda: read_sealed(store, key, lambda data: Failure(**parse_json(data))), "the failure is forgotten"
        )
    except ObjectMissingError:
        return None


def release_error(error: Exception) -> LayerprintError:
    """Why a release could not be audited, for people; an error that nobody expected keeps its name.

    >>> release_error(MemoryError()).found, release_error(KeyError("x")).found
    ('MemoryError', "KeyError: 'x'")
    """
    if isinstance(error, LayerprintError):
        return error
    found = f"{type(error).__name__}: {one_line(error, 500)}".removesuffix(": ")
    if isinstance(error, MemoryError):
        return LayerprintError(found, "give this machine more memory, or fewer and smaller images")
    if isinstance(error, OSError):
        return LayerprintError(found, "check the disk, the network and the limits of this user")
    return LayerprintError(found, "run `layerprint --verbose …` and report its output")


def save_failure(store: ObjectStore, name: str, label: str, error: Exception, saw: str, now: float) -> Failure:
    """Record that an attempt failed, and how often the same attempt did."""
    before = load_failure(store, name)
    attempts = before.attempts + 1 if before is not None and before.saw == saw else 1
    shown = release_error(error)
    failure = Failure(label, shown.found, shown.remedy, isinstance(error, InputError), saw, attempts, now)
    store.put(failure_key(name), sealed_json(asdict(failure)))
    return failure


def forget_failure(store: ObjectStore, name: str) -> None:
    """Remove the failure of work that succeeded."""
    store.delete(failure_key(name))
