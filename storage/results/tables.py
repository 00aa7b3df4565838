"""The Parquet results: one immutable file per audit and table, ``results/<table>/<audit_id>.parquet``.

A number that could not be computed is null, never NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from storage import layout
from storage.errors import InputError, StoreError
from storage.objects.base import BrokenObjectError, ObjectMissingError, ObjectStore
from storage.seal import name_broken, parse_parquet, read_sealed, sealed_parquet, unless_broken

LEFT_OUT = "its rows are left out"

SCHEMA_VERSION = "5"
"""2 added runs and parts in `profiles`, `attributions` and how each layer was searched; 3 what an audit was made from,
4 `copies` and what the copy score says of an audit, 5 groups of images, how often pictures repeat, regions of copies,
and who is named by an attribution and after which processing.

Columns that older files lack are null."""

_TYPES = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "floats": pa.list_(pa.float64()),
    "time": pa.timestamp("us", tz="UTC"),
}

# One line per run of columns of one type; "?" marks nullable types.
_COLUMNS = {
    "audits": """
        string   audit_id release version family reference images_uri encoder_model encoder_digest
        string   reference_digest images_digest spec_digest preset
        int32    components cells
        int64    seed train_images held_out_images contaminated images rejected
        string   verdict invalid_reason
        int32?   copying_layer
        float64? copy_rate copy_rate_low copy_rate_high max_copy_rate smallest_detectable_rate
        string   sentence fit_verdict fit_sentence
        int32?   fit_layer
        float64? fit_p frechet frechet_low frechet_high frechet_baseline
        string   settings layerprint_version
        float64? copies_low copies_high copies_p
        int64?   copies_at_least copies_listed distinct_images distinct_held_out held_out_leaks
        int64?   units held_out_units copied_files_at_least pictures repeated_images repeated_pictures most_repeated
        int32?   copies_layer
        string?  tokens
        string?  run profile_id search train_digest train_table held_out_table partition nearest
        time     created_at
        float64  seconds
        int64    forward_images
    """,
    "copies": """
        string   audit_id release version
        int32    rank
        string   image_key train_key
        float64  score p_value late votes
        bool     part listed identical
        string   view
        int64?   picture picture_files train_files train_alike
        float64? region_share train_region_share
        int32?   region_left region_top region_right region_bottom
        int32?   train_region_left train_region_top train_region_right train_region_bottom
        string?  region train_region
    """,
    "scores": """
        string   audit_id release version
        int32    layer
        string   layer_name
        bool     informative
        int64    n m
        int32?   cells cells_kept
        float64? c_t z_s a_hat delta se a_low a_high p_value p_adjusted coverage
        float64? copy_rate copy_rate_low copy_rate_high copy_rate_p
        int64?   copies_below
        float64? tail_alpha copy_rate_001 copy_rate_001_low copy_rate_001_high
        int64?   discoveries near_duplicates
        float64? authentic authentic_low authentic_high authentic_held_out
        string?  index_table
        int32?   index_version probes_held_out probes
        float64? recall_held_out recall search_bound
        string   preset
    """,
    "profiles": """
        string?  profile_id
        string   release version family
        string?  run
        int32?   part
        int32    layer
        float64? logit_a variance
        floats?  covariance
        float64? c_t placement
        floats?  placement_scatter mean scatter
        int64    m n
        int64?   seed table_version
        string?  table images_uri
        string   reference_digest encoder_digest scoring_digest
        time?    created_at
    """,
    "attributions": """
        string   attribution_id images_uri images_digest perturbation
        int64    images
        string   verdict sentence
        int32    rank
        string   maker
        float64  posterior curve_posterior signature_posterior p_value d2 d2_p t2
        float64? published_similarity frechet mean_distance probe_log_p
        float64  unknown reject unknown_prior chance
        int64?   needed
        int64    trials trials_right
        bool?    named
        float64? closed curve_weight
        string?  processing
        string   reference_digest encoder_digest scoring_digest layerprint_version
        time     created_at
    """,
    "evidence": """
        string   audit_id release version
        int32    layer rank
        string   image_key train_key
        float64  distance
        float64? p_value ratio ratio_p
        bool     identical near_duplicate discovery
    """,
    "checks": """
        string   audit_id release version name
        bool     passed
        float64? value
        float64  threshold
        string   severity sentence remedy
    """,
    "rejects": """
        string   audit_id release version set_uri role key reason
    """,
}


def _schema(columns: str) -> pa.Schema:
    fields = []
    for line in columns.split("\n"):
        kind, *names = line.split() or [""]
        fields += [pa.field(name, _TYPES[kind.rstrip("?")], nullable=kind.endswith("?")) for name in names]
    return pa.schema(fields, metadata={"schema_version": SCHEMA_VERSION})


SCHEMAS: dict[str, pa.Schema] = {table: _schema(columns) for table, columns in _COLUMNS.items()}
"""The columns of every table, with the version of the schema in the metadata.

