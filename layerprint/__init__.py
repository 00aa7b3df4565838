"""Audits of image-generation models for memorization, from Python.

    import layerprint

    audit = layerprint.audit(
        train="./train",
        held_out="./held_out",
        images="./generated",
        name="mymodel",
        encoder="vit_small_patch14_dinov2.lvd142m",
    )
    print(audit.verdict)

This package only re-exports; names load on first use, so that importing it takes no time. The code is in `flows.api`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.api.attribution import Attribution, attribute
    from flows.api.audit import Audit, audit
    from flows.api.pairs import Pairs
    from flows.api.sql import connect
    from storage.errors import InputError, LayerprintError

    __version__: str

__all__ = [
    "Attribution",
    "Audit",
    "InputError",
    "LayerprintError",
    "Pairs",
    "__version__",
    "attribute",
    "audit",
    "connect",
]

_MODULES = {
    "Attribution": "flows.api.attribution",
    "Audit": "flows.api.audit",
    "InputError": "storage.errors",
    "LayerprintError": "storage.errors",
    "Pairs": "flows.api.pairs",
    "attribute": "flows.api.attribution",
    "audit": "flows.api.audit",
    "connect": "flows.api.sql",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("layerprint")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'layerprint' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
