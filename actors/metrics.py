"""Metrics for Prometheus, through Ray; docs/metrics.md documents each name and how to scrape them.

The numbers leave a process only where Ray runs; without Ray, counting has no effect and costs about a microsecond.
Labels have few values, none of them from untrusted input.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

SECONDS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]
"""Upper edges of the buckets of a duration."""

IMAGES_EMBEDDED = Counter("layerprint_images_embedded_total", "Images that went through the encoder.")
IMAGES_REUSED = Counter("layerprint_images_reused_total", "Images whose embeddings were copied from an earlier table.")
IMAGES_REJECTED = Counter("layerprint_images_rejected_total", "Images that were left out.", ("reason",))
READ_BYTES = Counter("layerprint_read_bytes_total", "Bytes of the images that were fetched.")
TASK_SECONDS = Histogram("layerprint_task_seconds", "Seconds of each finished task.", SECONDS, ("worker",))
SEARCH_QUERIES = Counter("layerprint_search_queries_total", "Images searched for their nearest training image.")
TASKS_RETRIED = Counter("layerprint_tasks_retried_total", "Tasks sent again after a failure.", ("worker", "reason"))
TASKS_LOST = Counter("layerprint_tasks_lost_total", "Tasks given up after their failures.", ("worker", "reason"))
HOSTS = Gauge("layerprint_hosts", "Processes of a pool that are ready for work.", ("pool",))
STAGE_DONE = Gauge("layerprint_stage_done", "Units of the running stage that are done.", ("stage", "unit"))
STAGE_UNITS = Gauge("layerprint_stage_units", "Units of the running stage in all.", ("stage", "unit"))

_REJECT_CLASSES = {
    "the file is empty": "empty",
    "not a png": "format",
    "a GIF": "format",
    "pixels": "too_large",
    "animated": "animated",
    "listed, but gone": "gone",
    "listed, but changed": "changed",
    "killed its": "killed_worker",
}


def add(counter: Counter, amount: int, **labels: str) -> None:
    """Increase a counter; an amount of 0, which Ray refuses, does nothing."""
    if amount:
        counter.inc(amount, labels)


def reject_class(reason: str) -> str:
    """The label of a reject; the reason itself may be any text, from an untrusted file.

    >>> reject_class("not a png, jpg, webp or bmp file"), reject_class("OSError: image file is truncated")
    ('format', 'broken')
    """
    return next((label for text, label in _REJECT_CLASSES.items() if text in reason), "broken")
