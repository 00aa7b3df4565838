"""The command line.

Exit codes: 0 passed · 1 something broke · 2 bad input or storage · 3 the gate failed · 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows import console as screen
from flows import screens
from flows.console import ProgressBoard
from storage.errors import InputError, LayerprintError

if TYPE_CHECKING:
    from flows.spec import AuditSpec, ReleaseSpec

EXIT_GATE = 3
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="layerprint",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does a release of an image-generation model copy its training images, at which level, and which known "
    "model made a set of images?\n\n"
    "Start with [bold]layerprint demo[/]; then write a spec ([bold]layerprint init[/]) and run [bold]layerprint audit "
    "SPEC[/].\n\n"
    "Exit codes: 0 passed · 1 something broke · 2 bad input or storage · 3 the gate failed · 130 interrupted.",
)

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="the spec, a YAML file")]
Harmonise = Annotated[
    str | None,
    typer.Option("--harmonise", metavar="jpeg:QUALITY", help="re-encode the images of all sets alike before anything"),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout, nothing else")]


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"layerprint {version('layerprint')}\n")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show logs, and tracebacks of faults")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="show the version and end", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if verbose:
        os.environ["LAYERPRINT_VERBOSE"] = "1"
    _quiet_libraries(verbose)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="the file to write")] = Path("spec.yaml"),
    as_json: Json = False,
) -> None:
    """Write an example spec, with every field explained, to start from."""
    from flows.example_spec import EXAMPLE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "give the path of a new file") from error
    if as_json:
        screen.print_json({"spec": str(path)})
    else:
        Console().print(f"wrote {path}: set reference, releases and store, then run layerprint audit {path}")


@app.command()
def audit(
    spec: Spec,
    release: Annotated[str | None, typer.Option(help="only this release: NAME or NAME@VERSION")] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="exit 3 unless every release is judged and free of copying")
    ] = False,
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Audit the releases of a spec: embed, score every layer, write Parquet results and pictures.

    What is already in the store is not computed again; an interrupted audit goes on where it stopped.
    """
    loaded = _load(spec, harmonise)
    chosen = [loaded.release(release)] if release else loaded.releases

    from flows.audit import audit as audit_flow  # takes seconds: after the spec is known to be good
    from flows.gallery import save_curves, save_pairs
    from flows.outcome import NO_COPYING
    from storage.objects import open_store

    with _working(as_json) as (_, runtime):
        report = audit_flow(loaded, chosen)
        store = open_store(loaded.store)
        pictures = [save_curves(store, report.outcomes)]
        pictures += [save_pairs(store, loaded, outcome) for outcome in report.outcomes]
        forward = runtime.forward_images
    if as_json:
        screen.print_json(
            {
                "audits": [outcome.to_json() for outcome in report.outcomes],
                "failures": [
                    {"release": label, "error": error.found, "remedy": error.remedy}
                    for label, error in report.failures.items()
                ],
                "forward_images": forward,
                "pictures": pictures,
            }
        )
    else:
        screens.show_report(report, forward, pictures)
    if report.failures:
        raise typer.Exit(max(error.exit_code for error in report.failures.values()))
    if gate and any(outcome.verdict != NO_COPYING for outcome in report.outcomes):
        raise typer.Exit(EXIT_GATE)


@app.command()
def reference(spec: Spec, harmonise: Harmonise = None, as_json: Json = False) -> None:
    """Build the reference of a spec: embed train and held-out images, fit partitions, build the indexes.

    An audit does this by itself; run it before, to have the long part done.
    """
    loaded = _load(spec, harmonise)

    from flows.audit import build_reference

    with _working(as_json) as (_, runtime):
        built = build_reference(loaded)
        forward = runtime.forward_images
    facts = {
        "reference": loaded.reference.name,
        "reference_digest": built.digest,
        "encoder_digest": built.facts.digest,
        "layers": built.facts.names,
        "train_images": built.tables.train.rows,
        "held_out_images": built.tables.held_out_images,
        "contaminated": built.tables.contaminated_images,
        "rejects": [*built.tables.train.rejects, *built.tables.held_out.rejects],
        "checks": [asdict(check) for check in built.checks],
        "forward_images": forward,
    }
    if as_json:
        screen.print_json(facts)
        return
    screens.show_reference(facts)


