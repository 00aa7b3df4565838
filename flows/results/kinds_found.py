"""Which copies an audit would find: what `selfcheck` measured on its reference, kind by kind.

It is kept in the store for every reference, encoder and way of comparing, and read again with each audit of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from actors.stages import embed as embed_stage
from actors.stages.copies import METHOD
from flows.results.identity import OpenedReference
from flows.spec.spec import AuditSpec
from storage.layout import kinds_key
from storage.objects.base import ObjectMissingError, ObjectStore
from storage.seal import parse_json, read_sealed, sealed_json, unless_broken

WELL = 0.9
"""Share of a kind from which on it counts as found."""


class KindFound(NamedTuple):
    """Copies of one kind: how many were planted, how many were found, and how many of those with the right source."""

    planted: int
    found: int
    source_right: int


def save_kinds(store: ObjectStore, spec: AuditSpec, opened: OpenedReference, found: Mapping[str, KindFound]) -> None:
    """Note what was measured; kinds that were measured earlier, and not now, stay."""
    held_out = embed_stage.table_name(opened.facts, opened.held_out)
    copies = spec.model_dump(mode="json")["copies"]
    key = kinds_key(train=opened.train.digest, held_out=held_out, copies=copies, method=METHOD)
    store.put(key, sealed_json({**_read(store, key), **found}))


def load_kinds(store: ObjectStore, audit: Mapping[str, Any]) -> dict[str, KindFound]:
    """What was measured on the reference of an audit, from its row of `audits`; empty without a self-check."""
    if not audit.get("held_out_table"):
        return {}
    copies = json.loads(audit["settings"]).get("copies")
    key = kinds_key(train=audit["train_digest"], held_out=audit["held_out_table"], copies=copies, method=METHOD)
    return _read(store, key)


def kinds_sentence(kinds: Mapping[str, KindFound]) -> str:
    """Which copies are found, in words; empty when nothing was measured.

    >>> kinds_sentence({"mirrored": KindFound(100, 98, 98), "quarter pasted": KindFound(100, 70, 69)})
    'finds 98 % of mirrored; 70 % of quarter pasted copies (selfcheck)'
    """
    shares = {name: kind.found / kind.planted for name, kind in kinds.items() if kind.planted}
    if not shares:
        return ""
    well = [name for name, share in shares.items() if share >= WELL]
    poorly: dict[str, list[str]] = {}
    for name, share in sorted(shares.items(), key=lambda kind: -kind[1]):
        if share < WELL:
            poorly.setdefault(_percent(share), []).append(name)
    parts = [f"{share} of {', '.join(names)}" for share, names in poorly.items()]
    if well:
        least = _percent(min(shares[name] for name in well))
        parts.insert(0, f"{least if len(well) == 1 else f'at least {least}'} of {', '.join(well)}")
    return f"finds {'; '.join(parts)} copies (selfcheck)"


def _percent(share: float) -> str:
    """A share in per cent, rounded down so that it never says more than was found.

    >>> _percent(0.999), _percent(0.57)
    ('99 %', '57 %')
    """
    return f"{int(100 * share + 1e-9)} %"


def _read(store: ObjectStore, key: str) -> dict[str, KindFound]:
    try:
        return unless_broken(lambda: read_sealed(store, key, _parse), "selfcheck measures it again") or {}
    except ObjectMissingError:
        return {}


def _parse(data: bytes) -> dict[str, KindFound]:
    return {str(name): KindFound(*map(int, numbers)) for name, numbers in parse_json(data).items()}
