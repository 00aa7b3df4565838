"""`layerprint.attribute`: which enrolled release made a set of images, from Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import ValidationError

from flows.api.html import attribution_card
from flows.api.session import session
from flows.api.spec import Encoder, Part, Place, absolute, build_spec
from flows.api.sql import connect
from flows.spec.spec import AuditSpec
from scoring.attribution.attribute import REJECT, UNKNOWN
from storage.errors import InputError

if TYPE_CHECKING:
    from flows.attribute import AttributedImages


@dataclass(frozen=True, eq=False)
class Attribution:
    """The answer for a set of images; a notebook shows it as a card.

    Attributes:
        verdict: ``attributed``, ``one of`` (a few releases are named), ``unknown`` (every enrolled release is refused,
            or another maker is very probable) or ``undecided``.
        maker: The release that made the images, NAME@VERSION; None unless they are attributed.
        sentence: The verdict in words.
        makers: One row per enrolled release, the most probable first: `maker`, `probability`, `p_value` (small: not
            the maker), `named` (by the verdict), `if_enrolled` (probability if one of them is the maker), `processing`
            (after which it is nearest).
        unknown: Probability that none of them is the maker.
        images: Images that were compared.
        images_needed: Images that a sure answer takes; None: no number of images is enough.
    """

    verdict: str
    maker: str | None
    sentence: str
    makers: pa.Table
    unknown: float
    images: int
    images_needed: int | None

    def _repr_html_(self) -> str:
        return attribution_card(self.verdict, self.sentence, self.makers.to_pylist(), self.unknown)


def attribute(
    *,
    images: Place,
    store: Place | None = None,
    train: Place | None = None,
    held_out: Place | None = None,
    encoder: Encoder | None = None,
    reference: str | None = None,
    scoring: Part = None,
    cluster: Part = None,
    harmonise: str | None = None,
    reject: float = REJECT,
    unknown: float = UNKNOWN,
    quiet: bool = False,
) -> Attribution:
    """Name the release that made a set of images, among those audited or enrolled in a store.

    Give either `store` alone, whose latest audit then says which reference, encoder and scoring are meant (use only a
    store that you trust), or `train`, `held_out` and `encoder` as for `layerprint.audit`.

    Args:
        images: The images, as for `layerprint.audit`.
        store: The store of the audits.
        train: Training images of the reference.
        held_out: Held-out images of the reference.
        encoder: The encoder.
        reference: Name of the reference.
        scoring: Fields of a spec's ``scoring``.
        cluster: Fields of a spec's ``cluster``; None: this machine.
        harmonise: ``jpeg:QUALITY``, as the audits had it.
        reject: Level at which a release is refused; all refused: ``unknown``.
        unknown: Prior probability that the maker is not enrolled.
        quiet: Show no progress on stderr.

    Raises:
        InputError: an argument or the images cannot be used, or nothing is enrolled.
        LayerprintError: a store cannot be used, or the work failed.
    """
    if not (0 < reject < 1 and 0 <= unknown < 1):
        raise InputError(
            f"reject={reject:g}, unknown={unknown:g}", "give levels between 0 and 1, such as reject=0.05, unknown=0.5"
        )
    if train is not None and held_out is not None and encoder is not None:
        spec = build_spec(
            "attribute",
            train=train,
            held_out=held_out,
            encoder=encoder,
            store=store,
            reference=reference,
            harmonise=harmonise,
            releases=[],
            scoring=scoring,
            cluster=cluster,
        )
    elif store is None or any(part is not None for part in (train, held_out, encoder, reference, scoring, harmonise)):
        raise InputError("which reference?", "give store=… alone, or train=…, held_out=… and encoder=…")
    else:
        spec = _spec_of_store(absolute(store), cluster)
    return _result(_run(spec, absolute(images), reject, unknown, quiet))


def _spec_of_store(store: str, cluster: Part) -> AuditSpec:
    """The spec of a store's latest audit."""
    with connect(store) as connection:
        rows = connection.sql("SELECT settings FROM audits ORDER BY created_at DESC, audit_id DESC LIMIT 1").fetchall()
    if not rows:
        raise InputError(f"{store}: no audit", "audit a release with this store first: layerprint.audit(store=…, …)")
    try:
        spec = AuditSpec.model_validate_json(rows[0][0])
        return AuditSpec.model_validate({**spec.model_dump(), "store": store, "cluster": cluster})
    except ValidationError as error:
        raise InputError(
            f"{store}: the settings of its latest audit cannot be read", "give train=…, held_out=… and encoder=…"
        ) from error


def _run(spec: AuditSpec, images: str, reject: float, unknown: float, quiet: bool) -> AttributedImages:
    with session(quiet) as runtime:
        from flows.attribute import attribute_images

        return attribute_images(runtime, spec, images, reject=reject, unknown=unknown)


def _result(answered: AttributedImages) -> Attribution:
    answer = answered.answer
    rows = [
        {
            "maker": candidate.maker,
            "probability": candidate.posterior,
            "p_value": candidate.p_value,
            "named": candidate.named,
            "if_enrolled": candidate.closed,
            "processing": candidate.processing,
        }
        for candidate in answer.candidates
    ]
    return Attribution(
        verdict=answer.verdict,
        maker=answer.candidates[0].maker if answer.verdict == "attributed" else None,
        sentence=answer.sentence,
        makers=pa.Table.from_pylist(rows),
        unknown=answer.unknown,
        images=answered.images,
        images_needed=answer.needed,
    )
