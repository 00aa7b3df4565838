"""What Prefect's artifacts and events say of copies."""

from __future__ import annotations

from pathlib import Path

from flows.orchestration.artifacts import MOST_COPIES, copy_rows
from flows.orchestration.events import _payload
from flows.results.audit_result import AuditResult
from storage.objects.open import LocalStore
from tests.storage.results.test_tables import row

NUMBERS = {"copies_at_least": 3, "copies_low": 0.01, "copies_high": 0.2, "copies_listed": 4, "distinct_images": 50}


def test_an_event_has_the_numbers_of_the_verdict(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    payload = _payload(store, AuditResult(row("audits", **NUMBERS), [], []))
    assert {name: payload[name] for name in NUMBERS} == NUMBERS
    by_layers = _payload(store, AuditResult(row("audits", copies_at_least=None), [], []))
    assert not set(NUMBERS) & set(by_layers)


def test_the_table_has_the_listed_copies() -> None:
    copies = [
        row("copies", rank=i, image_key=f"a|{i}", listed=i != 2, identical=i == 1, score=9.0) for i in range(1, 200)
    ]
    rows = copy_rows(AuditResult(row("audits", **NUMBERS), [], [], copies))
    assert len(rows) == MOST_COPIES
    assert (rows[0]["kind"], rows[1]["kind"], rows[0]["score"]) == ("the same file", "a part", "9.0")
    assert rows[1]["image"].endswith("3")
    assert "a|" not in rows[0]["image"]
