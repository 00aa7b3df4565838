"""The views over the result tables, as SQL text."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from storage.results.tables import SCHEMAS

BY_AUDIT = tuple(table for table, schema in SCHEMAS.items() if "audit_id" in schema.names)
"""The tables whose files are named after audits, `audits` first."""

_LATEST_AUDITS = """
SELECT * FROM audits
QUALIFY row_number() OVER (
    PARTITION BY release, version, coalesce(run, '1') ORDER BY created_at DESC, audit_id DESC) = 1
"""

# A profile of schema 1 has no name and is in no comparison.
_LATEST_PROFILES = """
SELECT profiles.* FROM profiles SEMI JOIN (
    SELECT profile_id FROM (SELECT DISTINCT profile_id, release, version, run, created_at FROM profiles
                            WHERE profile_id IS NOT NULL)
    QUALIFY row_number() OVER (PARTITION BY release, version, run ORDER BY created_at DESC, profile_id DESC) = 1
) USING (profile_id)
"""

_LATEST_ATTRIBUTIONS = """
SELECT * FROM attributions
QUALIFY rank() OVER (
    PARTITION BY images_uri, perturbation ORDER BY created_at DESC, attribution_id DESC) = 1
"""

_RELEASES = """
SELECT release, version, run, family, reference, preset, verdict,
    copy_rate, copy_rate_low, copy_rate_high, a_hat_first, a_hat_last, images AS m, created_at, audit_id,
    copies_at_least, copies_low, copies_high
FROM latest_audits LEFT JOIN (
    SELECT audit_id, arg_min(a_hat, layer) AS a_hat_first, arg_max(a_hat, layer) AS a_hat_last
    FROM latest_scores WHERE informative GROUP BY audit_id
) USING (audit_id)
"""

VIEWS: Mapping[str, str] = {
    "latest_audits": _LATEST_AUDITS,
    **{
        f"latest_{table}": f"SELECT {table}.* FROM {table} SEMI JOIN latest_audits USING (audit_id)"
        for table in BY_AUDIT[1:]
    },
    "latest_profiles": _LATEST_PROFILES,
    "latest_attributions": _LATEST_ATTRIBUTIONS,
    "releases": _RELEASES,
}
"""The views over the tables; each comes after those that it reads.

``latest_audits`` is the latest audit of every release, version and run, and ``latest_copies`` to ``latest_rejects``
its rows; ``latest_profiles`` the latest profile of every release, version and run, audited or enrolled;
``latest_attributions`` the latest answer for every image set and perturbation; ``releases`` one row per audit of
``latest_audits`` with Â of the first and the last informative layer.
"""

_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.list_(pa.float64()): "DOUBLE[]",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}


def read_parquet(table: str, paths: str) -> str:
    """The call of DuckDB's ``read_parquet`` for files of a table, of this or an older schema.

    Columns that a file lacks are null, columns of another type are cast, and unknown columns are left out.

    Args:
        table: A name in `SCHEMAS`.
        paths: A SQL expression: a path, a list of paths, or a parameter.

    >>> read_parquet("rejects", "?")[:86]
    "read_parquet(?, schema = MAP {'audit_id': {name: 'audit_id', type: 'VARCHAR', default_"
    """
    columns = (
        f"'{field.name}': {{name: '{field.name}', type: '{_SQL_TYPES[field.type]}', default_value: NULL}}"
        for field in SCHEMAS[table]
    )
    return f"read_parquet({paths}, schema = MAP {{{', '.join(columns)}}})"


def empty_table(table: str) -> str:
    """A SELECT of no rows with the columns of a table."""
    columns = (f'NULL::{_SQL_TYPES[field.type]} AS "{field.name}"' for field in SCHEMAS[table])
    return f"SELECT {', '.join(columns)} WHERE false"


def no_glob(path: str) -> str:
    """A path as a DuckDB file pattern that matches only itself.

    >>> no_glob("/data/[new]*/scores")
    '/data/[[]new][*]/scores'
    """
    return re.sub(r"[*?\[]", lambda match: f"[{match[0]}]", path)


def literal(text: str) -> str:
    """A SQL string.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
