from __future__ import annotations

import hashlib
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.errors import InputError
from storage.image_sets.open import list_images, open_reader
from storage.image_sets.tar import TarReader
from storage.objects.local import LocalStore
from storage.objects.open import ObjectChangedError, ObjectStore, S3Store, open_store
from storage.objects.range_file import LARGEST_WINDOW, LEAST_WINDOW
from tests.storage.packing import Member, info, tar

LONG = "a/" * 80 + "long name ü.png"  # longer than the 100 bytes of a plain header


def samples(n: int, size: int = 50, seed: int = 0) -> list[Member]:
    """Images with their labels, named as WebDataset names samples: 000000.jpg, 000000.json …"""
    rng = random.Random(seed)
    return [
        (f"{i:06d}.{kind}", rng.randbytes(size) if kind == "jpg" else b"{}")
        for i in range(n)
        for kind in ("jpg", "json")
    ]


def images_of(*members: Member) -> dict[str, bytes]:
    return {str(name): data for name, data in members if str(name).endswith(("jpg", "png"))}


class TestSets:
    def test_a_folder_of_shards(self, store: ObjectStore) -> None:
        shards = {f"train/shard-{i:04d}.tar": samples(7, seed=i) for i in range(3)}
        for key, members in shards.items():
            store.put(key, tar(*members))
        for key in ("train/readme.txt", "train/._shard-0000.tar", "release.yaml"):
            store.put(key, b"not a shard")
        expected = {f"{key}/{n}": data for key, members in shards.items() for n, data in images_of(*members).items()}
        manifest = list_images(store.uri)
        assert manifest.kind == "tar"
        assert manifest.table["key"].to_pylist() == sorted(expected)
        reader = open_reader(manifest.uri, manifest.kind)
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(reader.read, manifest.images()))
        assert read == [expected[key] for key in sorted(expected)]

    def test_one_shard(self, store: ObjectStore) -> None:
        store.put("sets/x.tar", tar(*samples(3)))
        store.put("sets/y.tar", tar(*samples(3, seed=1)))
        manifest = list_images(store.child_uri("sets/x.tar"))
        assert manifest.table["key"].to_pylist() == [f"x.tar/{i:06d}.jpg" for i in range(3)]
        reader = open_reader(manifest.uri, manifest.kind)
        assert [reader.read(image) for image in manifest.images()] == list(images_of(*samples(3)).values())

    @pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_every_format_and_long_names(self, tmp_path: Path, form: int) -> None:
        members: list[Member] = [("./a b.png", b"1"), (LONG, b"22"), ("c/d/e.png", b""), ("f.png", b"x" * 2000)]
        if form == tarfile.USTAR_FORMAT:
            members[1] = (LONG.replace(" ü", ""), b"22")
        members.insert(0, (info("c", type=tarfile.DIRTYPE), b""))
        members.insert(3, (info("link", type=tarfile.SYMTYPE, linkname="f.png"), b""))  # no image by its name
        (tmp_path / "x.tar").write_bytes(tar(*members, form=form))
        manifest = list_images(str(tmp_path))
        reader = open_reader(manifest.uri, manifest.kind)
        found = {image.key: reader.read(image) for image in manifest.images()}
        assert found == {f"x.tar/{name.removeprefix('./')}": data for name, data in images_of(*members).items()}

    def test_local_members_are_named_by_their_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(tar(*samples(5)))
        expected = [hashlib.sha256(data).hexdigest() for data in images_of(*samples(5)).values()]
        assert list_images(str(tmp_path)).table["etag"].to_pylist() == expected

    def test_a_set_that_was_packed_anew_has_other_places(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(tar(*samples(5)))
        before = list_images(str(tmp_path))
        (tmp_path / "x.tar").write_bytes(tar(("first.txt", b"x"), *samples(5)))
        after = list_images(str(tmp_path))
        assert before.table.drop_columns("offset") == after.table.drop_columns("offset")
        assert before.digest != after.digest


class TestReading:
    def test_a_rewritten_shard_is_noticed_on_s3(self, s3_prefix: str) -> None:
        store = S3Store(*s3_prefix.removeprefix("s3://").split("/"))
        store.put("x.tar", tar(*samples(3)))
        manifest = list_images(store.uri)
        store.put("x.tar", tar(*samples(3, seed=1)))
        with pytest.raises(ObjectChangedError, match=r"x\.tar: written again"):
            open_reader(manifest.uri, "tar").read(manifest.image(0))

    def test_a_shard_that_became_shorter_is_noticed(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(tar(*samples(3, size=5000)))
        manifest = list_images(str(tmp_path))
        (tmp_path / "x.tar").write_bytes(tar(*samples(1, size=5000)))
        with pytest.raises(ObjectChangedError, match="shorter than when it was listed"):
            open_reader(manifest.uri, "tar").read(manifest.image(2))


class TestReadAhead:
    @pytest.fixture
    def gets(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The lengths of the ranges that were got."""
        lengths: list[int] = []
        get_range = LocalStore.get_range

        def counted(self: LocalStore, key: str, start: int, length: int, etag: str | None = None) -> bytes:
            lengths.append(length)
            return get_range(self, key, start, length, etag)

        monkeypatch.setattr(LocalStore, "get_range", counted)
        return lengths

    @pytest.mark.parametrize(("size", "windows"), [(500, 7), (20_000, 11)])
    def test_small_members_share_gets(self, tmp_path: Path, gets: list[int], size: int, windows: int) -> None:
        (tmp_path / "x.tar").write_bytes(tar(*samples(200, size)))
        assert len(list_images(str(tmp_path))) == 200
        assert len(gets) <= windows
        assert sum(gets) <= (tmp_path / "x.tar").stat().st_size + LARGEST_WINDOW

    def test_of_large_members_only_the_headers_are_got(self, tmp_path: Path, gets: list[int]) -> None:
        (tmp_path / "x.tar").write_bytes(tar(*samples(40, 300_000)))
        assert len(list_images(str(tmp_path))) == 40
        assert len(gets) <= 42
        assert sum(gets) <= 42 * 2 * LEAST_WINDOW < 12_000_000 / 15


def cut(data: bytes, end: int) -> bytes:
    return data[:end]


WHOLE = tar(*samples(3, 1000))
LAST = 2 * (512 + 1024 + 512 + 512)  # where the third image's header begins


def patched(at: int, with_: bytes) -> bytes:
    """`WHOLE` with some bytes of the third image's header changed and the checksum made good again."""
    header = bytearray(WHOLE[LAST : LAST + 512])
    header[at : at + len(with_)] = with_
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return WHOLE[:LAST] + bytes(header) + WHOLE[LAST + 512 :]


def long_names(depth: int) -> bytes:
    """A chain of long-name headers, each of the next."""
    member = info("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=512)
    return (member.tobuf(tarfile.GNU_FORMAT) + b"n" * 512) * depth + WHOLE


SPARSE = info("a.png", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.png"})
MANY_HOLES = b"1000000\n" + b"1\n" * 200_000


class TestUntrusted:
    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (b"", "not a tar shard .*empty"),
            (b"\x1f\x8b" + b"x" * 2000, "not a tar shard"),
            (WHOLE[:300], "not a tar shard .*truncated"),
            (cut(WHOLE, LAST + 100), "not a tar shard"),
            (cut(WHOLE, LAST + 700), "does not end"),
            (cut(WHOLE, LAST), "no end marker"),
            (WHOLE + tar(*samples(1, seed=5)), "more data follows its end marker"),
            (WHOLE + bytes(100_000) + tar(*samples(1, seed=5)), "more data follows its end marker"),
            (WHOLE[:LAST] + b"\xff" * 512 + WHOLE[LAST + 512 :], "broken header"),
            (patched(124, b"77777777777\0"), "does not end"),
            (patched(124, b"\x80" + b"\x7f" * 11), "does not end"),
            (patched(124, b"00000000001\0"), "broken header"),
            (patched(124, b"\xff" * 12), "does not end"),
            (long_names(3000), "not a tar shard .*header"),
            (long_names(100), "header of more than"),
            (tar((info("x.png", pax_headers={"comment": "x" * 100_000}), b"x")), "header of more than"),
            (tar((SPARSE, MANY_HOLES)), "header of more than"),
            (tar(("../x.png", b"x")), r"named '\.\./x\.png'"),
            (tar(("/etc/x.png", b"x")), "named '/etc/x.png'"),
            (tar(("a/../../x.png", b"x")), "a member is named"),
            (tar(("a\\..\\x.png", b"x")), "a member is named"),
            (tar((info("a\udcff.png"), b"x"), form=tarfile.GNU_FORMAT), r"named 'a\\udcff\.png'"),
            (tar((info("x.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")), "'x.png' is a link"),
            (tar((info("x.png", type=tarfile.LNKTYPE, linkname="y"), b"")), "'x.png' is a link"),
            (tar((info("x.png", type=tarfile.CHRTYPE), b"")), "'x.png' is not a file"),
            (tar((info("x.png", type=tarfile.FIFOTYPE), b"")), "'x.png' is not a file"),
            (tar((SPARSE, b"1\n0\n1\n" + bytes(512))), "'a.png' is sparse"),
            (tar(("a/x.png", b"1"), ("a/x.png", b"2")), "'a/x.png' is listed 2 times"),
            (tar(("x.png", b"1"), ("./x.png", b"2")), "'x.png' is listed 2 times"),
            (tar(("x.txt", b"1")), "no image here"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, tmp_path: Path, data: bytes, found: str) -> None:
        (tmp_path / "x.tar").write_bytes(data)
        with pytest.raises(InputError, match=found) as caught:
            list_images(str(tmp_path))
        assert caught.value.remedy

    def test_every_cut_is_noticed(self, tmp_path: Path) -> None:
        for end in range(0, len(WHOLE) - 8192 - 512, 37):
            (tmp_path / "x.tar").write_bytes(WHOLE[:end])
            with pytest.raises(InputError, match="not a tar shard"):
                list_images(f"{tmp_path}/x.tar")

    def test_any_damage_gives_a_message_or_the_images(self, tmp_path: Path) -> None:
        rng = random.Random(0)
        sources = [WHOLE, tar((LONG, b"1"), *samples(2)), tar((LONG, b"1"), form=tarfile.GNU_FORMAT)]
        listed = 0
        for _ in range(400):
            data = bytearray(rng.choice(sources))
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            (tmp_path / "x.tar").write_bytes(data)
            try:
                manifest = list_images(str(tmp_path))
            except InputError:
                continue
            reader = TarReader(open_store(manifest.uri))
            for image in manifest.images():
                assert hashlib.sha256(reader.read(image)).hexdigest() == image.etag
            listed += 1
        assert 10 < listed < 400

    @pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
    def test_a_compressed_tar_has_a_remedy(self, store: ObjectStore, name: str) -> None:
        store.put(f"a/{name}", b"x")
        for uri in (store.child_uri("a"), store.child_uri(f"a/{name}")):
            with pytest.raises(InputError, match="compressed tar") as caught:
                list_images(uri)
            assert "unpack" in caught.value.remedy
        store.put("a/y.tar", tar(*samples(1)))
        with pytest.raises(InputError, match="compressed tar"):
            list_images(store.child_uri("a"))

    def test_images_beside_shards_are_refused(self, store: ObjectStore) -> None:
        store.put("x.tar", tar(*samples(1)))
        store.put("y.png", b"x")
        with pytest.raises(InputError, match=r"1 image files and 1 \.tar files"):
            list_images(store.uri)

    def test_a_folder_that_is_called_as_a_shard(self, tmp_path: Path) -> None:
        inner = tmp_path / "set" / "a.tar"
        inner.mkdir(parents=True)
        (inner / "b.tar").write_bytes(tar(*samples(1)))
        with pytest.raises(InputError, match=r"in a folder named"):
            list_images(str(tmp_path))
