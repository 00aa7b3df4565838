from __future__ import annotations

import io
import random

import pytest

from storage.objects.open import ObjectChangedError, ObjectStore, S3Store, open_store
from storage.objects.range_file import LARGEST_WINDOW, LEAST_WINDOW, RangeFile


@pytest.mark.parametrize("read_ahead", [False, True])
def test_it_reads_as_any_file_does(store: ObjectStore, read_ahead: bool) -> None:
    rng = random.Random(0)
    data = rng.randbytes(LARGEST_WINDOW + 12_345)
    store.put("a", data)
    ours, theirs = RangeFile(store, store.info("a"), read_ahead=read_ahead), io.BytesIO(data)
    for _ in range(60):
        step = rng.choice([1, 512, LEAST_WINDOW, 300_000, len(data)])
        place, size = rng.randrange(step + 1), rng.randrange(step + 1)
        match rng.randrange(4):
            case 0:
                assert ours.seek(place) == theirs.seek(place)
            case 1:
                place = max(-place, -len(data))
                assert ours.seek(place, io.SEEK_END) == theirs.seek(place, io.SEEK_END)
            case _:
                assert ours.read(size) == theirs.read(size)
        assert ours.tell() == theirs.tell()
    assert ours.seek(5) == theirs.seek(5)
    assert ours.read() == theirs.read()
    with pytest.raises(ValueError, match="before the start of the file"):
        ours.seek(-1)


def test_an_object_that_is_written_meanwhile_is_noticed_on_s3(s3_prefix: str) -> None:
    store = open_store(s3_prefix)
    assert isinstance(store, S3Store)
    store.put("a", b"0123456789")
    file = RangeFile(store, store.info("a"))
    assert file.read(3) == b"012"
    store.put("a", b"9876543210")
    with pytest.raises(ObjectChangedError, match="written again"):
        file.read(3)
