"""A version whose write broke off, which Lance does not repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import pytest

from storage.errors import StoreUnavailableError
from storage.objects.open import open_store
from storage.vectors.tables import ATTEMPTS, VectorStore
from tests.storage.small_run import ROWS, SCHEMA, found_rows, run

BROKE = "lance error: LanceError(IO): Generic S3 error: Error performing PUT http://s3/t.lance/_versions/1 in 102µs - "


@pytest.mark.parametrize("arrived", [False, True], ids=["lost", "written, the answer lost"])
def test_it_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrived: bool) -> None:
    commit, asked = lance.LanceDataset.commit, []

    def breaks_once(*arguments: Any, **named: Any) -> Any:
        asked.append(named)
        if len(asked) > 1:
            return commit(*arguments, **named)
        if arrived:
            commit(*arguments, **named)
        raise OSError(BROKE)

    monkeypatch.setattr(lance.LanceDataset, "commit", breaks_once)
    vectors = VectorStore(open_store(str(tmp_path)))
    table = run(vectors)
    assert len(asked) == (1 if arrived else 2)
    assert found_rows(vectors, table) == ROWS
    assert run(vectors) == table


def test_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def breaks(*_: Any, **__: Any) -> Any:
        asked.append(1)
        raise OSError(BROKE)

    monkeypatch.setattr(lance.LanceDataset, "commit", breaks)
    vectors = VectorStore(open_store(str(tmp_path)))
    vectors.create("t", SCHEMA)
    with pytest.raises(StoreUnavailableError, match="S3 failed for a while"):
        run(vectors)
    assert len(asked) == ATTEMPTS
    assert vectors.committed("t") is None