* `audits`: one row per audit. ``images`` counts the release's, ``forward_images`` those that went through the encoder
  for this audit; ``settings`` is the resolved spec as JSON. ``train_digest`` to ``nearest`` are what it was made from:
  the list of training images, two embedding tables, prefixes of the partitions and of the release's nearest distances.
  ``copies_at_least`` of ``units`` are copies, and the generator's rate of copies is at least ``copies_low`` and at most
  ``copies_high`` (95 % each); ``copies_p`` is the p-value of the claim that there are any. ``copies_listed`` images are
  listed, without which no release is called copying; ``held_out_leaks`` held-out images look like training images.
  ``units`` and ``held_out_units`` are groups of images that belong together, of which one is judged; null before schema
  5, which judged ``distinct_images``. The pictures that are copies fill ``copied_files_at_least`` of the images. The
  release shows ``pictures`` different ones; ``repeated_pictures`` occur more than once, in ``repeated_images`` images
  together, the most frequent one in ``most_repeated``. All that is from the patch tokens of ``copies_layer``, those of
  the release in the table ``tokens``, and null where the verdict is that of the layers' tails. ``copying_layer`` and
  ``copy_rate`` describe the layer that is closest to the training images.
* `copies`: one row per image that is listed, or that scores higher than every held-out image; the strongest first.
  ``late`` and ``votes`` are the two kinds of evidence, ``part`` whether that of parts decided, ``view`` the view of the
  image that matched. Rows with the same ``picture`` are near-duplicates of each other; ``picture_files`` files of the
  release show it. ``train_files`` training images have the content of ``train_key``, and ``train_alike`` contents of
  training images are the same picture as it, itself included. ``region`` is the copied part
  of the image, ``train_region`` of the training image: a square of cells, bits row by row in hexadecimal digits
  (`scoring.copies.region.to_hex`); its share of the image, and its box in pixels of the central square that was
  embedded, null where the region is empty.
* `scores`: one row per layer. ``copies_below`` is K of the copy rate at ``tail_alpha``; ``index_table`` to
  ``search_bound`` are null where the search was exact.
* `profiles`: one row per layer of a set of images and of each of its disjoint parts. ``part`` 0 is the whole set, with
  ``logit_a``, its ``variance`` and row of the ``covariance`` over layers; parts 1, 2, … have the moments of placements
  and projected embeddings, ``scatter`` as the lower triangle by rows.
