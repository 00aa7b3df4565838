"""A spec as a sweep reads it: the releases of this moment, none or many, and the files that cannot be used.

`load_spec` serves a person, who wants to know of every mistake before anything begins. A sweep goes on without the
release of a broken file, and an empty bucket is no mistake.
"""

from __future__ import annotations

from typing import NamedTuple

from flows.spec.releases import FoundReleases, scan_releases
from flows.spec.spec import AuditSpec, checked_pattern, checked_spec, read_content


class LiveSpec(NamedTuple):
    """A spec with its releases of this moment.

    Attributes:
        spec: Its ``releases`` are the usable ones; there may be none.
        broken: URI of a ``release.yaml`` that cannot be used → why.
    """

    spec: AuditSpec
    broken: dict[str, str]


def load_live_spec(uri: str) -> LiveSpec:
    """Read a spec file and find its releases.

    Args:
        uri: Path or ``s3://`` URI of the spec.

    Raises:
        InputError: the spec itself cannot be used.
        StoreError: the spec, or the place of its releases, cannot be read.
    """
    content, found = read_content(uri), FoundReleases([], {})
    if isinstance(content.get("releases"), dict):
        found = scan_releases(checked_pattern(uri, content["releases"]))
        content["releases"] = found.releases
    return LiveSpec(checked_spec(uri, content), found.broken)
