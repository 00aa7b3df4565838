"""Every question of docs/sql.md, answered a second time in plain Python from the rows that the store was made of."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storage.objects.open import open_store
from storage.results.sql import connect, run_sql
from tests.paths import ROOT
from tests.storage.fleet import Row, fleet, latest, write_fleet

PAGE = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
QUESTIONS: dict[str, str] = dict(re.findall(r"^### (.*?)\n.*?```sql\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))

Rows = dict[str, list[Row]]
Answer = list[tuple[Any, ...]]


class Made(NamedTuple):
    """A store and the rows it was made of."""

    uri: str
    rows: Rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = open_store(str(tmp_path_factory.mktemp("fleet")))
    rows = fleet()
    write_fleet(store, rows)
    return Made(store.uri, rows)


def pick(rows: list[Row], names: str) -> Answer:
    """Some columns of some rows."""
    return [tuple(record[name] for name in names.split()) for record in rows]


def by_audit(rows: list[Row]) -> list[list[Row]]:
    groups = defaultdict(list)
    for record in rows:
        groups[record["audit_id"]].append(record)
    return list(groups.values())


def who(record: Row) -> tuple[str, str]:
    return record["release"], record["version"]


def copying_this_month(rows: Rows) -> Answer:
    begin = dt.datetime.now(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = [record for record in rows["audits"] if record["verdict"] == "copying" and record["created_at"] >= begin]
    found.sort(key=lambda record: -record["copies_low"])
    return pick(found, "release version copies_at_least units copies_low copies_high created_at")


def copies_of_a_release(rows: Rows) -> Answer:
    found = [record for record in latest(rows, "copies") if record["listed"] and who(record) == ("r1", "0")]
    found.sort(key=lambda record: record["rank"])
    return [
        (
            *(record[name] for name in ("image_key", "train_key", "score", "p_value")),
            "part" if record["part"] else "whole",
            record["view"],
            record["identical"],
        )
        for record in found
    ]


def parts(rows: Rows) -> Answer:
    found = [record for record in latest(rows, "copies") if record["listed"] and record["region_share"] < 0.667]
    found.sort(key=lambda record: (record["region_share"], *who(record), record["image_key"]))
    ends = "region_left region_top region_right region_bottom"
    return pick(found, f"release version image_key train_key region_share {ends}")


def copied_most_often(rows: Rows) -> Answer:
    groups = defaultdict(list)
    for record in latest(rows, "copies"):
        if record["listed"]:
            groups[record["train_key"]].append(record)
    answer = [
        (key, len(found), len({record["release"] for record in found}), max(record["score"] for record in found))
        for key, found in groups.items()
    ]
    return sorted(answer, key=lambda line: (-line[1], line[0]))


def to_deduplicate(rows: Rows) -> Answer:
    groups = defaultdict(list)
    for record in latest(rows, "copies"):
        if record["listed"] and (record["train_files"] > 1 or record["train_alike"] > 1):
            groups[record["train_key"]].append((record["train_files"], record["train_alike"]))
    answer = [(key, *(max(each) for each in zip(*found, strict=True)), len(found)) for key, found in groups.items()]
    return sorted(answer, key=lambda line: (-line[3], line[0]))


def repeating(rows: Rows) -> Answer:
    found = [record for record in latest(rows, "audits") if record["repeated_pictures"] > 0]
    found.sort(key=lambda record: (-record["repeated_images"] / record["images"], *who(record)))
    return [
        (
            *(record[name] for name in ("release", "version", "images", "pictures", "repeated_pictures")),
            record["repeated_images"] / record["images"],
            record["most_repeated"],
        )
        for record in found
    ]


def disagreeing(rows: Rows) -> Answer:
    answer: Answer = []
    for layers in by_audit(latest(rows, "scores")):
        closer = [record["layer"] for record in layers if record["informative"] and record["a_high"] < 0.5]
        farther = [record["layer"] for record in layers if record["informative"] and record["a_low"] > 0.5]
        if closer and farther:
            answer.append((*who(layers[0]), closer, farther))
    return sorted(answer)


def copied_most(rows: Rows) -> Answer:
    found = [record for record in latest(rows, "evidence") if record["identical"] or record["near_duplicate"]]
    keys = {record["train_key"] for record in found}
    answer = [
        (
            key,
            len({record["release"] for record in found if record["train_key"] == key}),
            min(record["distance"] for record in found if record["train_key"] == key),
        )
        for key in keys
    ]
    return sorted(answer, key=lambda record: (-record[1], record[0]))


def identical(rows: Rows) -> Answer:
    found = [record for record in latest(rows, "evidence") if record["identical"]]
    return sorted(set(pick(found, "release version image_key train_key")))


def near_the_threshold(rows: Rows) -> Answer:
    found = [
        record
        for record in latest(rows)
        if record["copies_at_least"] and record["copies_low"] <= record["max_copy_rate"] <= record["copies_high"]
    ]
    found.sort(key=lambda record: -record["copies_low"])
    return pick(found, "release version verdict copies_at_least copies_low copies_high max_copy_rate images")


def another_gate(rows: Rows) -> Answer:
    found = [
        record
        for record in latest(rows)
        if (record["verdict"] == "copying" and record["copies_low"] <= 0.05)
        or (record["verdict"] == "no copying seen" and record["copies_low"] > 0.05)
    ]
    return sorted(pick(found, "release version verdict copies_low max_copy_rate"))


def changed(rows: Rows) -> Answer:
    audits = sorted(rows["audits"], key=lambda record: (*who(record), record["created_at"]))
    found = [
        (*who(b), a["verdict"], b["verdict"], b["created_at"])
        for a, b in pairwise(audits)
        if who(a) == who(b) and a["verdict"] != b["verdict"]
    ]
    return sorted(found, key=lambda record: record[-1])


def trend(rows: Rows) -> Answer:
    audits = sorted(latest(rows), key=lambda record: (record["release"], record["created_at"]))
    answer: Answer = []
    for record in audits:
        a_hats = [score["a_hat"] for score in rows["scores"] if score["audit_id"] == record["audit_id"]]
        mean = sum(a_hats) / len(a_hats)
        same = bool(answer) and answer[-1][0] == record["release"]
        answer.append((*who(record), record["created_at"], mean, mean - answer[-1][3] if same else None))
    return answer


def nearest(rows: Rows) -> Answer:
    ids = {record["profile_id"] for record in latest(rows)}
    curves: dict[str, list[Row]] = defaultdict(list)
    for record in rows["profiles"]:
        if record["profile_id"] in ids and record["part"] == 0:
            curves[f"{record['release']}@{record['version']}"].append(record)
    answer: Answer = []
    for a, first in curves.items():
        distances = {
            b: sum(
                (x["logit_a"] - y["logit_a"]) ** 2 / (x["variance"] + y["variance"])
                for x, y in zip(first, second, strict=True)
            )
            for b, second in curves.items()
            if b != a
        }
        other = min(distances, key=lambda b: distances[b])
        answer.append((a, other, distances[other]))
    return sorted(answer)


def newest_answers(rows: Rows) -> list[Row]:
    newest = {
        record["images_uri"]: record for record in sorted(rows["attributions"], key=lambda record: record["created_at"])
    }
    ids = {record["attribution_id"] for record in newest.values()}
    return [record for record in rows["attributions"] if record["attribution_id"] in ids]


def makers(rows: Rows) -> Answer:
    found = [record for record in newest_answers(rows) if record["named"]]
    return sorted(pick(found, "images_uri images verdict maker closed unknown processing"))


def undecided(rows: Rows) -> Answer:
    found = [record for record in newest_answers(rows) if record["verdict"] == "undecided" and record["rank"] == 1]
    return sorted(pick(found, "images_uri images needed maker posterior"))


def invalid(rows: Rows) -> Answer:
    found = [record for record in latest(rows, "checks") if not record["passed"] and record["severity"] == "invalid"]
    return sorted(pick(found, "release version name sentence remedy"))


def stale(rows: Rows) -> Answer:
    newest = max(latest(rows), key=lambda record: record["created_at"])["encoder_digest"]
    found = [record for record in latest(rows) if record["encoder_digest"] != newest]
    found.sort(key=lambda record: record["created_at"])
    return pick(found, "release version encoder_model encoder_digest created_at")


def rejected(rows: Rows) -> Answer:
    keys: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for record in latest(rows, "rejects"):
        keys[*who(record), record["role"], record["reason"]].append(record["key"])
    answer = [(*group, len(found), min(found)) for group, found in keys.items()]
    return sorted(answer, key=lambda record: (-record[4], *record[:4]))


def unsure_search(rows: Rows) -> Answer:
    found = [record for record in latest(rows, "scores") if record["search_bound"] > record["se"] / 4]
    found.sort(key=lambda record: -record["search_bound"] / record["se"])
    return pick(found, "release version layer recall search_bound se")


def cost(rows: Rows) -> Answer:
    months: dict[dt.datetime, list[Row]] = defaultdict(list)
    for record in rows["audits"]:
        months[record["created_at"].replace(day=1, hour=0, minute=0, second=0)].append(record)
    return [
        (
            month,
            len(found),
            sum(record["seconds"] for record in found),
            sum(record["forward_images"] for record in found),
        )
        for month, found in sorted(months.items())
    ]


def settings(rows: Rows) -> Answer:
    answer = []
    for record in latest(rows):
        encoder = json.loads(record["settings"])["encoder"]
        answer.append((*who(record), record["preset"], record["seed"], encoder["model"], encoder["image_size"]))
    return sorted(answer)


def made_with_one_reference(rows: Rows) -> Answer:
    groups = defaultdict(list)
    for audit in rows["audits"]:
        groups[audit["partition"], audit["train_table"], audit["held_out_table"]].append(audit["nearest"])
    answer = [(*reference, len(nearest), sorted(nearest)) for reference, nearest in groups.items()]
    return sorted(answer, key=lambda line: (-line[3], line[0]))


ANSWERS: dict[str, Callable[[Rows], Answer]] = {
    "Which releases were found to copy this month?": copying_this_month,
    "Which images are copies, and of what?": copies_of_a_release,
    "Which copies are parts, and where?": parts,
    "Which training images are copied most often?": copied_most_often,
    "What should be deduplicated in the training set?": to_deduplicate,
    "Which releases repeat themselves?": repeating,
    "Which layers disagree?": disagreeing,
    "Which training images are copied by most releases?": copied_most,
    "Which pairs are the same image, byte for byte?": identical,
    "Which releases are near the threshold?": near_the_threshold,
    "Which verdicts would change at another gate?": another_gate,
    "Which verdicts changed from one audit of a release to the next?": changed,
    "How does Â develop from version to version?": trend,
    "Which releases are most alike?": nearest,
    "Who made the suspects?": makers,
    "Which suspects stayed undecided, and how many images would settle it?": undecided,
    "Which audits are invalid, and what is the remedy?": invalid,
    "Which releases are stale: not audited with the newest encoder?": stale,
    "What was rejected, and why?": rejected,
    "Where was the search for the nearest training image not accurate enough?": unsure_search,
    "What did the audits of each month cost?": cost,
    "With which settings was a release audited?": settings,
    "Which audits were made with one reference, and where are its tables and distances?": made_with_one_reference,
}


def test_every_question_has_an_answer() -> None:
    assert set(QUESTIONS) == set(ANSWERS)
    assert PAGE.count("```sql") == len(QUESTIONS) >= 12


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_is_right(made: Made, question: str) -> None:
    found = run_sql(made.uri, QUESTIONS[question])
    expected = ANSWERS[question](made.rows)
    assert expected, "the made-up store must have something to find"
    assert found.num_rows == len(expected)
    for record, wanted in zip(found.to_pylist(), expected, strict=True):
        values = [value if isinstance(value, float) else None for value in record.values()]
        assert values == pytest.approx([value if isinstance(value, float) else None for value in wanted])
        assert [value for value in record.values() if not isinstance(value, float)] == [
            value for value in wanted if not isinstance(value, float)
        ]


def test_the_python_of_the_page_runs(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    Path(made.uri).joinpath("here").mkdir(exist_ok=True)
    monkeypatch.chdir(Path(made.uri) / "here")
    Path("audits").symlink_to(made.uri)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["frame"].num_rows == 4
    with connect(made.uri) as connection:
        assert connection.sql("SELECT count(*) FROM latest_audits").fetchall() == [(12,)]
