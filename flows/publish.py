"""What people see of an audit that a deployment made: its pictures in the store, its artifacts in Prefect."""

from __future__ import annotations

from flows.artifacts import show_outcome
from flows.gallery import save_curves, save_pairs
from flows.outcome import AuditOutcome
from flows.spec import AuditSpec
from storage.objects import open_store
from storage.results import result_key


def report_key(audit_id: str) -> str:
    """Where the HTML report of an audit lies in the store, once it was made."""
    return f"reports/{audit_id}.html"


def publish(spec: AuditSpec, outcome: AuditOutcome) -> None:
    """Draw the pictures of an audit, and show it in the flow run around us.

    Raises:
        LayerprintError: images or the store cannot be read.
    """
    store = open_store(spec.store)
    curve = save_curves(store, [outcome]).removeprefix(f"{store.uri}/")
    links = {"outcome": store.child_uri(result_key("audits", outcome.audit_id))}
    links["pairs"] = save_pairs(store, spec, outcome)
    if store.exists(report_key(outcome.audit_id)):
        links["report"] = store.child_uri(report_key(outcome.audit_id))
    show_outcome(outcome, store.get(curve), links)
