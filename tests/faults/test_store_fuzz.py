"""Every kind of file of a small finished store, broken in every way; then the commands that read it.

A broken file is named, and healed or left out; after the audit all rows are those of an undisturbed store, but for
times. All kinds of files are broken in each way, those of a group at once; which file of a kind, a seed decides.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, Task

from actors.ray_cluster.hosts import PoolSize
from flows.audit import audit
from flows.cli.main import run
from flows.cli.progress import ProgressBoard
from flows.demo.data import split_digits, write_png_set
from flows.registry.failures import save_failure, work_name
from flows.report.make import make_reports, save_pictures
from flows.runtime.runtime import running
from flows.spec.spec import load_spec
from storage.claims import Claims
from storage.errors import StoreError
from storage.objects.open import LocalStore
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN, laboratory_spec, write_yaml
from tests.result_rows import result_rows
from tests.storage.damage import DAMAGES, damaged

pytestmark = pytest.mark.usefixtures("processes")  # `sql` runs statements in one


class InlinePool:
    """Runs tasks in this process, one after the other."""

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        yield from enumerate(map(function, tasks))

    def attempt(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], suspect: bool = False
    ) -> Iterator[tuple[int, Any]]:
        yield from self.run(function, tasks)


class InlineCluster:
    """A cluster without processes."""

    def __init__(self, _settings: object) -> None:
        self._pool = InlinePool()

    def pool(self, _name: str) -> InlinePool:
        return self._pool

    def size(self, _name: str) -> PoolSize:
        return PoolSize(1)

    def close(self) -> None:
        """Nothing was started."""


@pytest.fixture(scope="module")
def _in_process() -> Iterator[None]:
    """Flows and tasks are called as the functions that they are, and workers run here: no Prefect, no Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.runtime.runtime.Cluster", InlineCluster)
        for kind in (Flow, Task):
            patch.setattr(kind, "__call__", lambda self, *args, **kwargs: self.fn(*args, **kwargs))
        yield


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digits in a local folder, as in the laboratory of tests/flows."""
    folder, digits = tmp_path_factory.mktemp("lab"), split_digits(0)
    sets = {"train": digits.train[:TRAIN], "held_out": digits.held_out[:HELD_OUT], "unseen": digits.unseen[:UNSEEN]}
    for name, images in {**sets, "copies": digits.train[:COPIES]}.items():
        write_png_set(images, LocalStore(folder).put, f"{name}/")
    return str(folder)


@pytest.fixture(scope="module")
def finished(_in_process: None, lab: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with two audits, and all that a sweep would leave there; tests copy it."""
    folder = tmp_path_factory.mktemp("fuzz")
    path = write_yaml(folder / "spec.yaml", laboratory_spec(lab, str(folder / "audits")))
    spec = load_spec(path)
    _audit(path)
    make_reports(spec, None, folder / "reports", "html", publish=True)
    return folder


SECOND = "18446744073709551613.manifest"
"""The version of a table after its creation, which all readers open."""

RESULT_TABLES = ("audits", "scores", "profiles", "evidence", "copies", "checks", "rejects")

KINDS = {
    "results": [
        *(rf"results/{table}/.*" for table in RESULT_TABLES),
        *("pictures/curves.*", "pictures/pairs.*", "failures/.*", "claims/.*"),
    ],
    "facts": ["layerprint.json", "encoders/.*", "searches/.*", "contaminated/.*", "checks/.*"],
    "layers": ["partitions/.*", "nearest/.*", "influence/.*", "profiles/.*"],
    "copies": ["token_spaces/.*", "copies/.*"],
    "embeddings": ["tables/.*", "receipts/.*", "manifests/.*", "sets/.*"],
    "vectors": [
        *("vectors/images-.*/data/.*", rf"vectors/images-.*/_versions/{SECOND}"),
        *("vectors/train-.*/data/.*", rf"vectors/train-.*/_versions/{SECOND}"),
        *("vectors/train-.*/_indices/.*", "vectors/.*/_transactions/.*", "vectors/.*_refs/.*"),
        *("vectors/.*/latest_version_hint.json", rf"vectors/.*/_versions/(?!{SECOND}).*"),
    ],
}
"""Every kind of file, in groups that are broken together: patterns of keys."""

