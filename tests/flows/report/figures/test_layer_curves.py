"""Curves are judged by their pixels: what is where, and that names are never interpreted."""

from __future__ import annotations

import numpy as np
import pytest

from flows.report.facts import AuditFacts, LayerCurve, curve_of
from flows.report.figures.layer_curves import MOST_RELEASES, curve_chart, curves_picture
from flows.results.audit_result import COPYING, NO_COPYING, AuditResult
from tests.flows.report.figures.pixels import BAD, GOOD_BLUE, HOSTILE, inside, near, pixels

PLOT = slice(150, 870), slice(120, 1190)
"""Rows and columns of the plot in a picture."""


def outcome(label: str, layers: int, a_hat: float, verdict: str, missing: tuple[int, ...] = ()) -> AuditResult:
    scores = [
        {"layer": layer, "informative": layer not in missing}
        | {
            name: None if layer in missing else value
            for name, value in (("a_hat", a_hat), ("a_low", a_hat - 0.03), ("a_high", a_hat + 0.03))
        }
        for layer in range(layers)
    ]
    audit = {"audit_id": label, "release": label, "version": "1", "run": "1", "verdict": verdict, "reference": label}
    return AuditResult({**audit, "copying_layer": None}, scores, [])


@pytest.mark.parametrize(("count", "layers"), [(1, 1), (6, 7), (30, 25)])
def test_the_same_audits_give_the_same_bytes_and_nothing_is_cut_off(count: int, layers: int) -> None:
    verdicts = (COPYING, NO_COPYING, "invalid")
    outcomes = [outcome(f"r{i}", layers, 0.2 + 0.6 * i / count, verdicts[i % 3], missing=(0,)) for i in range(count)]
    png = curves_picture(outcomes)
    assert png == curves_picture(outcomes)
    picture = pixels(png)
    assert inside(picture)
    assert picture.shape[1] > 1200


def test_copying_has_its_own_colour() -> None:
    plot = pixels(curves_picture([outcome("bad", 7, 0.2, COPYING), outcome("good", 7, 0.8, NO_COPYING)]))[PLOT]
    warm, cool = (np.nonzero(near(plot, colour))[0] for colour in (BAD, GOOD_BLUE))
    assert min(len(warm), len(cool)) > 500
    assert len(warm) > len(cool)
    assert warm.min() > cool.max()


@pytest.mark.parametrize("verdict", ["copying", "invalid"])
def test_a_layer_without_information_interrupts_the_curve(verdict: str) -> None:
    middle = slice(450, 620)
    colour = BAD if verdict == COPYING else GOOD_BLUE
    drawn = [
        near(pixels(curves_picture([outcome("r", 7, 0.6, verdict, missing)]))[PLOT], colour)[:, middle].any()
        for missing in ((), (3,))
    ]
    assert drawn == [True, False]


def test_audits_without_any_information_are_still_drawn() -> None:
    picture = pixels(curves_picture([outcome("r", 3, 0.5, "not judged", missing=(0, 1, 2))]))
    assert not near(picture[PLOT], GOOD_BLUE).any()
    assert inside(picture)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_drawn_as_text_and_stay_on_the_picture(name: str) -> None:
    picture = pixels(curves_picture([outcome(name, 3, 0.3, NO_COPYING)]))
    assert inside(picture)
    assert not near(picture, BAD).any()


def test_names_that_cutting_makes_equal_stay_apart() -> None:
    outcomes = [outcome(f"{'k' * 100}{i}{'k' * 100}", 3, 0.2 + i / 10, NO_COPYING) for i in range(3)]
    own, *others = (curve_of(one) for one in outcomes)
    facts = AuditFacts(outcomes[0], own, others, 2, [], [], [], [])
    chart = curve_chart(facts)
    assert chart is not None
    assert len({row["release"] for row in chart.spec["data"]["values"]}) == 3


def test_a_picture_has_room_for_so_many_releases_and_shows_copying_ones_first() -> None:
    many = [outcome(f"r{i}", 2, 0.3 + i / 1000, NO_COPYING) for i in range(MOST_RELEASES)]
    high = outcome("high", 2, 0.9, COPYING)
    picture = pixels(curves_picture([*many, high]))
    assert near(picture, BAD).any()
    assert inside(picture)


def test_a_release_without_information_has_no_chart() -> None:
    one = outcome("r", 2, 0.5, "not judged", missing=(0, 1))
    curve = LayerCurve("r", [0, 1], [None] * 2, [None] * 2, [None] * 2)
    assert curve_chart(AuditFacts(one, curve, [], 0, [], [], [], [])) is None
