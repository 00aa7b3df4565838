"""The closest pairs of an audit: a table, and the pictures in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from flows.api.html import pairs_card
from flows.report.figures.pairs import PairView
from storage.results.tables import SCHEMAS

COLUMNS = ("image_key", "train_key", "layer", "distance", "p_value", "identical", "near_duplicate")
_SCHEMA = pa.schema([SCHEMAS["evidence"].field(name) for name in COLUMNS])


class Pairs:
    """Generated images beside their nearest training images, at the layer that the verdict rests on.

    A notebook shows the first of them as pictures.

    Attributes:
        table: One row per pair, closest first: `image_key`, `train_key`, `layer`, `distance`, `p_value` (how rarely an
            unseen image comes as close), `identical` (the same bytes), `near_duplicate`.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], views: Sequence[PairView]) -> None:
        self.table = pa.Table.from_pylist(list(rows), schema=_SCHEMA)
        self._views = views

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame; needs pandas."""
        return self.table.to_pandas()

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Pairs({len(self)} pairs, {self.table['identical'].to_pylist().count(True)} identical)"

    def _repr_html_(self) -> str:
        return pairs_card(self._views)
