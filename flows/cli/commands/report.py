"""Commands for reports: `report` writes pages, `open` shows them in the browser."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.commands.common import Json, Spec, load
from flows.cli.console import output, print_json, print_marked, safe
from flows.cli.screens.parts import verdict_text
from storage.errors import InputError

FOLDER = Path("reports")

Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the files.")]


class PageFormat(StrEnum):
    """What `report` writes."""

    html = "html"
    modelcard = "modelcard"


def report(
    spec: Spec,
    release: Annotated[
        str | None, typer.Argument(metavar="NAME[@VERSION]", help="The release. Default: all of the spec.")
    ] = None,
    out: Out = FOLDER,
    format: Annotated[  # noqa: A002
        PageFormat, typer.Option(help="html: a page per release. modelcard: a Markdown block for the model card.")
    ] = PageFormat.html,
    publish: Annotated[
        bool, typer.Option("--publish", metavar="", help="Also write the pages to the store, as a sweep does.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write reports of the audits: verdict, curves, closest pairs, limits.

    Each release gets one self-contained HTML file, which loads nothing and sends nothing. Without a release, index.html
    shows all releases of the store over time. Reports show finished audits only; nothing is computed.

    Example: `layerprint report spec.yaml glow@80 --format modelcard`
    """
    if publish and format is not PageFormat.html:
        raise InputError(f"--publish cannot publish --format {format.value}", "use --format html")
    loaded = load(spec, None)

    from flows.report.make import make_reports

    made = make_reports(loaded, release, out, format.value, publish)
    if as_json:
        print_json(made.to_json())
        return
    console = output()
    for written in made.written:
        place = safe(str(written.path))
        console.print(f"{safe(written.release)} {verdict_text(written.verdict)}  {place}", soft_wrap=True)
        if written.published:
            console.print(f"  published as {safe(written.published)}", soft_wrap=True)
    for label in made.missing:
        print_marked(console, "not audited", "yellow", label)
    if made.fleet:
        console.print(f"all releases: {safe(str(made.fleet))}  (layerprint open {safe(str(out))})", soft_wrap=True)


def open_reports(
    place: Annotated[
        Path, typer.Argument(metavar="FOLDER|SPEC", help="A folder of reports, or a spec whose reports to write first.")
    ] = FOLDER,
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="The port; 0 for a free one.")] = 0,
    as_json: Json = False,
) -> None:
    """Show reports in the browser: serve them on this machine only, until Ctrl-C.

    Example: `layerprint open spec.yaml`
    """
    from flows.report.serve import report_server, serve

    folder = place
    if place.is_file():
        from flows.report.make import make_reports

        folder = FOLDER
        make_reports(load(place, None), None, folder, "html")
    elif not place.is_dir():
        raise InputError(
            f"{place} is neither a folder nor a spec", "run layerprint report SPEC first, or name the spec"
        )

    def ready(url: str) -> None:
        if as_json:
            print_json({"url": url, "folder": str(folder)})
        else:
            output().print(f"{url}  serves {safe(str(folder))} until Ctrl-C", soft_wrap=True)

    serve(report_server(folder, port), ready)
