"""A made-up store: releases with versions, repeated audits, profiles and attributions, as rows and as files."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from storage.objects.open import ObjectStore
from storage.results.tables import SCHEMAS, write_result
from tests.storage.results.test_tables import row

Row = dict[str, Any]
LAYERS = 4


def fleet(releases: int = 6, versions: int = 2, audits: int = 2, seed: int = 0) -> dict[str, list[Row]]:
    """Rows by table: every release × version is audited several times, some weeks apart, the last time today."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Row]] = {table: [] for table in SCHEMAS}
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    for i in range(releases):
        for version in range(versions):
            for repeat in range(audits):
                key = {"release": f"r{i}", "version": str(version)}
                made = now - dt.timedelta(
                    days=int(rng.integers(20, 60)) * (audits - 1 - repeat), minutes=10 * version + i
                )
                _audit(rng, rows, {"audit_id": f"a{rng.integers(2**40):010x}", **key}, made)
    for i in range(4):
        _attribution(rng, rows, i, now - dt.timedelta(hours=i % 2), f"s3://suspects/{i // 2}")
    return rows


def _audit(rng: np.random.Generator, rows: dict[str, list[Row]], key: Row, made: dt.datetime) -> None:
    rate, width = rng.uniform(0, 0.1), rng.uniform(0, 0.03)
    profile = f"p{key['audit_id']}"
    settings = {"encoder": {"model": "vit", "image_size": int(rng.choice([112, 224]))}}
    record = row(
        "audits",
        **key,
        created_at=made,
        verdict=str(rng.choice(["copying", "no copying seen", "invalid"])),
        encoder_digest=str(rng.choice(["old", "new"])),
        copy_rate=rate,
        copy_rate_low=rate - width,
        copy_rate_high=rate + width,
        copies_at_least=int(1000 * (rate - width)) if rate > width else 0,
        distinct_images=1000,
        units=990,
        pictures=995,
        repeated_pictures=int(1000 * rate) % 3,
        repeated_images=2 + int(1e5 * rate) % 50,
        most_repeated=2 + int(1e4 * rate) % 7,
        copies_low=max(0.0, rate - width),
        copies_high=rate + width,
        max_copy_rate=0.02,
        run="1",
        profile_id=profile,
        partition=f"partitions/{rng.integers(3)}",
        nearest=f"nearest/{key['audit_id']}",
        seconds=float(rng.uniform(1, 100)),
        forward_images=int(rng.integers(0, 1000)),
        settings=json.dumps(settings),
    )
    rows["audits"].append(record)
    for rank in range(1, 5):
        found: Row = {"image_key": f"i{rank}", "train_key": f"t{rng.integers(5)}", "score": 20.0 / rank}
        kind: Row = {
            "part": bool(rng.random() < 0.5),
            "listed": rank < 4,
            "region_share": float(rng.random()),
            "view": str(rng.choice(["as it is", "mirrored"])),
            "train_files": 1 + int(1e4 * rate + rank) % 3,
            "train_alike": 1 + int(1e3 * rate + rank) % 2,
        }
        rows["copies"].append(row("copies", **key, rank=rank, p_value=rank / 100, **found, **kind))
    for layer in range(LAYERS):
        a, se = rng.uniform(0.3, 0.7), rng.uniform(0.01, 0.1)
        ends: Row = {"a_low": a - 2 * se, "a_high": a + 2 * se, "search_bound": rng.uniform(0, 0.03)}
        rows["scores"].append(row("scores", **key, layer=layer, informative=layer > 0, a_hat=a, se=se, **ends))
        curve: Row = {"logit_a": rng.normal(), "variance": rng.uniform(0.01, 0.1)}
        who: Row = {"profile_id": profile, "release": key["release"], "version": key["version"], "run": "1"}
        rows["profiles"] += [
            row("profiles", **who, part=part, layer=layer, created_at=made, **curve) for part in (0, 1)
        ]
        for rank in range(3):
            pair: Row = {"image_key": f"i{rng.integers(9)}", "train_key": f"t{rng.integers(5)}"}
            flags: Row = {"identical": bool(rng.random() < 0.2), "near_duplicate": bool(rng.random() < 0.2)}
            rows["evidence"].append(
                row("evidence", **key, layer=layer, rank=rank, distance=rng.random(), **pair, **flags)
            )
    for name in ("power", "parity"):
        severity = "invalid" if name == "parity" else "inconclusive"
        rows["checks"].append(row("checks", **key, name=name, passed=bool(rng.random() < 0.5), severity=severity))
    for i in range(rng.integers(0, 4)):
        rows["rejects"].append(
            row("rejects", **key, key=f"k{i}", reason=str(rng.choice(["not an image", "too large"])))
        )


def _attribution(rng: np.random.Generator, rows: dict[str, list[Row]], i: int, made: dt.datetime, uri: str) -> None:
    common: Row = {
        "attribution_id": f"x{i}",
        "images_uri": uri,
        "perturbation": "",
        "verdict": ["undecided", "attributed", "one of", "undecided"][i],
        "created_at": made,
        "needed": int(rng.integers(100, 1000)),
    }
    rows["attributions"] += [
        row(
            "attributions",
            **common,
            rank=rank,
            maker=f"r{rank}@1",
            posterior=1 / (1 + rank),
            closed=1 / rank,
            named=common["verdict"] == "one of" or (common["verdict"] == "attributed" and rank == 1),
            processing="JPEG 50",
        )
        for rank in (1, 2)
    ]


def write_fleet(store: ObjectStore, rows: Mapping[str, list[Row]]) -> None:
    """The rows as files, one per audit, profile or attribution; an audit without rows of a table gets an empty file."""
    audits = [record["audit_id"] for record in rows["audits"]]
    for table, found in rows.items():
        name = SCHEMAS[table].names[0]
        files: dict[str, list[Row]] = {audit: [] for audit in audits if name == "audit_id"}
        for record in found:
            files.setdefault(record[name], []).append(record)
        for file, its_rows in files.items():
            write_result(store, table, file, its_rows)


def latest(rows: Mapping[str, list[Row]], table: str = "audits") -> list[Row]:
    """The rows of the latest audit of every release and version."""
    newest: dict[tuple[str, str], Row] = {}
    for record in sorted(rows["audits"], key=lambda record: record["created_at"]):
        newest[record["release"], record["version"]] = record
    ids = {record["audit_id"] for record in newest.values()}
    return [record for record in rows[table] if record["audit_id"] in ids]