NOT_READ = ["reports/.*", "announced/.*", "copy_references/.*"]
"""Files whose content is read by nobody: of notes of token tables the name says all; announcements are there only where
a Prefect server is configured."""

UNNOTICED = {"vectors/images-.*/data/.*", "vectors/train-.*/data/.*"}
"""A flipped byte of a vector: docs/faults.md, "Not detected"."""

HARMLESS = {"_transactions", "latest_version_hint", "_refs", "_indices", "(?!"}
"""Parts of tables that reading a version does not need; an index only where the search is global."""


def _audit(path: Path) -> None:
    """What `layerprint audit` does."""
    spec = load_spec(path)
    with ProgressBoard() as board, running(board.report) as runtime:
        report = audit(runtime, spec)
        save_pictures(spec, spec.releases, report.outcomes)
    assert not report.failures


def test_every_kind_of_file_is_broken(finished: Path, lab: str, tmp_path: Path) -> None:
    patterns = [pattern for kinds in KINDS.values() for pattern in kinds] + NOT_READ
    keys = [info.key for info in _copy(finished, tmp_path, lab)[0].list()]
    assert [key for key in keys if not any(re.fullmatch(pattern, key) for pattern in patterns)] == []
    for pattern in patterns:
        assert pattern in NOT_READ or any(re.fullmatch(pattern, key) for key in keys), pattern


def _copy(finished: Path, folder: Path, lab: str) -> tuple[LocalStore, Path]:
    shutil.copytree(finished / "audits", folder / "audits")
    store = LocalStore(folder / "audits")
    path = write_yaml(folder / "spec.yaml", laboratory_spec(lab, store.uri))
    spec = load_spec(path)
    work = work_name(spec, spec.releases[0])
    with Claims(store).hold(work):
        save_failure(store, work, "copies@1", StoreError("x", "y"), "", 0.0)
    return store, path


def _prepare(store: LocalStore, group: str, broken: dict[str, str]) -> None:
    """Delete what is made from the broken files, so that they are read."""
    if group != "results":
        for info in list(store.list("results/audits/")):
            store.delete(info.key)
    made = {"embeddings": ["tables/", "receipts/"], "vectors": ["nearest/", "influence/", "profiles/", "copies/"]}
    for key in [info.key for prefix in made.get(group, []) for info in store.list(prefix)]:
        if key not in broken.values():
            store.delete(key)


def _shown(pattern: str, key: str, damage: str) -> str:
    """What the warning names: the file, or the table that it belongs to."""
    if any(part in pattern for part in HARMLESS) or (damage == "flipped" and key.startswith("vectors/")):
        return ""
    return key.partition(".lance/")[0]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("group", KINDS)
def test_a_broken_store(
    finished: Path, lab: str, tmp_path: Path, group: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store, spec = _copy(finished, tmp_path, lab)
    chance = random.Random(f"{group} {damage}")
    keys = sorted(info.key for info in store.list())
    broken = {
        pattern: chance.choice([key for key in keys if re.fullmatch(pattern, key)])
        for pattern in KINDS[group]
        if damage != "flipped" or pattern not in UNNOTICED
    }
    for key in broken.values():
        data = store.get(key)
        mark = data.rfind(b"layerprint-seal:") + 1  # a bit of this text is no bit of the content
        places = [place for place in range(len(data)) if not mark or not mark <= place + 1 < mark + 23]
        store.put(key, damaged(data, damage, at=chance.choice(places)))
    _prepare(store, group, broken)
    readers = [
        ["status", "--store", store.uri],
        ["sql", "--store", store.uri, "FROM audits"],
        ["releases", "--spec", str(spec)],
        *([["report", str(spec), "--out", str(tmp_path / "reports")]] if group == "results" else []),
    ]
    assert [run(command) for command in readers] == [0] * len(readers)
    _audit(spec)
    said = capfd.readouterr().err
    assert [name for pattern, key in broken.items() if (name := _shown(pattern, key, damage)) not in said] == []
    assert result_rows(store.uri) == result_rows(str(finished / "audits"))
    assert run(["report", str(spec), "--out", str(tmp_path / "reports")]) == 0
    assert "broken" not in capfd.readouterr().err
