"""Writes the reports of a spec's releases: into a folder, the page of all releases beside them, or into the store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flows.report.facts import ReleaseFacts, Row, label_of, read_store, release_facts
from flows.report.figures.pairs import ImageSet, pair_groups
from flows.report.modelcard import model_card
from flows.report.pages import fleet_page, release_page
from flows.report.serve import FLEET_FILE
from flows.report.tail import read_tail
from flows.results.store_owner import OWNER_KEY
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.text import file_name
from storage.errors import InputError
from storage.objects.open import ObjectMissingError, ObjectStore, open_store

Format = Literal["html", "modelcard"]


class Written(NamedTuple):
    """A report that was written: where its file is, and its URI in the store when it was published."""

    release: str
    verdict: str
    audit_id: str
    path: Path
    published: str | None = None


class Reports(NamedTuple):
    """What was written: a file a release, the page of all (None when one release was asked for), who is missing."""

    written: list[Written]
    fleet: Path | None
    missing: list[str]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        reports = [{**one._asdict(), "path": str(one.path)} for one in self.written]
        return {"reports": reports, "fleet": self.fleet and str(self.fleet), "missing": self.missing}


def report_key(audit_id: str) -> str:
    """Where the report of an audit lies in the store, once it is published."""
    return f"reports/{audit_id}.html"


def save_report(spec: AuditSpec, release: ReleaseSpec, audit_id: str) -> str:
    """Write the report of one audit, a page of its own, into the store.

    Returns:
        Its URI.

    Raises:
        LayerprintError: there is no such audit, or the store cannot be used.
    """
    store = open_store(spec.store)
    train = ImageSet(store, spec.reference.train, train_digest(store))
    return _publish(store, release_facts(store, read_store(spec.store), audit_id), release, train)


def make_reports(spec: AuditSpec, release: str | None, folder: Path, kind: Format, publish: bool = False) -> Reports:
    """Write the report of one release, or of all of the spec and, as HTML, the page of all releases.

    Args:
        spec: Names the store, the image sets and the releases.
        release: NAME or NAME@VERSION; None = all.
        folder: Where the files go; it is made.
        kind: What is written.
        publish: Put the pages into the store as well.

    Raises:
        InputError: a release that is not in the spec or not audited, or a folder that cannot be written.
        StoreError: the store cannot be read.
    """
    wanted = spec.releases if release is None else [spec.release(release)]
    store, shared = open_store(spec.store), read_store(spec.store)
    latest = {(row["release"], row["version"], row["run"] or "1"): row for row in shared.latest()}
    audits = {one.label: latest.get((one.name, one.version, one.run)) for one in wanted}
    missing = [label for label, row in audits.items() if row is None]
    if len(missing) == len(wanted):
        raise InputError(
            f"{', '.join(missing[:5])}: no audit in {store.uri}",
            "audit first: layerprint audit SPEC" + (f" --release {release}" if release else ""),
        )
    with_fleet = release is None and kind == "html"
    train = ImageSet(store, spec.reference.train, train_digest(store))
    written = []
    for one in wanted:
        row = audits[one.label]
        if row is not None:
            facts = release_facts(store, shared, row["audit_id"])
            page = model_card(facts) if kind == "modelcard" else _html(store, facts, one, train, with_fleet)
            path = _write(folder, _report_name(row, kind), page)
            published = _publish(store, facts, one, train) if publish else None
            written.append(Written(one.label, facts.outcome.verdict, row["audit_id"], path, published))
    if not with_fleet:
        return Reports(written, None, missing)
    hrefs = {one.audit_id: one.path.name for one in written}
    return Reports(written, _write(folder, FLEET_FILE, fleet_page(shared, hrefs, missing)), missing)


def _publish(store: ObjectStore, facts: ReleaseFacts, release: ReleaseSpec, train: ImageSet) -> str:
    key = report_key(facts.outcome.audit_id)
    store.put(key, _html(store, facts, release, train, with_fleet=False).encode())
    return store.child_uri(key)


def _html(store: ObjectStore, facts: ReleaseFacts, release: ReleaseSpec, train: ImageSet, with_fleet: bool) -> str:
    images = ImageSet(store, release.images, facts.audit["images_digest"])
    return release_page(facts, pair_groups(facts, images, train), read_tail(store, facts), fleet=with_fleet)


def _report_name(row: Row, kind: Format) -> str:
    """A file name that no stranger's text can turn into a path."""
    return f"{file_name(label_of(row))}-{file_name(row['audit_id'])}.{'md' if kind == 'modelcard' else 'html'}"


def train_digest(store: ObjectStore) -> str | None:
    """The digest of the train images' list, as the store's first audit saw it."""
    try:
        return str(json.loads(store.get(OWNER_KEY))["contents"]["train"])
    except (ObjectMissingError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, name: str, text: str) -> Path:
    """Write a file under a temporary name and give it its own by one rename."""
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "give --out FOLDER that can be") from error
    return path
