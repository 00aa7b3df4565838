"""The benchmark of processed sets, on makers and processings that are simulated."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.attribution_robust import CONTENTS, NOT_TRIED, TRIED, Answered, Maker, World, ask, summary
from scoring.attribution.background import Background, layer_background
from scoring.attribution.needed import Needed

LAYERS, WIDTH, IMAGES = 2, 6, 250


@pytest.fixture(scope="module")
def answered() -> dict[str, list[Answered]]:
    rng = np.random.default_rng(0)
    moves = {name: rng.normal(size=(LAYERS, WIDTH)) for name in TRIED}
    moves |= {name: 3 * rng.normal(size=(LAYERS, WIDTH)) for name in NOT_TRIED}

    def versions(centre: np.ndarray, count: int) -> dict[str, list[np.ndarray]]:
        seen = centre + rng.normal(size=(LAYERS, count, WIDTH))
        moved = {name: seen + move[:, None] for name, move in moves.items()}
        return {name: list(x.astype(np.float32)) for name, x in {"": seen, **moved}.items()}

    makers = [
        Maker(f"maker {k}", versions(1.5 * rng.normal(size=WIDTH), IMAGES), rng.choice(["cat", "ship"], IMAGES))
        for k in range(4)
    ]
    real = versions(np.zeros(WIDTH), 200)
    cell = np.zeros(200, np.int32)
    layers = [layer_background(real[""][i], cell, real[""][i], {v: real[v][i] for v in TRIED}) for i in range(LAYERS)]
    with pytest.MonkeyPatch.context() as patch:  # how many images are needed is simulated for long, and not asked here
        patch.setattr(Needed, "chance", lambda *_: 0.0)
        patch.setattr(Needed, "images", lambda *_: None)
        return ask(World(makers, Background(tuple(layers), TRIED)), 60, rng)


def test_every_condition_is_asked(answered: dict[str, list[Answered]]) -> None:
    assert set(answered) == {"as it is", *TRIED, *(f"{name} *" for name in NOT_TRIED), *CONTENTS}
    assert {len(answered[name]) for name in ("as it is", *TRIED)} == {4 * 2}


def test_processings_that_were_tried_are_borne_and_others_are_not(answered: dict[str, list[Answered]]) -> None:
    tables = {name: summary(found) for name, found in answered.items()}
    assert all(tables[name]["right %"] >= 75 for name in ("as it is", *TRIED))
    borne = np.mean([tables[name]["refused %"] for name in TRIED])
    not_borne = np.mean([tables[f"{name} *"]["refused %"] for name in NOT_TRIED])
    assert borne < 30 < not_borne


def test_the_shares_are_of_sets(answered: dict[str, list[Answered]]) -> None:
    found = answered["as it is"]
    table = summary(found)
    alone = [one for one in found if one.enrolled.verdict == "attributed"]
    assert table["sets"] == len(found)
    assert table["attributed %"] == 100 * len(alone) / len(found)
    wrong = sum(one.enrolled.candidates[0].maker != one.maker for one in alone)
    assert table["of these wrong %"] == pytest.approx(100 * wrong / len(alone), abs=0.05)
