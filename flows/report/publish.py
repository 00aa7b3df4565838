"""Publishes an audit of a deployment: pictures and report in the store, artifacts in Prefect.

These are derived outputs: a failure is logged and returned; the audit stays valid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from flows.orchestration.artifacts import show_audit_result
from flows.report.make import save_curves, save_pairs, save_report
from flows.results.audit_result import AuditResult
from flows.spec.spec import AuditSpec, ReleaseSpec
from storage.errors import LayerprintError
from storage.objects.open import open_store
from storage.results.tables import result_key

_log = logging.getLogger(__name__)


def publish(spec: AuditSpec, release: ReleaseSpec, outcome: AuditResult) -> list[str]:
    """Draw the pictures of an audit, write its report, and show it in the current flow run.

    Returns:
        One sentence for each output that failed.
    """
    store = open_store(spec.store)
    outputs: dict[str, Callable[[], str]] = {
        "curve": lambda: save_curves(store, [outcome]),
        "pairs": lambda: save_pairs(spec, release, outcome),
        "report": lambda: save_report(spec, release, outcome.audit_id),
    }
    made, missing = {"outcome": store.child_uri(result_key("audits", outcome.audit_id))}, []
    for name, make in outputs.items():
        try:
            made[name] = make()
        except Exception as error:  # whatever fails here, the audit is done
            why = error.found if isinstance(error, LayerprintError) else f"{type(error).__name__}: {error}"
            missing.append(f"no {name}: {why}")
            _log.warning("%s: no %s", outcome.label, name, exc_info=error)
    curve = made.pop("curve", None)
    show_audit_result(outcome, store.get(curve.removeprefix(f"{store.uri}/")) if curve else None, made, missing)
    return missing