* `evidence`: the closest pairs of a layer.
* `checks`: what must hold for the audit to be valid.
* `rejects`: one row per image that could not be read; ``role`` is train, held_out or release.
* `attributions`: one row per enrolled release that a set of images was compared with.
"""


def result_key(table: str, audit_id: str) -> str:
    """The key of one result file.

    Raises:
        InputError: The table is unknown, or the audit's name is not letters, digits, ``.``, ``_`` and ``-``.

    >>> result_key("scores", "glow-80")
    'results/scores/glow-80.parquet'
    """
    if table not in SCHEMAS:
        raise InputError(f"no results table {table!r}", f"the tables are {', '.join(SCHEMAS)}")
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", audit_id):
        raise InputError(f"{audit_id!r} is not the name of an audit", "use letters, digits, '.', '_' and '-'")
    return layout.result_key(table, audit_id)


def write_result(store: ObjectStore, table: str, audit_id: str, rows: Sequence[Mapping[str, object]] | pa.Table) -> str:
    """Writes one table of an audit; an existing file is left as it is, unless it is broken: then it is set aside.

    Args:
        store: The store of the audits.
        table: A name in `SCHEMAS`.
        audit_id: The audit's name (the profile's or attribution's, for those tables).
        rows: Records by column name, or a table. Nullable columns may be left out.

    Returns:
        The URI of the file.

    Raises:
        ValueError: A column is unknown, missing, null where it must not be, or of another type.
    """
    key = result_key(table, audit_id)
    data = sealed_parquet(_conform(table, rows), compression="zstd", write_page_checksum=True)
    if not store.put_if_absent(key, data):
        try:
            _read(store, table, key)
        except BrokenObjectError as error:
            store.move(key, layout.broken_key(key, error.seen))
            store.put_if_absent(key, data)
            name_broken(error, "set aside and made again")
    return store.child_uri(key)


def read_result(store: ObjectStore, table: str, audit_id: str | None = None) -> pa.Table:
    """Reads one table of one audit, or of all (None); without a file, an empty table with all columns.

    Of all audits, broken files are left out with a warning.

    Raises:
        BrokenObjectError: The file of this audit is not what was written.
        StoreError: A file is not a result of this version of layerprint.
    """
    if audit_id is not None:
        files = [_read(store, table, result_key(table, audit_id))]
    else:
        keys = result_keys(store, table)
        files = [unless_broken(partial(_read, store, table, key), LEFT_OUT) for key in keys]
    return pa.concat_tables([SCHEMAS[table].empty_table(), *(rows for rows in files if rows is not None)])


def result_keys(store: ObjectStore, table: str) -> list[str]:
    """The keys of all files of a table, sorted."""
    return sorted(info.key for info in store.list(layout.results_folder(table)) if info.key.endswith(".parquet"))


def _read(store: ObjectStore, table: str, key: str) -> pa.Table | None:
    try:
        rows = read_sealed(store, key, parse_parquet)
    except ObjectMissingError:
        return None
    try:
        return _current(rows, SCHEMAS[table])
    except (ValueError, KeyError) as error:  # ArrowInvalid and a missing column
        raise StoreError(
            f"{store.child_uri(key)}: not a {table} file of schema {SCHEMA_VERSION} or older",
            "read it with the layerprint that wrote it, or move it out of the store",
        ) from error


def _current(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of this or an older version in the current schema: missing columns are null."""
    for field in schema:
        if field.name not in rows.column_names and field.nullable:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def _conform(table: str, rows: Sequence[Mapping[str, object]] | pa.Table) -> pa.Table:
    schema = SCHEMAS[table]
    names = set(rows.column_names if isinstance(rows, pa.Table) else (name for row in rows for name in row))
    if unknown := names - set(schema.names):
        raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
    columns = []
    for field in schema:
        try:
            column = _column(rows, names, field)
        except (pa.ArrowException, TypeError) as error:
            raise ValueError(f"{table}.{field.name}: {error}") from error
        if column.null_count and not field.nullable:
            raise ValueError(f"{table}.{field.name} has {column.null_count} null of {len(column)}")
        columns.append(column)
    return pa.table(columns, schema=schema)


def _column(
    rows: Sequence[Mapping[str, object]] | pa.Table, names: set[str], field: pa.Field
) -> pa.Array | pa.ChunkedArray:
    if field.name not in names:
        return pa.nulls(len(rows), field.type)
    if isinstance(rows, pa.Table):
        column = rows[field.name].cast(field.type)
    else:
        column = pa.array([row.get(field.name) for row in rows], field.type)
    if pa.types.is_floating(field.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column
