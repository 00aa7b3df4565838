"""The cost model against counts made another way, and the page against the model."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cost_model
from benchmarks.cost_model import (
    FLOPS,
    LAYERS,
    MEASURED,
    PAGE,
    SIZES,
    Accelerator,
    bends,
    driver,
    embedding_rate,
    filled,
    requests,
    search,
    storage,
    tables,
)
from scoring.nearest.search_plan import search_mode


def test_operations_of_the_model_are_those_that_torch_counts() -> None:
    model = timm.create_model("vit_small_patch14_dinov2", img_size=112, num_classes=0).eval()
    for block in model.blocks:
        block.attn.fused_attn = False  # torch does not look into the fused one
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 112, 112))
    assert pytest.approx(counter.get_total_flops(), rel=1e-6) == FLOPS


def test_a_device_is_as_fast_as_the_slower_of_model_and_decoding() -> None:
    slow = Accelerator("slow", 1.0)
    assert embedding_rate(slow).together == pytest.approx(MEASURED.pipeline * 0.3e12 / FLOPS)
    assert embedding_rate(replace(slow, teraflops=1e6)).together == pytest.approx(
        MEASURED.pipeline * 16 / MEASURED.decode
    )


def test_costs_grow_with_the_images() -> None:
    for few, many in pairwise(SIZES):
        share = many / few
        assert storage(many).total == pytest.approx(share * storage(few).total)
        assert search(many).sample == pytest.approx(share * search(few).sample)
        assert search(few).release < search(many).release < share * search(few).release
        assert driver(many, 64).manifest == pytest.approx(share * driver(few, 64).manifest)
        assert requests(many).reads > share * 0.99 * requests(few).reads


def test_vectors_are_most_of_the_store() -> None:
    assert storage(10**6).embeddings == pytest.approx(10**6 * LAYERS * 384 * 4, rel=0.02)


def test_the_planner_changes_its_mind_where_the_page_says() -> None:
    limit = bends().in_cells
    assert [search_mode("auto", "default", limit + step, 50_000, 64, 10) for step in (-1, 0)] == ["in_cell", "global"]


def test_every_measured_figure_is_positive_and_used() -> None:
    source = (PAGE.parents[1] / "benchmarks" / "cost_model.py").read_text(encoding="utf-8")
    used = Counter(re.findall(r"MEASURED\.(\w+)", source))
    for field in fields(MEASURED):
        assert getattr(MEASURED, field.name) > 0
    assert {field.name for field in fields(MEASURED)} == set(used)


@pytest.mark.usefixtures("slow")
def test_the_page_shows_the_tables_of_the_model() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page, "run python -m benchmarks.cost_model --write"
    assert all(table in page for table in tables().values())


@pytest.mark.usefixtures("slow")
def test_a_stale_table_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(cost_model, "LAYERS", 14)
    assert filled(page) != page
    with pytest.raises(ValueError, match="0 places for the table measured"):
        filled("nothing")