@app.command()
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
    loaded = _load(spec, harmonise)
    chosen = _to_enrol(loaded, release, images, run)

    from flows.enrol import enrol_releases

    with _working(as_json):
        found = enrol_releases(loaded, chosen)
    if as_json:
        screen.print_json({"enrolled": [asdict(one) for one in found]})
        return
    screens.show_enrolled(found)


def _to_enrol(loaded: AuditSpec, release: str | None, images: str | None, run: str) -> list[ReleaseSpec]:
    from flows.spec import absolute_uri

    if release is None:
        return loaded.releases
    if images is None:
        return [loaded.release(release)]
    name, _, version = release.partition("@")
    return [loaded.new_release(name, version or "1", run, absolute_uri(images, Path.cwd()))]


@app.command()
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
    from flows.spec import absolute_uri

    loaded = _load(spec, harmonise)
    if not 0 < reject < 1:
        raise InputError(f"--reject {reject:g} is no level", "give a number between 0 and 1, such as 0.05")

    from flows.attribute import attribute_images
    from flows.stress import stress_attribution

    uri = absolute_uri(images, Path.cwd())
    with _working(as_json):
        if stress:
            stressed = stress_attribution(loaded, uri, reject=reject, unknown=unknown)
            found, document = stressed.plain, stressed.to_json()
        else:
            found = attribute_images(loaded, uri, reject=reject, unknown=unknown)
            document = found.to_json()
    if as_json:
        screen.print_json(document)
        return
    screens.show_attribution(found)
    if stress:
        screens.show_stress(stressed)


@app.command()
def selfcheck(spec: Spec, harmonise: Harmonise = None, as_json: Json = False) -> None:
    """What can this reference and encoder detect? Placebos and planted copies, made of your own images.

    Half of the held-out images plays the release: as it is, re-encoded, and with 1 % and 5 % training images planted.
    Exit code 3 when a placebo is called copying or planted copies that should be seen are not.
    """
    loaded = _load(spec, harmonise)

    from flows.selfcheck import selfcheck as selfcheck_flow

    with _working(as_json):
        found = selfcheck_flow(loaded)
    if as_json:
        screen.print_json({**asdict(found), "passed": found.passed})
    else:
        screens.show_selfcheck(found)
    if not found.passed:
        raise typer.Exit(EXIT_GATE)


