"""From copy scores to what selfcheck says of a set-up."""

from __future__ import annotations

import json

import numpy as np

from flows.selfcheck.by_copies import _mixed
from flows.selfcheck.judged import HONEST, CopiesSelfCheck, Judge, ScoredSet
from flows.spec.spec import GateSpec

N, COPIES = 400, 40
RNG = np.random.default_rng(0)
JUDGE = Judge(RNG.normal(size=N), ScoredSet(np.arange(N), RNG.normal(size=N), np.zeros(N, np.int64)), GateSpec(), 0)
TRAINED = np.arange(COPIES) * 7
CANVASES = np.arange(COPIES) + 100


def copies(scores: float, right: int = COPIES) -> ScoredSet:
    sources = np.where(np.arange(COPIES) < right, TRAINED, -1)
    return ScoredSet(np.arange(COPIES), np.full(COPIES, scores), sources)


def test_a_kind_that_is_found() -> None:
    kind = JUDGE.kind("re-encoded", copies(50.0, right=30), TRAINED, CANVASES)
    assert (kind.planted, kind.found, kind.source_right, kind.missed) == (40, 40, 30, 0)
    assert (kind.images, kind.verdict, kind.listed_right) == (N, "copying", 20)
    assert kind.wanted == ("copying",)
    assert kind.passed
    assert kind.smallest_rate is not None
    assert 0.01 < kind.smallest_rate < 0.05


def test_a_kind_that_is_missed_is_a_fault_only_of_plain_copies() -> None:
    missed = copies(-1.0)
    for name, passed in (("quarter pasted", True), ("re-encoded", False)):
        kind = JUDGE.kind(name, missed, TRAINED, CANVASES)
        assert (kind.found, kind.source_right, kind.missed, kind.smallest_rate) == (0, 0, 40, None)
        assert kind.verdict != "copying"
        assert kind.passed is passed


def test_few_plain_copies_need_not_be_called() -> None:
    small = Judge(JUDGE.unseen[:60], JUDGE.release.take(np.arange(60)), GateSpec(), 0)
    kind = small.kind("re-encoded", copies(50.0).take(np.arange(3)), TRAINED, CANVASES)
    assert kind.images == 60
    assert kind.passed


def test_the_canvases_of_planted_copies_leave_the_release() -> None:
    marked = ScoredSet(JUDGE.release.numbers, np.where(JUDGE.release.numbers == 100, 40.0, -9.0), JUDGE.release.sources)
    judge = Judge(JUDGE.unseen, marked, GateSpec(), 0)
    assert judge.placebo("as it is", marked).verdict != "copying"
    trial = judge.planted("5% planted", copies(50.0), CANVASES, 0.05)
    assert (trial.planted, trial.listed, trial.listed_right) == (20, 20, 20)


def test_a_planted_release_may_not_pass_as_clean() -> None:
    weak = JUDGE.planted("5% planted", copies(-1.0), CANVASES, 0.05)
    assert not weak.passed or weak.verdict == "inconclusive"
    few = JUDGE.planted("1% planted", copies(-1.0), CANVASES, 0.01)
    assert few.passed


def test_a_placebo_that_is_called_is_wrong() -> None:
    called = JUDGE.placebo("blurred", JUDGE.release.take(np.arange(N) < 300))
    assert called.passed
    high = ScoredSet(np.arange(N), JUDGE.release.scores + 9, np.zeros(N, np.int64))
    assert not JUDGE.placebo("blurred", high).passed


def test_every_class_is_a_release() -> None:
    names = [f"class{i % 4}" for i in range(N)]
    trial = JUDGE.classes(names)
    assert (trial.images, trial.passed, trial.wanted) == (N, True, HONEST)
    assert trial.verdict == "0 of 4 called"
    high = ScoredSet(JUDGE.release.numbers, np.where(np.arange(N) % 4 < 3, 9.0, 0.0), JUDGE.release.sources)
    wrong = Judge(JUDGE.unseen, high, GateSpec(), 0).classes(names)
    assert not wrong.passed
    assert "3 of 4 releases of one class are called copying: class0, class1, class2" in wrong.sentence


def test_classes_that_are_not_known_are_skipped_with_the_reason() -> None:
    assert "no classes" in JUDGE.classes([""] * N).sentence
    assert "no class has 20" in JUDGE.classes([str(i) for i in range(N)]).sentence


def test_mixed_copies_hold_each_training_image_once() -> None:
    mixed = _mixed([copies(1.0), copies(2.0), copies(3.0)])
    assert mixed.numbers.tolist() == list(range(COPIES))
    assert mixed.scores[:6].tolist() == [1, 2, 3, 1, 2, 3]


def test_the_document_says_what_passed() -> None:
    kind = JUDGE.kind("re-encoded", copies(50.0), TRAINED, CANVASES)
    checked = CopiesSelfCheck([JUDGE.placebo("half", JUDGE.release)], [kind], 0.02, {200: None}, 800, N, 40, 3)
    document = json.loads(json.dumps(checked.to_json()))
    assert document["passed"] is True
    assert document["kinds"][0]["missed"] == 0
    assert document["detectable"] == {"200": None}
