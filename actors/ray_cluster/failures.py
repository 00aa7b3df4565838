"""The outcome of a call to a process: its result, the failure of the process, or an error that ends the work."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
)

from storage.errors import LayerprintError, StageError

_NOT_INSTALLED = re.compile(r"No module named '(actors|scoring|storage|flows)\b")


class WorkerFailure(NamedTuple):
    """Why a call did not come back: ``kind`` for metrics, ``reason`` for people."""

    kind: Literal["process", "memory", "node"]
    reason: str


def outcome(ref: Any, name: str) -> Any:
    """The result of a call, or the `WorkerFailure` of its process; a process out of memory counts as failed.

    Args:
        ref: The call.
        name: The name of the call in messages.

    Raises:
        LayerprintError: As the function raised it.
        StageError: The function raised anything else.
    """
    try:
        return ray.get(ref)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, LayerprintError):
            raise cause from None
        if lacks_layerprint(str(cause)):
            raise no_layerprint(name) from error
        if out_of_memory(cause):
            return WorkerFailure("memory", f"it ran out of memory: {_one_line(cause)}")
        raise _fault(name, f"{type(cause).__name__}: {cause}") from error
    except (ActorDiedError, ActorUnavailableError, NodeDiedError, ObjectLostError, OutOfMemoryError) as error:
        if lacks_layerprint(str(error)):
            raise no_layerprint(name) from error
        return _failure(error)
    except RayError as error:  # for example an exception that cannot be sent from process to process
        if lacks_layerprint(str(error)):
            raise no_layerprint(name) from error
        raise _fault(name, _last_line(error)) from error


def lacks_layerprint(text: str) -> bool:
    """Whether a process on a cluster says that it cannot import our packages.

    >>> lacks_layerprint("ModuleNotFoundError: No module named 'actors'"), lacks_layerprint("No module named 'timm'")
    (True, False)
    """
    return _NOT_INSTALLED.search(text) is not None


def no_layerprint(name: str) -> StageError:
    """The error of a cluster whose processes cannot import layerprint.

    Args:
        name: The pool, or the call.
    """
    return StageError(
        f"{name}: layerprint is not installed on the cluster (No module named 'actors')",
        f"install layerprint {version('layerprint')} there, with the Python of this machine: in the image of its nodes "
        f"(deploy/Dockerfile), or as pip in cluster.runtime_env",
    )


def _fault(name: str, reason: str) -> StageError:
    return StageError(
        f"{name} raised {reason}",
        "this is a fault of layerprint or of a library: report it with the lines above (run with --verbose)",
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means a lack of memory: Python's, numpy's and Arrow's, or torch's own.

    >>> out_of_memory(MemoryError()), out_of_memory(ValueError("no"))
    (True, False)
    """
    texts = ("can't allocate memory", "CUDA out of memory", "std::bad_alloc")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def _failure(error: RayError) -> WorkerFailure:
    """Ray's account of a dead process, in a few words."""
    text = _one_line(error)
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return WorkerFailure("memory", "its node ran low on memory, and Ray ended it")
    if isinstance(error, ActorDiedError) and "its node has died" not in text:
        return WorkerFailure("process", "it was killed or it crashed")
    return WorkerFailure("node", "its node was lost")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _last_line(error: Exception) -> str:
    """The line of a message's traceback that says what was raised."""
    return next(line.strip() for line in reversed([type(error).__name__, *str(error).splitlines()]) if line.strip())
