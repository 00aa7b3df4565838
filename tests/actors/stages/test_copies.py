"""From image sets to the copy scores of a release, in this process."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from actors.encoder.config import DEFAULT_VIEWS, CopySettings
from actors.encoder.model import Encoder
from actors.stages.context import StageContext
from actors.stages.copies import CopiesFound, CopyEncoder, copy_reference, find_release_copies
from actors.stages.copy_regions import copy_regions
from actors.workers.embed import EmbedSettings
from actors.workers.tokens import FittedSpace, TokenPlan, tokens_of, view_column
from scoring.copies.evidence import copy_evidence
from scoring.copies.train_tokens import TrainTokens
from storage import layout
from storage.errors import InputError, StageError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable
from tests.actors.conftest import TINY, png

SIZE = 64
CONFIG = replace(TINY, image_size=SIZE)
SETTINGS = EmbedSettings(threads=1, readers=2, batch_size=16)
COPIES = CopySettings(None, DEFAULT_VIEWS)
TRAIN, HELD_OUT, UNSEEN, COPIED = 90, 60, 40, 12

Pixels = NDArray[np.uint8]


class Here:
    """A cluster of one pool, which runs tasks in this process and counts them."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def pool(self, _name: str) -> Here:
        return self

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for index, task in enumerate(tasks):
            self.tasks.append(task)
            yield index, function(task)

    def attempt(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], suspect: bool = False
    ) -> Generator[tuple[int, Any]]:
        yield from self.run(function, tasks)

    def close(self) -> None:
        """Nothing is held."""


