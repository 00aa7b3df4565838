"""Commands that say who made images: `enrol`, `attribute`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import console as screen, screens
from flows.cli.commands.common import Harmonise, Json, Spec, load, working
from storage.errors import InputError

if TYPE_CHECKING:
    from flows.spec.spec import AuditSpec, ReleaseSpec


def enrol(
    spec: Spec,
    release: Annotated[
        str | None, typer.Argument(metavar="[NAME[@VERSION]]", help="a release; left out: all of the spec")
    ] = None,
    images: Annotated[
        str | None, typer.Argument(metavar="[IMAGES]", help="its images, when the spec does not list it")
    ] = None,
    run: Annotated[str, typer.Option(help="which training run the images are of")] = "1",
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Make releases known to `attribute`: store their profiles, without judging them.

    An audit enrols its release by itself. Enrol several training runs of one model where you can: only then is it known
    how far runs differ, and a new run of the same model is not taken for a stranger.
    """
    loaded = load(spec, harmonise)
    chosen = _to_enrol(loaded, release, images, run)

    with working(as_json) as (_, runtime):
        from flows.enrol import enrol_releases

        found = enrol_releases(runtime, loaded, chosen)
    if as_json:
        screen.print_json({"enrolled": [asdict(one) for one in found]})
        return
    screens.show_enrolled(found)


def attribute(
    spec: Spec,
    images: Annotated[str, typer.Argument(metavar="IMAGES", help="a set of images, as in the spec")],
    reject: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="refuse a maker below this p; refused by all = unknown")
    ] = 0.05,
    unknown: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="prior probability that the maker is not enrolled")
    ] = 0.5,
    stress: Annotated[
        bool, typer.Option("--stress", help="again after JPEG 90 and 75, resize, crop and noise: what breaks it?")
    ] = False,
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Which enrolled release made an unlabelled set of images, if any?

    Compares the set's profile (memorization curve and moment signature) with those of all releases audited or enrolled
    in the spec's store. Says `unknown` when every release is refused, and how many images a sure answer needs.
    """
    from flows.spec.spec import absolute_uri

    loaded = load(spec, harmonise)
    if not 0 < reject < 1:
        raise InputError(f"--reject {reject:g} is no level", "give a number between 0 and 1, such as 0.05")

    uri = absolute_uri(images, Path.cwd())
    with working(as_json) as (_, runtime):
        from flows.attribute import attribute_images
        from flows.stress import stress_attribution

        if stress:
            stressed = stress_attribution(runtime, loaded, uri, reject=reject, unknown=unknown)
            found, document = stressed.plain, stressed.to_json()
        else:
            found = attribute_images(runtime, loaded, uri, reject=reject, unknown=unknown)
            document = found.to_json()
    if as_json:
        screen.print_json(document)
        return
    screens.show_attribution(found)
    if stress:
        screens.show_stress(stressed)


def _to_enrol(loaded: AuditSpec, release: str | None, images: str | None, run: str) -> list[ReleaseSpec]:
    from flows.spec.spec import absolute_uri

    if release is None:
        return loaded.releases
    if images is None:
        return [loaded.release(release)]
    name, _, version = release.partition("@")
    return [loaded.new_release(name, version or "1", run, absolute_uri(images, Path.cwd()))]
