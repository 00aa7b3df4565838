"""The flow `selfcheck`: measures what this reference and encoder can detect, on the user's own images."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from actors.encoder.alterations import USUAL_KINDS
from flows.runtime.repairs import repairing
from flows.runtime.runtime import Runtime
from flows.selfcheck.by_copies import check_copies
from flows.selfcheck.by_layers import SelfCheck, check_layers
from flows.selfcheck.judged import CopiesSelfCheck
from flows.spec.spec import AuditSpec

COPIES = 100
"""Copies of each kind."""


@flow(name="selfcheck", persist_result=False, validate_parameters=False)
@repairing
def selfcheck(
    runtime: Runtime, spec: AuditSpec, kinds: Sequence[str] = USUAL_KINDS, copies: int = COPIES
) -> CopiesSelfCheck | SelfCheck:
    """Try the spec's reference and encoder on placebos and planted copies, as its audits are judged.

    Args:
        runtime: The runtime of the command.
        spec: The spec; with `copies: false` or a published preset the layers are tried, and the rest is ignored.
        kinds: Kinds of copies, see `actors.encoder.alterations.alteration`.
        copies: Copies of each kind.

    Raises:
        InputError: too few held-out images to split, or a kind that does not exist.
    """
    if spec.copy_settings is None:
        return check_layers(runtime, spec)
    return check_copies(runtime, spec, kinds, copies)