def scenes(n: int, seed: int) -> Pixels:
    """Random pictures with large and small shapes, (n, s, s, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for c in coarse])


def jpeg(picture: Pixels, quality: int = 80) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=quality)
    return sink.getvalue()


@dataclass
class Lab:
    """A reference on disk, its store, and what compares releases with it."""

    store: ObjectStore
    folder: Path
    encoder: CopyEncoder
    cluster: Here

    @property
    def context(self) -> StageContext:
        return StageContext(self.store, self.cluster, lambda _: None)

    def images(self, name: str, files: dict[str, bytes]) -> Manifest:
        folder = open_store(str(self.folder / name))
        for key, content in files.items():
            folder.put(key, content)
        return list_images(str(self.folder / name))

    def judge(self, train: Manifest, held_out: Manifest, release: Manifest, copies: CopySettings) -> CopiesFound:
        reference = copy_reference(self.context, self.encoder, train, held_out, copies, 0)
        return find_release_copies(self.context, self.encoder, reference, release, "release")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CONFIG)


@pytest.fixture
def lab(tmp_path: Path, encoder: Encoder) -> Lab:
    return Lab(open_store(str(tmp_path / "store")), tmp_path, CopyEncoder(CONFIG, encoder.facts, SETTINGS), Here())


@pytest.fixture
def train(lab: Lab) -> Manifest:
    """Training images; the first two have the same content, and one file is no image."""
    files = {f"{i:03d}.png": png(picture) for i, picture in enumerate(scenes(TRAIN, 0))}
    return lab.images("train", files | {"001.png": files["000.png"], "050b.png": b"no image"})


@pytest.fixture
def held_out(lab: Lab) -> Manifest:
    """Held-out images; one is a training image, and one comes twice."""
    files = {f"{i:03d}.png": png(picture) for i, picture in enumerate(scenes(HELD_OUT, 1))}
    return lab.images("held_out", files | {"leak.png": png(scenes(TRAIN, 0)[5]), "twice.png": files["007.png"]})


def release_files() -> dict[str, bytes]:
    """Copies of the training images 10 to 21, mirrored or moved, an identical one, and unseen images, one twice."""
    sources = scenes(TRAIN, 0)
    copies = {}
    for i in range(10, 10 + COPIED):
        changed = sources[i][:, ::-1] if i % 2 else np.roll(sources[i], 4, axis=1)
        copies[f"copy-{i:03d}.jpg"] = jpeg(changed)
    unseen = {f"new-{i:03d}.png": png(picture) for i, picture in enumerate(scenes(UNSEEN, 2))}
    return copies | unseen | {"same.png": png(sources[0]), "new-again.png": unseen["new-003.png"]}


def test_copies_are_above_all_held_out_images_with_their_sources(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    release = lab.images("release", release_files())
    found = lab.judge(train, held_out, release, COPIES)
    keys = [image.key for image in release.images()]
    named = [keys[row] for row in found.generated.rows]
    assert found.generated.images == len(keys)
    assert len(found.generated) == len(keys) - 1  # one comes twice
    assert len(found.held_out) == HELD_OUT  # without the leak and the second of the two
    top = found.held_out.scores.max()
    above = {key for key, score in zip(named, found.generated.scores, strict=True) if score > top}
    copies = {key for key in keys if key.startswith("copy")}
    assert len(above & copies) >= COPIED - 1
    assert "same.png" in above
    strongest = {named[place] for place in np.argsort(-found.generated.scores)[: COPIED + 1]}
    assert len(strongest & (copies | {"same.png"})) >= COPIED
    sources = {key: train.image(int(row)).key for key, row in zip(named, found.generated.sources, strict=True)}
    assert sum(sources[f"copy-{i:03d}.jpg"] == f"{i:03d}.png" for i in range(10, 10 + COPIED)) >= COPIED - 1
    assert sources["same.png"] == "000.png"
    identical = [key for key, same in zip(named, found.generated.identical, strict=True) if same]
    assert identical == ["same.png"]
    views = {key: found.views[view] for key, view in zip(named, found.generated.views, strict=True)}
    mirrored = [views[f"copy-{i:03d}.jpg"] == "mirrored" for i in range(11, 10 + COPIED, 2)]
    assert sum(mirrored) >= len(mirrored) - 1


def test_nothing_is_done_twice(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    release = lab.images("release", release_files())
    first = lab.judge(train, held_out, release, COPIES)
    assert lab.cluster.tasks
    lab.cluster.tasks.clear()
    again = lab.judge(train, held_out, release, COPIES)
    assert lab.cluster.tasks == []
    assert np.array_equal(first.generated.scores, again.generated.scores)
    noted = {layout.name_of(info.key) for info in lab.store.list(layout.COPY_REFERENCES)}
    tables = {layout.name_of(info.key) for info in lab.store.list(layout.MARKERS)}
    assert len(noted) == 3  # train, held-out, train sample
    assert tables - noted == {first.table}


def test_tokens_of_another_space_are_never_compared(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    """A broken space is fitted again, maybe on another machine, where directions may have the other sign."""
    release = lab.images("release", release_files())
    first = lab.judge(train, held_out, release, COPIES)
    (key,) = [info.key for info in lab.store.list("token_spaces/")]
    fitted = FittedSpace.read(lab.store, key)
    signs = np.where(np.arange(fitted.dims) % 2, -1, 1).astype(np.float32)
    lab.store.put(key, fitted._replace(space=replace(fitted.space, axes=fitted.space.axes * signs)).to_bytes())
    again = lab.judge(train, held_out, release, COPIES)
    assert again.table != first.table
    assert np.allclose(again.generated.scores, first.generated.scores, atol=1e-3)


def test_the_evidence_is_that_of_all_training_images_in_memory(
    lab: Lab, train: Manifest, held_out: Manifest, encoder: Encoder
) -> None:
    release = lab.images("release", release_files())
    found = lab.judge(train, held_out, release, COPIES)
    (key,) = [info.key for info in lab.store.list("token_spaces/")]
    fitted = FittedSpace.read(lab.store, key)
    plan = TokenPlan(key, fitted.digest, encoder.facts.digest, fitted.layer, fitted.side, fitted.dims, DEFAULT_VIEWS)
    assert (fitted.layer, fitted.side) == (2, SIZE // 16)

    def tokens(pictures: Pixels, view: int) -> NDArray[np.float16]:
        columns = tokens_of(encoder, lab.store.uri, plan, pictures)
        return columns[view_column(view)].reshape(len(pictures), -1, fitted.dims)

    distinct = np.delete(np.arange(TRAIN), 1)
    reference = TrainTokens(tokens(scenes(TRAIN, 0)[distinct], 0))
    evidence = copy_evidence([tokens(scenes(UNSEEN, 2), view) for view in range(3)], reference)
    keys = [image.key for image in release.images()]
    places = {keys[row]: place for place, row in enumerate(found.generated.rows)}
    of_unseen = [
        places[f"new-{i:03d}.png"] if f"new-{i:03d}.png" in places else places["new-again.png"] for i in range(UNSEEN)
    ]
    assert np.allclose(found.generated.late[of_unseen], evidence.late, atol=1e-6)
    assert np.allclose(found.generated.votes[of_unseen], evidence.votes, atol=1e-6)


def test_the_region_of_a_pasted_half_is_found_in_both_images(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    sources, canvases, part = scenes(TRAIN, 0), scenes(COPIED, 3), SIZE // 2
    halves = canvases.copy()
    halves[:, :, :part] = sources[20 : 20 + COPIED, :, :part]
    mirrored = canvases.copy()
    mirrored[:, :, part:] = sources[20 : 20 + COPIED, :, part - 1 :: -1]
    files = {f"{name}-{i:02d}.png": png(each) for name, some in (("half", halves), ("mirrored", mirrored))
             for i, each in enumerate(some)}  # fmt: skip
    files["cut.png"] = b"no image"
    release = lab.images("release", files)
    reference = copy_reference(lab.context, lab.encoder, train, held_out, COPIES, 0)
    copies = find_release_copies(lab.context, lab.encoder, reference, release, "release")
    names = [image.key for image in release.images()]
    right = [
        (place, names[row].startswith("mirrored"))
        for place, (row, source) in enumerate(zip(copies.generated.rows, copies.generated.sources, strict=True))
        if train.image(int(source)).key == f"{20 + int(names[row][-6:-4]):03d}.png"
    ]
    assert len(right) >= COPIED
    assert {is_mirrored for _, is_mirrored in right} == {False, True}
    found = copy_regions(lab.context, reference, copies, np.array([place for place, _ in right]), "release")
    overlaps: dict[str, list[float]] = {"image": [], "mirrored image": [], "source": []}
    for (_, is_mirrored), region in zip(right, found, strict=True):
        count = len(region.image)
        assert count == len(region.source) == 2 * SIZE // 16
        left = np.repeat(np.arange(count)[None] < count // 2, count, axis=0)
        of_image = overlap(region.image, ~left if is_mirrored else left)
        overlaps["mirrored image" if is_mirrored else "image"].append(of_image)
        overlaps["source"].append(overlap(region.source, left))
    assert min(np.median(each) for each in overlaps.values()) >= 0.5


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / (a | b).sum())


def test_no_copies_have_no_regions(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    reference = copy_reference(lab.context, lab.encoder, train, held_out, COPIES, 0)
    copies = find_release_copies(lab.context, lab.encoder, reference, lab.images("new", release_files()), "new")
    nothing = np.empty(0, np.int64)
    assert copy_regions(lab.context, reference, copies, nothing, "new") == []
    with pytest.raises(StageError, match="token table gone is not in the store"):
        copy_regions(lab.context, reference, replace(copies, table="gone"), nothing, "new")


def test_a_layer_that_the_encoder_lacks_is_named(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    with pytest.raises(InputError, match=r"copies\.layer: 40, but test_vit has layers 1 to 6"):
        copy_reference(lab.context, lab.encoder, train, held_out, replace(COPIES, layer=40), 0)


def test_held_out_images_that_are_all_training_images_are_refused(lab: Lab, train: Manifest) -> None:
    leaked = lab.images("leaked", {f"{i}.png": png(picture) for i, picture in enumerate(scenes(TRAIN, 0)[5:35])})
    with pytest.raises(InputError, match="every image is also a training image"):
        lab.judge(train, leaked, leaked, COPIES)


def test_other_views_are_other_tables(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    tables: list[EmbeddingTable] = []
    for views in (DEFAULT_VIEWS, DEFAULT_VIEWS[:1]):
        reference = copy_reference(lab.context, lab.encoder, train, held_out, CopySettings(None, views), 0)
        tables.append(reference.train)
        assert reference.plan.views == views
    assert tables[0].name == tables[1].name  # of training images there is one view


def test_images_of_one_picture_and_of_one_name_are_one_unit(lab: Lab, train: Manifest, held_out: Manifest) -> None:
    """Twelve pictures saved three times, three of them copies; names join two of the others."""
    pictures = [*scenes(9, 5), *scenes(TRAIN, 0)[30:33]]
    resaved = {f"a{quality}-{i:02d}.jpg": jpeg(p, quality) for i, p in enumerate(pictures) for quality in (75, 85, 95)}
    names = {
        "id_7_x.png": png(scenes(1, 8)[0]),
        "id_7_y.png": png(scenes(1, 9)[0]),
        "id_8_x.png": png(scenes(1, 10)[0]),
    }
    release = lab.images("repeats", resaved | names)
    reference = copy_reference(lab.context, lab.encoder, train, held_out, COPIES, 0)
    found = find_release_copies(lab.context, lab.encoder, reference, release, "repeats", r"id_(\d)")
    keys = [release.image(int(row)).key for row in found.generated.rows]
    pictured: dict[int, set[str]] = {}
    units: dict[int, set[str]] = {}
    for key, picture, unit in zip(keys, found.generated.pictures, found.units.generated, strict=True):
        pictured.setdefault(int(picture), set()).add(key)
        units.setdefault(int(unit), set()).add(key)
    assert len(pictured) == len(pictures) + 3
    assert all(len({key[3:] for key in same}) == 1 for same in pictured.values())
    assert len(units) == len(pictured) - 1
    assert {"id_7_x.png", "id_7_y.png"} in units.values()
    assert found.units.files.tolist() == [3 if key.startswith("a") else 1 for key in keys]
    assert len(found.units.drawn()[1]) == len(units)
    with pytest.raises(InputError, match="groups of repeats: no key matches"):
        find_release_copies(lab.context, lab.encoder, reference, release, "repeats", "never_(.)")
    by_name = copy_reference(lab.context, lab.encoder, train, held_out, COPIES, 0, r"(\d)\d+\.png")
    assert by_name.named is not None
    judged = find_release_copies(lab.context, lab.encoder, by_name, release, "repeats")
    assert len(np.unique(judged.units.held_out)) < len(np.unique(found.units.held_out)) == HELD_OUT


def test_how_often_a_source_occurs_in_train_is_told(lab: Lab, held_out: Manifest) -> None:
    """The first training image comes five times as a file, the second three times saved anew."""
    pictures = scenes(TRAIN, 0)
    files = {f"{i:03d}.png": png(picture) for i, picture in enumerate(pictures)}
    files |= {f"same-{k}.png": files["000.png"] for k in range(4)}
    files |= {f"alike-{quality}.jpg": jpeg(pictures[1], quality) for quality in (85, 95)}
    release = lab.images("copied", {f"{i}.jpg": jpeg(np.roll(pictures[i], 2, axis=1)) for i in range(3)})
    found = lab.judge(lab.images("repeating", files), held_out, release, COPIES).generated
    assert found.train_files.tolist() == [5, 1, 1]
    assert found.train_alike.tolist() == [1, 3, 1]
