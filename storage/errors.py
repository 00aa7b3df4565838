"""The errors that layerprint raises deliberately.

::

    LayerprintError        exit 1   anything that is not the user's input
    ├── StoreError         exit 2   object storage: bucket, credentials, network
    │   └── StoreUnavailableError   temporary: 503, timeouts, a broken connection
    ├── InputError         exit 2   spec, images, weights, arguments
    └── StageError         exit 1   work that failed after its retries

Every message says what was found, where, and what to do about it. The command line prints the message
without a traceback and ends with the exit code. ``scoring`` is pure and raises ``ValueError`` instead.
"""

from __future__ import annotations


class LayerprintError(Exception):
    """Base of all errors raised deliberately.

    Args:
        found: What was found, and where (names the field, file or object and the value).
        remedy: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found, remedy)
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.found}\n→ {self.remedy}"


class StoreError(LayerprintError):
    """Object storage cannot be used: bucket, credentials or network."""

    exit_code = 2


class StoreUnavailableError(StoreError):
    """Object storage did not answer after all attempts; a later run may succeed."""


class InputError(LayerprintError):
    """The spec, the images, the weights or an argument cannot be used."""

    exit_code = 2


class StageError(LayerprintError):
    """A stage could not finish its work."""


def may_pass(error: object) -> bool:
    """Whether repeating the same work at once may succeed: the only rule for retries.

    True for a store that did not answer, a broken connection, and a stage whose processes died. False for bad input and
    for a store that refuses us, is full or has a damaged table, until someone fixes it.

    >>> may_pass(StoreUnavailableError("s3://b: 503", "")), may_pass(StoreError("s3://b: the table is damaged", ""))
    (True, False)
    """
    return isinstance(error, (StageError, StoreUnavailableError, ConnectionError, TimeoutError))
