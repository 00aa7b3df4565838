"""`layerprint demo`: generators fitted on real digits, audited from end to end.

The material comes from `flows.demo.data`. The flows that a user's spec goes through
upload, audit and attribute it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape

from flows.attribute import attribute_images
from flows.audit import audit
from flows.demo.data import SCORING, DemoMaterial, build_demo_material, write_png_set
from flows.report.make import save_curves, save_pairs
from flows.results.audit_result import AuditResult
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from storage.layout import OWNER_KEY, PICTURES, RESULTS
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import LocalStore, ObjectStore, open_store

BUCKET = "layerprint-demo"


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo.

    Attributes:
        outcomes: One audit per release.
        attributed: For each audit, the releases that are named as makers of a fresh batch of its generator, with "or"
            between them, or the verdict where none is.
        pictures: Paths of the curves and of the pair sheets.
        next_commands: Commands to try next.
    """

    outcomes: list[AuditResult]
    attributed: list[str]
    pictures: list[str]
    next_commands: list[str]

    def to_json(self) -> dict[str, Any]:
        """The result as plain values."""
        audits = [
            {**outcome.to_json(), "fresh_batch_attributed_to": name}
            for outcome, name in zip(self.outcomes, self.attributed, strict=True)
        ]
        return {"audits": audits, "pictures": self.pictures, "next_commands": self.next_commands}


def run_demo(runtime: Runtime, folder: Path, *, local: bool, seed: int, say: Callable[[str], None]) -> DemoResult:
    """Make the material if it is missing, audit every release, attribute a fresh batch of every generator.

    Args:
        runtime: The runtime of the command.
        folder: Holds images, store, spec and pictures.
        local: Use folders instead of the embedded S3 server.
        seed: Seed of everything random.
        say: Receives one line of progress at a time (Rich markup).
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = _encoder_checkpoint(folder, seed, say)
    with nullcontext() if local else _embedded_s3(folder, say):
        root = f"{folder}/local-{seed}" if local else f"s3://{BUCKET}/seed-{seed}"
        material = build_demo_material(seed)
        _make_images(open_store(root), material, say)
        spec = _demo_spec(root, weights, material)
        spec_path = folder / ("spec-local.yaml" if local else "spec.yaml")
        spec_path.write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        outcomes = audit(runtime, spec).outcomes
        attributed = [
            attribute_images(runtime, spec, f"{root}/fresh/{release.name}/", f"fresh {release.name}").answer.short
            for release in spec.releases
        ]
        store = open_store(spec.store)
        save_curves(store, outcomes)
        for release, outcome in zip(spec.releases, outcomes, strict=True):
            save_pairs(spec, release, outcome)
        results = Path(spec.store) if local else _download(store, folder / f"results-{seed}")
    pictures = sorted(str(path) for path in (results / "pictures").glob("*.png"))
    return DemoResult(outcomes, attributed, pictures, _next_commands(results))


@contextmanager
def _embedded_s3(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Run a real S3 server on loopback, with the environment that makes every AWS client use it."""
    with EmbeddedS3(folder / "s3") as server, _environment(server.environment()):
        server.make_bucket(BUCKET)
        say(f"[green]✓[/] S3 server (SeaweedFS) at {server.endpoint}")
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _encoder_checkpoint(folder: Path, seed: int, say: Callable[[str], None]) -> Path:
    """The encoder of the demo, trained on the encoder part of the digits, which no other part overlaps."""
    path = folder / f"encoder-{seed}.safetensors"
    if path.exists():
        say(f"[dim]· encoder: found {escape(str(path))}[/]")
        return path
    from flows.demo.data import split_digits
    from flows.demo.encoder import train_encoder  # loads torch, which a second run does not need

    split = split_digits(seed)
    trained = train_encoder(split.encoder, split.encoder_labels, seed=seed)
    accuracy = trained.accuracy(split.held_out, split.held_out_labels)
    trained.save(path)
    say(
        f"[green]✓[/] encoder: a small ViT trained on {len(split.encoder)} digits, classifies {accuracy:.0%} of "
        f"{len(split.held_out)} others correctly"
    )
    return path


def _make_images(root: ObjectStore, material: DemoMaterial, say: Callable[[str], None]) -> None:
    """Upload every set that is not complete; equal seeds give equal bytes."""
    _make_set(root, "digits/train", len(material.split.train), lambda: material.split.train, say)
    _make_set(root, "digits/held_out", len(material.split.held_out), lambda: material.split.held_out, say)
    for release in material.releases:
        for number, folder in enumerate(("releases", "fresh")):
            _make_set(root, f"{folder}/{release.name}", release.size, partial(release.batch, number), say)


def _make_set(root: ObjectStore, prefix: str, size: int, make: Callable[[], Any], say: Callable[[str], None]) -> None:
    if sum(1 for _ in root.list(f"{prefix}/")) == size:
        return
    write_png_set(make(), root.put, f"{prefix}/")
    say(f"[green]✓[/] {prefix}: {size} PNG images uploaded")


def _demo_spec(root: str, weights: Path, material: DemoMaterial) -> AuditSpec:
    from flows.demo.encoder import encoder_spec

    return AuditSpec.model_validate(
        {
            "store": f"{root}/audits",
            "encoder": encoder_spec(str(weights)),
            "reference": {
                "name": "digits",
                "train": f"{root}/digits/train/",
                "held_out": f"{root}/digits/held_out/",
            },
            "releases": [
                {
                    "name": release.name,
                    "version": release.version,
                    "family": release.family,
                    "images": f"{root}/releases/{release.name}/",
                }
                for release in material.releases
            ],
            "scoring": SCORING,
            "gate": {"detectable_copy_rate": 0.02},
        }
    )


def _download(store: ObjectStore, folder: Path) -> Path:
    """Copy results and pictures to a folder, so that they can be queried without the S3 server."""
    local = LocalStore(str(folder))
    for prefix in (RESULTS, PICTURES, OWNER_KEY):
        for info in store.list(prefix):
            local.put(info.key, store.get(info.key))
    return folder


def _next_commands(results: Path) -> list[str]:
    try:
        shown = results.relative_to(Path.cwd())
    except ValueError:
        shown = results
    program = "layerprint" if shutil.which("layerprint") else os.path.relpath(sys.argv[0])
    flagged = "SELECT release, verdict, copies_at_least, m, a_hat_first, a_hat_last FROM releases"
    copies = "SELECT release, image_key, train_key, score FROM copies WHERE listed ORDER BY score DESC LIMIT 8"
    return [
        f'{program} sql --store {shown} "{flagged}"',
        f'{program} sql --store {shown} "{copies}"',
        f"{program} status --store {shown}",
    ]
