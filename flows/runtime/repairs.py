"""Steps that make broken files of the store again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from flows.runtime.once import Once
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from storage.objects.open import open_store
from storage.set_aside import with_repairs

P = ParamSpec("P")
R = TypeVar("R")

Step = Callable[Concatenate[Runtime, AuditSpec, P], R]


def repairing(step: Step[P, R]) -> Step[P, R]:
    """Have a step, or a flow's function, set aside what it finds broken and begin again: it makes what is missing.

    A step finds its finished work in the store, so only the broken file and what depends on it are made again.
    """

    @wraps(step)
    def repaired(runtime: Runtime, spec: AuditSpec, /, *args: P.args, **kwargs: P.kwargs) -> R:
        def forget() -> None:
            runtime.references, runtime.copy_references = Once(), Once()

        return with_repairs(open_store(spec.store), lambda: step(runtime, spec, *args, **kwargs), forget)

    return repaired
