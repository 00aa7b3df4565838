"""Commands that attribute images to releases: `enrol`, `attribute`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.commands.common import Harmonise, Json, Spec, load, working
from flows.cli.console import print_json
from flows.cli.screens.attribution import show_attribution, show_enrolled, show_stress
from storage.errors import InputError

if TYPE_CHECKING:
    from flows.spec.spec import AuditSpec, ReleaseSpec


def enrol(
    spec: Spec,
    release: Annotated[
        str | None, typer.Argument(metavar="NAME[@VERSION]", help="The release to enrol. Default: all of the spec.")
    ] = None,
    images: Annotated[
        str | None, typer.Argument(metavar="IMAGES", help="Its images, if the spec does not list the release.")
    ] = None,
    run: Annotated[str, typer.Option(metavar="RUN", help="The training run that made the images.")] = "1",
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Enrol releases for attribution: store their profiles without judging them.

    An audit enrols its release as well. Enrol several training runs of each model if you can: only then is it known
    how much runs differ, and a new run of an enrolled model is not called unknown.
    """
    loaded = load(spec, harmonise)
    chosen = _to_enrol(loaded, release, images, run)

    with working(as_json) as (_, runtime):
        from flows.enrol import enrol_releases

        enrolled = enrol_releases(runtime, loaded, chosen)
    if as_json:
        print_json({"enrolled": [asdict(release) for release in enrolled]})
    else:
        show_enrolled(enrolled)


def attribute(
    spec: Spec,
    images: Annotated[str, typer.Argument(metavar="IMAGES", help="An image set, in any form that a spec takes.")],
    reject: Annotated[
        float, typer.Option(metavar="P", min=0.0, max=1.0, help="Reject a release below this p-value.")
    ] = 0.05,
    unknown: Annotated[
        float, typer.Option(metavar="P", min=0.0, max=0.99, help="Prior probability that the maker is not enrolled.")
    ] = 0.5,
    stress: Annotated[
        bool,
        typer.Option("--stress", metavar="", help="Repeat after JPEG 90 and 75, resize, crop and noise."),
    ] = False,
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Find out which enrolled release made a set of images, if any.

    Compares the set's profile (memorization curve and moment signature) with the profiles of all releases audited or
    enrolled in the spec's store. The answer is `unknown` if every release is rejected. It also says how many images a
    confident answer needs.
    """
    from flows.spec.spec import absolute_uri

    loaded = load(spec, harmonise)
    if not 0 < reject < 1:
        raise InputError(
            f"--reject {reject:g} is not a significance level", "use a number between 0 and 1, such as 0.05"
        )

    uri = absolute_uri(images, Path.cwd())
    with working(as_json) as (_, runtime):
        from flows.attribute import attribute_images
        from flows.stress import stress_attribution

        if stress:
            stressed = stress_attribution(runtime, loaded, uri, reject=reject, unknown=unknown)
            attributed, document = stressed.plain, stressed.to_json()
        else:
            attributed = attribute_images(runtime, loaded, uri, reject=reject, unknown=unknown)
            document = attributed.to_json()
    if as_json:
        print_json(document)
        return
    show_attribution(attributed)
    if stress:
        show_stress(stressed)


def _to_enrol(loaded: AuditSpec, release: str | None, images: str | None, run: str) -> list[ReleaseSpec]:
    from flows.spec.spec import absolute_uri

    if release is None:
        return loaded.releases
    if images is None:
        return [loaded.release(release)]
    name, _, version = release.partition("@")
    return [loaded.new_release(name, version or "1", run, absolute_uri(images, Path.cwd()))]
