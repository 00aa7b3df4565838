"""Commands that show results to people: `report` writes pages, `open` shows them in the browser."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.cli import console as screen
from flows.cli.commands.common import Json, Spec, load
from flows.cli.screens import safe, verdict_text
from storage.errors import InputError

FOLDER = Path("reports")

Out = Annotated[Path, typer.Option(metavar="FOLDER", help="where the files go")]


class Format(StrEnum):
    """What `report` writes."""

    html = "html"
    modelcard = "modelcard"


def report(
    spec: Spec,
    release: Annotated[
        str | None, typer.Argument(metavar="[RELEASE]", help="NAME or NAME@VERSION; left out: all of the spec")
    ] = None,
    out: Out = FOLDER,
    format: Annotated[  # noqa: A002
        Format, typer.Option(help="html: a page to read, print or send; modelcard: a Markdown block for the model card")
    ] = Format.html,
    publish: Annotated[
        bool, typer.Option("--publish", help="put the pages into the store too, where sweeps put those of their audits")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write what the audits found as pages to read, print and send: verdict, curves, closest pairs, limits.

    One self-contained HTML file a release: it loads nothing and sends nothing. Without RELEASE also index.html, all
    releases of the store over time. Only what was audited is shown; nothing is computed.

    Example: layerprint report spec.yaml glow@80 --format modelcard
    """
    if publish and format is not Format.html:
        raise InputError(f"--publish with --format {format.value}", "only pages are published: --format html")
    loaded = load(spec, None)

    from flows.report.make import make_reports

    made = make_reports(loaded, release, out, format.value, publish)
    if as_json:
        screen.print_json(made.to_json())
        return
    console = Console(highlight=False)
    for one in made.written:
        console.print(f"{safe(one.release)} {verdict_text(one.verdict)}  {safe(str(one.path))}", soft_wrap=True)
        if one.published:
            console.print(f"  published as {safe(one.published)}", soft_wrap=True)
    for label in made.missing:
        console.print(f"[yellow]not audited[/] {safe(label)}", soft_wrap=True)
    if made.fleet:
        console.print(f"all releases: {safe(str(made.fleet))}  (layerprint open {safe(str(out))})", soft_wrap=True)


def open_reports(
    place: Annotated[
        Path, typer.Argument(metavar="[FOLDER|SPEC]", help="a folder of reports; of a spec they are made first")
    ] = FOLDER,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any that is free")] = 0,
    as_json: Json = False,
) -> None:
    """Show reports in the browser: serves a folder on this machine only, until Ctrl-C.

    Example: layerprint open spec.yaml
    """
    from flows.report.serve import report_server, serve

    folder = place
    if place.is_file():
        from flows.report.make import make_reports

        folder = FOLDER
        make_reports(load(place, None), None, folder, "html")
    elif not place.is_dir():
        raise InputError(
            f"{place} is neither a folder nor a spec", "run layerprint report SPEC first, or give the spec"
        )

    def ready(url: str) -> None:
        if as_json:
            screen.print_json({"url": url, "folder": str(folder)})
        else:
            Console(highlight=False).print(f"{url}  shows {safe(str(folder))}; Ctrl-C ends", soft_wrap=True)

    serve(report_server(folder, port), ready)
