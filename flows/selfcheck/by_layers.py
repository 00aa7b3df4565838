"""The self-check of audits that are judged by layers.

Held-out images are split into two random halves. One serves as unseen real images; the other is audited like a release:
as it is, re-encoded (the placebo), and with a few of its images replaced by re-encoded training images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from actors.stages.reference import ReferenceTables
from actors.stages.score import score_layers
from actors.stages.transform_images import transform_images
from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import Compose, Part, compose_table
from flows.audit import built_reference
from flows.inputs import list_set, open_reference
from flows.results.identity import Reference, scoring_digest
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from flows.tasks import embed_set, search_set
from scoring.checks.power import POWER, smallest_detectable_rate
from scoring.score.cells import MIN_HELD_OUT
from scoring.verdict.copying import CopyingVerdict, copying_verdict
from storage.errors import InputError
from storage.layout import layer_key, name_of, selfcheck_prefix
from storage.vectors.tables import VectorStore

PLANTED_SHARES = (0.01, 0.05)
CERTAIN = 0.99
"""At this power or more a planted share must be called copying: a miss is a fault, not chance."""

TYPICAL_SIZES = (200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True)
class Trial:
    """One artificial release and its audit.

    Attributes:
        name: How the images were changed.
        planted: Share of training images among them.
        images: Number of images.
        copying: The copying verdict.
        a_hats: Â of each informative layer.
        wanted: The correct verdict; None where both are, since the share is too small to be detected.
        sentence: The verdict in words.
    """

    name: str
    planted: float
    images: int
    copying: bool
    copy_rate: float | None
    copy_rate_low: float | None
    copy_rate_high: float | None
    a_hats: dict[int, float]
    wanted: bool | None
    sentence: str

    @property
    def passed(self) -> bool:
        """Whether the verdict is correct."""
        return self.wanted is None or self.copying == self.wanted


@dataclass(frozen=True)
class SelfCheck:
    """The trials, and the smallest detectable copy rate by number of generated images (None = no rate)."""

    trials: list[Trial]
    detectable: dict[int, float | None]
    held_out_images: int
    layers: int

    @property
    def passed(self) -> bool:
        """Whether every trial passed."""
        return all(trial.passed for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "passed": self.passed}


class _Halves(NamedTuple):
    """Rows of the embedding table of the held-out images."""

    unseen: tuple[int, ...]
    release: tuple[int, ...]


def check_layers(runtime: Runtime, spec: AuditSpec) -> SelfCheck:
    """Try the spec's reference and encoder on placebos and planted copies.

    Raises:
        InputError: too few held-out images to split.
    """
    reference = built_reference(runtime, spec)
    tables = reference.tables
    halves = _split(runtime, spec, tables)
    prefix = selfcheck_prefix(reference.digest, scoring_digest(spec))
    unseen = f"{prefix}/unseen"
    _compose(runtime, spec, tables, unseen, [(tables.nearest, halves.unseen)])
    planted_most = math.ceil(max(PLANTED_SHARES) * len(halves.release))
    placebo, copies = _reencoded(runtime, spec, reference, halves, planted_most)
    m = len(halves.release)
    trials = [_try(runtime, spec, tables, unseen, f"{prefix}/half", [(tables.nearest, halves.release)], 0.0, m)]
    for share in (0.0, *PLANTED_SHARES):
        k = math.ceil(share * m)
        parts = [(placebo, tuple(range(k, m))), (copies, tuple(range(k)))]
        trials.append(_try(runtime, spec, tables, unseen, f"{prefix}/planted-{share:g}", parts, share, m))
    measured = len(trials[0].a_hats)
    n = tables.held_out_images
    rates = {size: smallest_detectable_rate(n, size, measured, spec.gate.max_copy_rate) for size in TYPICAL_SIZES}
    return SelfCheck(trials, rates, n, measured)


def _split(runtime: Runtime, spec: AuditSpec, tables: ReferenceTables) -> _Halves:
    store = runtime.context(spec).store
    held_out = VectorStore(store).read(tables.held_out.name, tables.held_out.version, ["row"])
    rows = held_out["row"].to_numpy()
    rows = np.sort(rows[~np.isin(rows, contaminated_rows(store, tables.contaminated))])
    if len(rows) < 2 * MIN_HELD_OUT:
        raise InputError(
            f"reference.held_out: {len(rows)} images cannot be split in two halves of {MIN_HELD_OUT}",
            "give more held-out images",
        )
    first = np.random.default_rng(spec.scoring.seed).permutation(len(rows)) < len(rows) // 2
    return _Halves(tuple(rows[first].tolist()), tuple(rows[~first].tolist()))


def _reencoded(
    runtime: Runtime, spec: AuditSpec, reference: Reference, halves: _Halves, planted: int
) -> tuple[str, str]:
    """Re-encode, embed and search the release half and some training images; prefixes of their nearest distances."""
    _, train, held_out = open_reference(runtime, spec)
    rng = np.random.default_rng(spec.scoring.seed)
    chosen = np.sort(rng.choice(len(train), planted, replace=False)).tolist()
    prefixes = []
    for name, manifest, rows in (("placebo", held_out, halves.release), ("copies", train, chosen)):
        images = list_set(runtime, transform_images(runtime.context(spec), manifest, "reencode", name, rows))
        table = embed_set(runtime, spec, reference.facts, images, f"selfcheck {name}")
        prefixes.append(search_set(runtime, spec, reference, table, f"selfcheck {name}"))
    return prefixes[0], prefixes[1]


def _compose(
    runtime: Runtime,
    spec: AuditSpec,
    tables: ReferenceTables,
    prefix: str,
    parts: Sequence[tuple[str, tuple[int, ...]]],
) -> None:
    """Combine nearest distances under a prefix, layer by layer."""
    tasks = [
        Compose(
            spec.store,
            tuple(Part(layer_key(source, layer, "parquet"), rows) for source, rows in parts),
            layer_key(prefix, layer, "parquet"),
        )
        for layer in tables.layers
    ]
    runtime.context(spec).run("layers", compose_table, tasks, f"compose {name_of(prefix)}")


def _try(
    runtime: Runtime,
    spec: AuditSpec,
    tables: ReferenceTables,
    unseen: str,
    prefix: str,
    parts: Sequence[tuple[str, tuple[int, ...]]],
    share: float,
    m: int,
) -> Trial:
    _compose(runtime, spec, tables, prefix, parts)
    name = name_of(prefix)
    half = replace(tables, nearest=unseen)
    results = score_layers(runtime.context(spec), half, prefix, m, f"selfcheck {name}")
    scores = [result.score for result in results.values()]
    verdict = copying_verdict(scores, spec.gate.max_copy_rate)
    measured = [score for score in scores if score.copy is not None]

    def detectable(power: float) -> float | None:
        n = measured[0].n if measured else 0
        return smallest_detectable_rate(n, m, len(measured), spec.gate.max_copy_rate, power) if measured else None

    return Trial(
        name="half against half" if name == "half" else "re-encoded" if not share else f"{share:.0%} planted",
        planted=share,
        images=m,
        copying=verdict.copying,
        copy_rate=verdict.rate,
        copy_rate_low=verdict.low,
        copy_rate_high=verdict.high,
        a_hats={score.layer: score.effect.a_hat for score in scores if score.effect is not None},
        wanted=_wanted(share, detectable(CERTAIN)),
        sentence=_sentence(verdict, share, detectable(POWER)),
    )


def _wanted(share: float, detectable: float | None) -> bool | None:
    """The correct verdict: no copying without copies, copying where the share is surely detected."""
    if not share:
        return False
    return True if detectable is not None and share >= detectable else None


def _sentence(verdict: CopyingVerdict, share: float, detectable: float | None) -> str:
    if share and (detectable is None or share < detectable):
        least = "no copy rate" if detectable is None else f"a copy rate from {100 * detectable:.2g} % on"
        return f"too few to be surely called copying: with these halves {least} would be, with 80 % probability"
    return verdict.sentence
