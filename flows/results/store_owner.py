"""A store belongs to one reference."""

from __future__ import annotations

import json

from flows.spec.spec import AuditSpec
from storage.errors import InputError
from storage.image_sets.manifest import Manifest
from storage.layout import OWNER_KEY
from storage.objects.open import ObjectStore


def claim_store(store: ObjectStore, spec: AuditSpec, train: Manifest, held_out: Manifest) -> None:
    """Claim the store for this reference, or check that it has it: profiles of two references never mix.

    The reference is the same when its name, and the places or contents of its sets, are the same.

    Raises:
        InputError: the store belongs to another reference, or holds something else.
    """
    places = {"train": spec.reference.train, "held_out": spec.reference.held_out}
    contents = {"train": train.digest, "held_out": held_out.digest}
    ours = {"format": 1, "name": spec.reference.name, "places": places, "contents": contents}
    if store.put_if_absent(OWNER_KEY, json.dumps(ours, indent=1).encode()):
        return
    try:
        owner = json.loads(store.get(OWNER_KEY))
        known = (owner["name"], owner["places"], owner["contents"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"store: {store.uri} holds a {OWNER_KEY} that is not ours", "give an empty store") from error
    if known[0] != spec.reference.name or (known[1] != places and known[2] != contents):
        raise InputError(
            f"store: {store.uri} belongs to the reference {known[0]} (train {known[1].get('train')}, held-out "
            f"{known[1].get('held_out')}); this spec's is {spec.reference.name} (train {places['train']}, held-out "
            f"{places['held_out']})",
            "give this spec a store of its own",
        )
