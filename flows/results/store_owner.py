"""A store belongs to one reference."""

from __future__ import annotations

from typing import Any

from flows.spec.spec import AuditSpec
from storage.errors import InputError
from storage.image_sets.manifest import Manifest
from storage.layout import OWNER_KEY
from storage.objects.open import BrokenObjectError, ObjectMissingError, ObjectStore
from storage.results.tables import read_result
from storage.seal import read_json, sealed_json


def claim_store(store: ObjectStore, spec: AuditSpec, train: Manifest, held_out: Manifest) -> None:
    """Claim the store for this reference, or check that it has it: profiles of two references never mix.

    The reference is the same when its name, and the places or contents of its sets, are the same.

    Raises:
        InputError: the store belongs to another reference, or holds something else.
        BrokenObjectError: the note of the owner is not what was written, and the audits are of this reference.
    """
    places = {"train": spec.reference.train, "held_out": spec.reference.held_out}
    contents = {"train": train.digest, "held_out": held_out.digest}
    ours = {"format": 1, "name": spec.reference.name, "places": places, "contents": contents}
    try:
        owner = _owner(store)
    except BrokenObjectError:
        _demand_same_owner(store, spec, train)
        raise
    if owner is None:  # a store that has one may be read only
        store.put_if_absent(OWNER_KEY, sealed_json(ours))
        owner = _owner(store) or ours
    try:
        known = (owner["name"], owner["places"], owner["contents"])
    except (KeyError, TypeError) as error:
        raise InputError(f"store: {store.uri} holds a {OWNER_KEY} that is not ours", "give an empty store") from error
    if known[0] != spec.reference.name or (known[1] != places and known[2] != contents):
        raise InputError(
            f"store: {store.uri} belongs to the reference {known[0]} (train {known[1].get('train')}, held-out "
            f"{known[1].get('held_out')}); this spec's is {spec.reference.name} (train {places['train']}, held-out "
            f"{places['held_out']})",
            "give this spec a store of its own",
        )


def _owner(store: ObjectStore) -> Any:
    """What the store says of its owner; None when it says nothing."""
    try:
        return read_json(store, OWNER_KEY)
    except ObjectMissingError:
        return None


def _demand_same_owner(store: ObjectStore, spec: AuditSpec, train: Manifest) -> None:
    """Before the broken note of a store's owner is written again: its audits must be of the spec's reference.

    Raises:
        InputError: An audit in the store is of another reference.
    """
    for audit in read_result(store, "audits").to_pylist():
        known = (audit["reference"], audit["train_digest"] or train.digest)
        if known != (spec.reference.name, train.digest):
            raise InputError(
                f"store: {store.child_uri(OWNER_KEY)} is broken, and the audits of {store.uri} are of another "
                f"reference, {audit['reference']}",
                "give this spec a store of its own",
            )
