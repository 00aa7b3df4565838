"""`layerprint.audit`: one release against one reference, from Python."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from flows.api.html import MOST_COPIES, audit_card
from flows.api.pairs import Pairs
from flows.api.session import session
from flows.api.spec import Encoder, Part, Place, build_spec, set_name
from flows.report.facts import AuditFacts, audit_facts, read_store
from flows.report.figures.copies import copy_views
from flows.report.figures.pairs import ImageSet, PairGroup, pair_groups
from flows.report.make import save_report, training_images
from flows.spec.spec import AuditSpec
from storage.errors import InputError
from storage.layout import report_key
from storage.objects.open import open_store
from storage.results.tables import SCHEMAS

if TYPE_CHECKING:
    from flows.results.audit_result import AuditResult


class Audit:
    """A finished audit; a notebook shows it as a card.

    Attributes:
        store: URI of the store that holds its results.
        audit_id: Its name in all result tables.
        verdict: ``copying``, ``no copying seen``, ``inconclusive``, ``not judged`` or ``invalid``.
        sentence: The verdict in words, with the numbers that it rests on.
        scores: One row per layer, the columns of the view `scores`: `a_hat`, `a_low`, `a_high`, `copy_rate`, `c_t`, …
        checks: One row per validity check, with its remedy.
        copies: One row per image that is listed as a copy, or that scores higher than every held-out image, the
            strongest first: `image_key`, `train_key`, `score`, `listed`, …; empty where the layers are the verdict.
    """

    def __init__(self, spec: AuditSpec, outcome: AuditResult) -> None:
        self._spec, self._outcome = spec, outcome
        self.store = spec.store
        self.audit_id = outcome.audit_id
        self.verdict = outcome.verdict
        self.sentence = str(outcome.audit["invalid_reason"] or outcome.audit["sentence"])
        self.scores = pa.Table.from_pylist(outcome.scores, schema=SCHEMAS["scores"])
        self.checks = pa.Table.from_pylist(outcome.checks, schema=SCHEMAS["checks"])
        self.copies = pa.Table.from_pylist(outcome.copies, schema=SCHEMAS["copies"])

    def pairs(self) -> Pairs:
        """The closest pairs of generated and training images, at the layer that the verdict rests on.

        The view `evidence` (see `layerprint.connect`) has those of all layers.
        """
        layer = self._facts.decisive
        rows = [row for row in self._facts.evidence if row["layer"] == layer]
        return Pairs(rows, self._group.pairs if self._group else [])

    def report(self, path: Place) -> Path:
        """Write the report, one self-contained HTML page, to a file; the store keeps it too, under ``reports/``.

        Raises:
            InputError: the file cannot be written.
        """
        save_report(self._spec, self._spec.releases[0], self.audit_id)
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(open_store(self.store).get(report_key(self.audit_id)))
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror}", "give the path of a file") from error
        return target

    def __repr__(self) -> str:
        return f"Audit({self._outcome.label!r}, verdict={self.verdict!r}, store={self.store!r})"

    def _repr_html_(self) -> str:
        copies = copy_views(self._outcome.listed[:MOST_COPIES], *self._images)
        return audit_card(self._facts, self._group.pairs if self._group else [], copies)

    @cached_property
    def _facts(self) -> AuditFacts:
        return audit_facts(open_store(self.store), read_store(self.store), self.audit_id)

    @cached_property
    def _images(self) -> tuple[ImageSet, ImageSet]:
        """The generated and the training images."""
        store = open_store(self.store)
        images = ImageSet(store, self._spec.releases[0].images, self._outcome.audit["images_digest"])
        return images, training_images(store, self._spec, self._outcome.audit)

    @cached_property
    def _group(self) -> PairGroup | None:
        """The pairs of the layer that decides, with their pictures."""
        groups = pair_groups(self._outcome, self._facts.evidence, *self._images)
        return next((group for group in groups if group.role == "decides"), None)


def audit(
    *,
    train: Place,
    held_out: Place,
    images: Place,
    encoder: Encoder,
    name: str | None = None,
    store: Place | None = None,
    version: str = "1",
    run: str = "1",
    family: str | None = None,
    reference: str | None = None,
    scoring: Part = None,
    gate: Part = None,
    cluster: Part = None,
    harmonise: str | None = None,
    quiet: bool = False,
) -> Audit:
    """Audit a release: does it copy its training images?

    The call does what `layerprint audit` does: it embeds what the store lacks, scores every layer and writes the
    results into the store. The same call again computes nothing, and an interrupted one continues where it stopped.

    Args:
        train: Training images: a folder or ``s3://`` prefix of images or ``.tar`` shards, ``file.tar``,
            ``file.parquet#column`` or ``file.npz#array``.
        held_out: Images of the same distribution that the model never saw.
        images: Generated images of the release.
        encoder: Name of a timm model, whose published weights are used; or the fields of a spec's ``encoder`` as a
            mapping: ``{"model": …, "weights": …, "image_size": …}``.
        name: Name of the release; None: the last part of `images`, without its suffix.
        store: Where results and embeddings are kept: a folder or ``s3://`` prefix. A store belongs to one reference.
            None: a folder under ``./layerprint-audits/`` named after the reference, so that another release of the same
            reference uses its embeddings again.
        version: Version of the release.
        run: Training run of the release, when there are several.
        family: Kind of generator, for example ``gan``.
        reference: Name of the reference; None: the last folder that holds both `train` and `held_out`.
        scoring: Fields of a spec's ``scoring``, for example ``{"preset": "paper"}``.
        gate: Fields of a spec's ``gate``, for example ``{"max_copy_rate": 0.0}``.
        cluster: Fields of a spec's ``cluster``: a Ray cluster that does the work; None: this machine.
        harmonise: ``jpeg:QUALITY`` re-encodes the images of all sets alike first.
        quiet: Show no progress on stderr.

    Raises:
        InputError: an argument or the images cannot be used.
        LayerprintError: a store cannot be used, or the work failed.
    """
    spec = build_spec(
        "audit",
        train=train,
        held_out=held_out,
        encoder=encoder,
        store=store,
        reference=reference,
        harmonise=harmonise,
        releases=[
            {"name": name or set_name(images), "version": version, "run": run, "family": family, "images": images}
        ],
        scoring=scoring,
        gate=gate,
        cluster=cluster,
    )
    return Audit(spec, _run(spec, quiet))


def _run(spec: AuditSpec, quiet: bool) -> AuditResult:
    with session(quiet) as runtime:
        from flows import audit as flows_audit

        return flows_audit.audit(runtime, spec).outcomes[0]