@app.command()
def compare(
    spec: Spec,
    first: Annotated[str, typer.Argument(metavar="A", help="a release: NAME or NAME@VERSION")],
    second: Annotated[str, typer.Argument(metavar="B", help="another one")],
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Does one release lie closer to the training images than another? Paired on the same held-out images."""
    loaded = _load(spec, harmonise)
    releases = loaded.release(first), loaded.release(second)

    from flows.compare import compare as compare_flow

    with _working(as_json):
        found = compare_flow(loaded, *releases)
    if as_json:
        screen.print_json(found.to_json())
    else:
        screens.show_comparison(found)


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(metavar="SELECT", help="one reading statement")],
    store: Annotated[str | None, typer.Option(help="the store to ask")] = None,
    spec: Annotated[Path | None, typer.Option(help="… or the spec whose store to ask")] = None,
    as_json: Json = False,
) -> None:
    """Ask the results in SQL (DuckDB): audits, scores, checks, profiles, evidence, rejects, releases.

    Example: layerprint sql --store ./audits "SELECT release, layer, a_hat FROM scores ORDER BY a_hat LIMIT 5"
    """
    from storage.sql import run_sql

    found = run_sql(_store_of(store, spec), statement)
    if as_json:
        screen.print_json(found.to_pylist())
        return
    screens.show_rows(found)


@app.command()
def status(
    store: Annotated[str | None, typer.Option(help="the store to look at")] = None,
    spec: Annotated[Path | None, typer.Option(help="… or the spec: says too what is not audited yet")] = None,
    as_json: Json = False,
) -> None:
    """What a store holds: audited releases, their verdicts, and what was begun but not finished."""
    from flows.spec import load_spec
    from flows.status import store_status

    loaded = load_spec(spec) if spec else None
    found = store_status(_store_of(store, spec), loaded)
    if as_json:
        screen.print_json(found._asdict())
        return
    screens.show_status(found)


@app.command()
def doctor(
    store: Annotated[str | None, typer.Option(help="a store to test: written to, read, cleaned up")] = None,
    images: Annotated[list[str] | None, typer.Option(help="an image set to list; may be repeated")] = None,
    spec: Annotated[Path | None, typer.Option(help="take store and image sets from this spec")] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, device, Ray, disk, memory, object storage; says what is wrong and what to do."""
    from flows.doctor import exit_code, run_checks
    from flows.spec import load_spec

    sets = list(images or [])
    if spec:
        loaded = load_spec(spec)
        store = store or loaded.store
        sets += [
            loaded.reference.train,
            loaded.reference.held_out,
            *(release.images for release in loaded.releases),
        ]
    findings = []
    for finding in run_checks(store, sets):
        findings.append(finding)
        if not as_json:
            screens.show_finding(finding)
    if as_json:
        screen.print_json([finding._asdict() for finding in findings])
    if code := exit_code(findings):
        raise typer.Exit(code)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where the demo keeps its images and its store")] = Path(
        "layerprint-demo"
    ),
    local: Annotated[bool, typer.Option("--local", help="folders instead of the embedded S3 server")] = False,
    seed: Annotated[int, typer.Option(help="another seed gives another demo")] = 0,
    as_json: Json = False,
) -> None:
    """See it work: real handwritten digits, generators fitted on them, audited through the whole real path.

    Takes about two minutes. A second run finds everything in its store and runs no forward pass.
    """
    from flows.demo.run import run_demo

    with _working(as_json) as (board, runtime):
        result = run_demo(folder.resolve(), local=local, seed=seed, say=board.say)
        forward = runtime.forward_images
    if as_json:
        screen.print_json({**result.to_json(), "forward_images": forward})
        return
    screens.show_demo(result, forward)


# -- around every command ------------------------------------------------------------------------------------


@contextmanager
def _working(as_json: bool) -> Iterator[tuple[ProgressBoard, Any]]:
    """Progress on the screen, and a runtime that ends with the command."""
    from flows.runtime import running

    with ProgressBoard(quiet=as_json) as board, running(board.report) as runtime:
        yield board, runtime


def _load(path: Path, harmonise: str | None) -> AuditSpec:
    """The spec, with what the command line changes in it."""
    from flows.spec import load_spec

    return load_spec(path, harmonise)


def _store_of(store: str | None, spec: Path | None) -> str:
    if store:
        from flows.spec import absolute_uri

        return str(absolute_uri(store, Path.cwd()))
    if spec:
        from flows.spec import load_spec

        return load_spec(spec).store
    raise InputError("which store?", "give --store FOLDER_OR_S3_URI, or --spec SPEC")


def _quiet_libraries(verbose: bool) -> None:
    """Users see our lines; the libraries' logs come with --verbose. Nothing is sent to anyone."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for library in ("lance is not fork-safe", "lancedb fork support"):
        warnings.filterwarnings("ignore", message=library)  # a fork that becomes Ray at once is harmless
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
        os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
        logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
        os.environ.setdefault("RUST_LOG", "error")


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    as_json = "--json" in arguments
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
        if code == EXIT_INTERRUPTED:  # typer has turned the interrupt into this code
            raise KeyboardInterrupt
        return code
    except LayerprintError as error:
        screen.print_error(error, as_json)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("interrupted; what is finished is kept, run the same command to go on")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:  # the last line of defence: no traceback for users
        if getattr(error, "exit_code", None) == 2 and hasattr(error, "format_message"):
            return _usage(error)
        if os.environ.get("LAYERPRINT_VERBOSE"):
            traceback.print_exc()
        screen.print_error(
            LayerprintError(
                f"{type(error).__name__}: {error}", "run with `layerprint --verbose …` and report the lines"
            ),
            as_json,
        )
        return 1


def _usage(error: Any) -> int:
    """A wrong option or argument: click knows how to say it."""
    error.show()
    return 2


def main() -> None:
    """Entry point of the command ``layerprint``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
