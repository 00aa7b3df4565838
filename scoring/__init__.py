"""The method: pure functions on arrays.

The names below are the ones to import from here. Each is loaded at its first use, since SciPy and scikit-learn take a
second to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoring.attribution.attribute import Attribution as Attribution, attribute as attribute
    from scoring.attribution.background import Background as Background, Shift as Shift
    from scoring.attribution.drift import Drift as Drift, drift as drift
    from scoring.attribution.enrolment import Enrolment as Enrolment, enrol as enrol
    from scoring.attribution.paired import Comparison as Comparison, compare as compare
    from scoring.attribution.profile import Profile as Profile, Run as Run
    from scoring.checks.check import Check as Check, invalidity as invalidity
    from scoring.checks.copies_power import copies_power_check as copies_power_check
    from scoring.checks.parity import parity as parity
    from scoring.checks.power import power_check as power_check
    from scoring.copies.copy_counts import (
        CopyCounts as CopyCounts,
        copy_counts as copy_counts,
        upper_rate as upper_rate,
    )
    from scoring.copies.copy_score import CopyScale as CopyScale
    from scoring.copies.evidence import Evidence as Evidence, copy_evidence as copy_evidence
    from scoring.copies.token_space import TokenSpace as TokenSpace, fit_token_space as fit_token_space
    from scoring.copies.train_tokens import TrainTokens as TrainTokens
    from scoring.nearest.in_memory import Nearest as Nearest, in_cell_nearest as in_cell_nearest
    from scoring.partition.fit import Partition as Partition, fit_partition as fit_partition
    from scoring.partition.moments import Moments as Moments
    from scoring.presets import PRESETS as PRESETS, Preset as Preset
    from scoring.score.c_t import published_ct as published_ct
    from scoring.score.conformal import conformal_p as conformal_p
    from scoring.score.copy_rate import CopyRate as CopyRate, copy_rate as copy_rate
    from scoring.score.effect import Effect as Effect, effect_size as effect_size
    from scoring.score.frechet import FrechetFit as FrechetFit, frechet_fit as frechet_fit
    from scoring.score.layer_score import LayerScore as LayerScore, score_layer as score_layer
    from scoring.score.permutation import LayerSample as LayerSample, permutation_p as permutation_p
    from scoring.verdict.copies import CopiesVerdict as CopiesVerdict, copies_verdict as copies_verdict
    from scoring.verdict.copying import CopyingVerdict as CopyingVerdict, copying_verdict as copying_verdict
    from scoring.verdict.fit import FitVerdict as FitVerdict, fit_verdict as fit_verdict

_MODULES = {
    "attribution.attribute": ("Attribution", "attribute"),
    "attribution.background": ("Background", "Shift"),
    "attribution.drift": ("Drift", "drift"),
    "attribution.enrolment": ("Enrolment", "enrol"),
    "attribution.paired": ("Comparison", "compare"),
    "attribution.profile": ("Profile", "Run"),
    "checks.check": ("Check", "invalidity"),
    "checks.copies_power": ("copies_power_check",),
    "checks.parity": ("parity",),
    "checks.power": ("power_check",),
    "copies.copy_counts": ("CopyCounts", "copy_counts", "upper_rate"),
    "copies.copy_score": ("CopyScale",),
    "copies.evidence": ("Evidence", "copy_evidence"),
    "copies.token_space": ("TokenSpace", "fit_token_space"),
    "copies.train_tokens": ("TrainTokens",),
    "nearest.in_memory": ("Nearest", "in_cell_nearest"),
    "partition.fit": ("Partition", "fit_partition"),
    "partition.moments": ("Moments",),
    "presets": ("PRESETS", "Preset"),
    "score.c_t": ("published_ct",),
    "score.conformal": ("conformal_p",),
    "score.copy_rate": ("CopyRate", "copy_rate"),
    "score.effect": ("Effect", "effect_size"),
    "score.frechet": ("FrechetFit", "frechet_fit"),
    "score.layer_score": ("LayerScore", "score_layer"),
    "score.permutation": ("LayerSample", "permutation_p"),
    "verdict.copies": ("CopiesVerdict", "copies_verdict"),
    "verdict.copying": ("CopyingVerdict", "copying_verdict"),
    "verdict.fit": ("FitVerdict", "fit_verdict"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
