"""Image sets packed as their usual tools pack them: tar shards, Parquet files."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Images = list[bytes]
Member = tuple[str | tarfile.TarInfo, bytes]


def info(name: str, **fields: object) -> tarfile.TarInfo:
    """A header with these fields."""
    found = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def tar(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive as the standard library writes it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        for name, data in members:
            member = info(name) if isinstance(name, str) else name
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def plain(found: Images) -> pa.Table:
    return pa.table({"label": range(len(found)), "image": pa.array(found, pa.binary())})


def hugging_face(found: Images) -> pa.Table:
    """The layout of an Image feature of the ``datasets`` library."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(found)]
    return pa.table({"image": pa.array(rows, kind), "label": range(len(found))})


def parquet(table: pa.Table, rows: int = 7, **options: Any) -> bytes:
    """A file with row groups of so many rows."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows, **options)
    return sink.getvalue()
