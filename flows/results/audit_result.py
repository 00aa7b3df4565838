"""The result of an audit, read from its Parquet rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flows.results.kinds_found import KindFound, kinds_sentence, load_kinds
from flows.spec.releases import label_of
from storage.objects.open import ObjectStore
from storage.results.tables import read_result
from storage.seal import unless_broken

COPYING, NO_COPYING = "copying", "no copying seen"
NOT_JUDGED, INCONCLUSIVE, INVALID = "not judged", "inconclusive", "invalid"


@dataclass(frozen=True)
class AuditResult:
    """One audit: its row of `audits`, its rows of `scores` by layer, of `checks`, and of `copies` by rank.

    ``kinds`` are the kinds of copies that `selfcheck` found on its reference; empty where there was none.
    """

    audit: dict[str, Any]
    scores: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    copies: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, KindFound] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The audit's row with the rows of its layers and checks, and of its copies if it was judged by them."""
        copies = {"copies": self.copies, "power_by_kind": self.power_by_kind} if self.by_copies else {}
        return {**self.audit, "scores": self.scores, "checks": self.checks, **copies}

    @property
    def audit_id(self) -> str:
        """The audit's name in all result tables."""
        return str(self.audit["audit_id"])

    @property
    def label(self) -> str:
        """Release and version, and the run when it is not the only one."""
        return label_of(self.audit["release"], self.audit["version"], self.audit["run"] or "1")

    @property
    def verdict(self) -> str:
        """``copying``, ``no copying seen``, ``not judged``, ``inconclusive`` or ``invalid``."""
        return str(self.audit["verdict"])

    @property
    def by_copies(self) -> bool:
        """Whether the verdict is that of the copy score; else it is that of the layers' tails."""
        return judged_by_copies(self.audit)

    @property
    def power_by_kind(self) -> str:
        """Which copies the audit would find, in words; empty unless `selfcheck` measured it."""
        return kinds_sentence(self.kinds)

    @property
    def listed(self) -> list[dict[str, Any]]:
        """The rows of listed copies, the strongest first."""
        return [row for row in self.copies if row["listed"]]

    @property
    def informative(self) -> list[dict[str, Any]]:
        """The score rows of informative layers, first layer first."""
        return [row for row in self.scores if row["informative"]]


def judged_by_copies(audit: Mapping[str, Any]) -> bool:
    """Whether the verdict of a row of `audits` is that of the copy score; else its layers decided."""
    return audit.get("copies_at_least") is not None


def copy_kind(row: Mapping[str, Any]) -> str:
    """What a row of `copies` is a copy of, in words."""
    return "the same file" if row["identical"] else "a part" if row["part"] else "whole"


def load_audit_result(store: ObjectStore, audit_id: str) -> AuditResult | None:
    """A finished audit, or None; also, with a warning, where one of its files is broken.

    The row of `audits` is written last, so the others are complete.
    """
    return unless_broken(lambda: _load(store, audit_id), f"audit {audit_id} counts as not made")


def load_whole_audit(store: ObjectStore, audit_id: str) -> AuditResult | None:
    """As `load_audit_result`; None also where its evidence, rejects or profile are broken, which it does not read."""
    outcome = load_audit_result(store, audit_id)
    if outcome is None:
        return None
    files = {"evidence": audit_id, "rejects": audit_id, "profiles": outcome.audit["profile_id"]}
    for table, name in files.items():
        read = partial(read_result, store, table, name)
        if name and unless_broken(read, "it is made again") is None:
            return None
    return outcome


def _load(store: ObjectStore, audit_id: str) -> AuditResult | None:
    audits = read_result(store, "audits", audit_id).to_pylist()
    if not audits:
        return None
    scores = sorted(read_result(store, "scores", audit_id).to_pylist(), key=lambda row: row["layer"])
    checks, copies, kinds = read_result(store, "checks", audit_id).to_pylist(), [], {}
    if judged_by_copies(audits[0]):
        copies = sorted(read_result(store, "copies", audit_id).to_pylist(), key=lambda row: row["rank"])
        kinds = load_kinds(store, audits[0])
    return AuditResult(audits[0], scores, checks, copies, kinds)
