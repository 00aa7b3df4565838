"""Writes reports into a folder or the store, and pictures of audits into the store."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

from flows.report.distances import read_histogram
from flows.report.facts import (
    AuditFacts,
    NoAuditError,
    Row,
    StoreFacts,
    audit_facts,
    label_of,
    read_evidence,
    read_store,
)
from flows.report.figures.copies import copy_views
from flows.report.figures.layer_curves import curves_picture
from flows.report.figures.pairs import ImageSet, pair_groups
from flows.report.figures.pairs_sheet import pairs_picture
from flows.report.modelcard import model_card
from flows.report.pages import fleet_page, release_page
from flows.report.serve import FLEET_FILE
from flows.results.audit_result import AuditResult
from flows.results.made_from import made_from
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.text import file_name
from storage.errors import InputError, StoreError
from storage.layout import curves_key, pairs_key, report_key
from storage.objects.open import ObjectMissingError, ObjectStore, open_store
from storage.seal import parsed, unless_broken

Format = Literal["html", "modelcard"]

_log = logging.getLogger(__name__)


class Written(NamedTuple):
    """A written report: its file, and its URI in the store if it was published."""

    release: str
    verdict: str
    audit_id: str
    path: Path
    published: str | None = None


class Reports(NamedTuple):
    """The written files: one per release, the page of all (None for a single release); and releases without audit."""

    written: list[Written]
    fleet: Path | None
    missing: list[str]

    def to_json(self) -> dict[str, Any]:
        """The files as plain values."""
        reports = [{**report._asdict(), "path": str(report.path)} for report in self.written]
        return {"reports": reports, "fleet": self.fleet and str(self.fleet), "missing": self.missing}


def save_report(spec: AuditSpec, release: ReleaseSpec, audit_id: str) -> str:
    """Write the report of one audit into the store, as a single page.

    Returns:
        Its URI.

    Raises:
        LayerprintError: There is no such audit, or the store cannot be used.
    """
    store = open_store(spec.store)
    facts = audit_facts(store, read_store(spec.store), audit_id)
    return _publish(store, facts, release, training_images(store, spec, facts.audit))


def save_curves(store: ObjectStore, outcomes: Sequence[AuditResult]) -> str:
    """Write the curves of Â over layers of some audits into the store, as one PNG, once.

    Returns:
        Its URI.
    """
    key = curves_key([outcome.audit_id for outcome in outcomes])
    if not _is_drawn(store, key):
        store.put(key, curves_picture(outcomes))
    return store.child_uri(key)


def save_pairs(spec: AuditSpec, release: ReleaseSpec, outcome: AuditResult) -> str:
    """Write the closest pairs of an audit, those that its report shows, into the store, as one PNG, once.

    Returns:
        Its URI.
    """
    store = open_store(spec.store)
    key = pairs_key(file_name(outcome.label), outcome.audit_id)
    if not _is_drawn(store, key):
        images = ImageSet(store, release.images, outcome.audit["images_digest"])
        train = training_images(store, spec, outcome.audit)
        groups = pair_groups(outcome, read_evidence(store, outcome.audit_id), images, train)
        store.put(key, pairs_picture(outcome.label, groups))
    return store.child_uri(key)


def save_pictures(spec: AuditSpec, releases: Sequence[ReleaseSpec], outcomes: Sequence[AuditResult]) -> list[str]:
    """Draw the curves of some audits together, and the closest pairs of each.

    Returns:
        Their URIs. A picture that the store refuses is left out with a warning: it may be one that we can only read.
    """
    store, by_label = open_store(spec.store), {release.label: release for release in releases}
    drawings = [partial(save_curves, store, outcomes)]
    drawings += [partial(save_pairs, spec, by_label[outcome.label], outcome) for outcome in outcomes]
    drawn = []
    for draw in drawings:
        try:
            drawn.append(draw())
        except StoreError as error:
            _log.warning("no picture: %s", error.found)
    return drawn


def _is_drawn(store: ObjectStore, key: str) -> bool:
    """Whether a picture is in the store, whole: PNG has a checksum of every part."""
    try:
        data = store.get(key)
    except ObjectMissingError:
        return False
    return unless_broken(lambda: parsed(store, key, data, _check_picture), "it is drawn again") is not None


def _check_picture(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()
    return True


def make_reports(spec: AuditSpec, release: str | None, folder: Path, kind: Format, publish: bool = False) -> Reports:
    """Write the report of one release, or of all releases of the spec with, as HTML, a page of all releases.

    Args:
        spec: Names the store, the image sets and the releases.
        release: NAME or NAME@VERSION; None = all.
        folder: Folder for the files; created if needed.
        kind: Format of the files.
        publish: Also put the pages into the store.

    Raises:
        InputError: The release is not in the spec, no release has an audit, or the folder cannot be written.
        StoreError: The store cannot be read.
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
    trains: dict[str | None, ImageSet] = {}  # audits of one reference share the pictures that were read
    written = []
    for one in wanted:
        row = audits[one.label]
        facts = None if row is None else _readable_facts(store, shared, row["audit_id"])
        if row is not None and facts is None:
            missing.append(one.label)
        if row is not None and facts is not None:
            digest = row["train_digest"]
            if digest not in trains:
                trains[digest] = training_images(store, spec, row)
            page = model_card(facts) if kind == "modelcard" else _html(store, facts, one, trains[digest], with_fleet)
            path = _write(folder, _report_name(row, kind), page)
            published = _publish(store, facts, one, trains[digest]) if publish else None
            written.append(Written(one.label, facts.outcome.verdict, row["audit_id"], path, published))
    if not with_fleet:
        return Reports(written, None, missing)
    hrefs = {report.audit_id: report.path.name for report in written}
    return Reports(written, _write(folder, FLEET_FILE, fleet_page(shared, hrefs, missing)), missing)


def _readable_facts(store: ObjectStore, shared: StoreFacts, audit_id: str) -> AuditFacts | None:
    """The contents of a report; None, after a warning, where a file of the audit is broken."""
    try:
        return audit_facts(store, shared, audit_id)
    except NoAuditError:
        return None


def _publish(store: ObjectStore, facts: AuditFacts, release: ReleaseSpec, train: ImageSet) -> str:
    key = report_key(facts.outcome.audit_id)
    store.put(key, _html(store, facts, release, train, with_fleet=False).encode())
    return store.child_uri(key)


def _html(store: ObjectStore, facts: AuditFacts, release: ReleaseSpec, train: ImageSet, with_fleet: bool) -> str:
    images = ImageSet(store, release.images, facts.audit["images_digest"])
    groups = pair_groups(facts.outcome, facts.evidence, images, train)
    copies = copy_views(facts.copies, images, train)
    return release_page(facts, groups, read_histogram(store, facts), copies=copies, fleet=with_fleet)


def _report_name(row: Row, kind: Format) -> str:
    """A file name that no untrusted text can turn into a path."""
    return f"{file_name(label_of(row))}-{file_name(row['audit_id'])}.{'md' if kind == 'modelcard' else 'html'}"


def training_images(store: ObjectStore, spec: AuditSpec, audit: Row) -> ImageSet:
    """The training images as the audit listed them, else as they are now."""
    sources = made_from(store, audit)
    return ImageSet(store, spec.reference.train, sources.train_digest if sources else None)


def _write(folder: Path, name: str, text: str) -> Path:
    """Write a file under a temporary name, then rename it."""
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "give another --out FOLDER") from error
    return path
