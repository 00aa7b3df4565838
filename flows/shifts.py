"""How processings move the images of an enrolled run, learnt from a sample of them when attribution first needs it."""

from __future__ import annotations

import logging
from dataclasses import replace

from actors.stages import embed as embed_stage
from flows.inputs import list_set
from flows.results.identity import Reference
from flows.results.profile_rows import Enrolled
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from flows.tasks import process_release, search_set
from scoring.attribution.profile import Run
from storage.errors import LayerprintError
from storage.image_sets.manifest import Manifest
from storage.vectors.tables import VectorStore

_log = logging.getLogger(__name__)


def with_shifts(runtime: Runtime, spec: AuditSpec, reference: Reference, enrolled: Enrolled) -> Run:
    """An enrolled run with how processings move its images; without where its images, or their embeddings, are gone."""
    run, (name, _) = enrolled.run, enrolled.table
    table = VectorStore(runtime.context(spec).store).committed(name)
    if table is None:
        return run

    def images() -> Manifest | None:
        try:
            listed = list_set(runtime, enrolled.images_uri)
        except LayerprintError:  # the images were removed or cannot be read any more
            _log.info("%s: its images are gone, so processings cannot be tried on them", run.maker, exc_info=True)
            return None
        return listed if embed_stage.table_name(reference.facts, listed) == name else None

    label = f"{run.maker}#{run.name}"
    nearest = search_set(runtime, spec, reference, table, label)
    return replace(run, shifts=process_release(runtime, spec, reference, table, nearest, images, label))
