"""The metrics that a Prometheus reads from the node's agent."""

from __future__ import annotations

import io
import re
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
import ray
from PIL import Image

from actors import metrics
from actors.encoder.decode import UnreadableImageError, decode
from actors.encoder.model import Encoder
from actors.ray_cluster.hosts import PoolSize
from actors.ray_cluster.local import Cluster, ClusterSettings
from actors.ray_cluster.pool import Pool
from actors.stages import embed as embed_stage
from actors.stages.bisect_shard import KILLED
from actors.stages.context import StageContext
from actors.workers.embed import EmbedSettings
from storage.image_sets.open import list_images
from storage.objects.open import open_store
from tests.actors.conftest import TINY, pictures, png
from tests.actors.diaries import Dies
from tests.actors.encoder.test_decode import png_header
from tests.processes import wait_until

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test

Series = dict[tuple[str, frozenset[str]], float]


def measured(task: tuple[Dies, int]) -> tuple[int, int]:
    """A function whose name no other test has."""
    diary, number = task
    return diary.process(number)


def read() -> Series:
    """All of our series of this node: (name, labels) → value."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    series = re.findall(r"^ray_(layerprint_\w+)\{(.*?)\} (\S+)$", text, re.MULTILINE)
    return {(name, frozenset(re.findall(r'\w+="[^"]*"', labels))): float(value) for name, labels, value in series}


def total(series: Series, name: str, labels: Mapping[str, str], before: Series | None = None) -> float:
    """The sum of a metric over the processes that were not there before."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    return sum(
        value for key, value in series.items() if key[0] == name and wanted <= key[1] and key not in (before or {})
    )


class TestTheEndpoint:
    def test_tasks_deaths_and_hosts(self, local_ray: None, tmp_path: Path) -> None:
        pool = Pool("measured", PoolSize(2, cpus=0.1))
        list(pool.run(measured, [(Dies(str(tmp_path)), number) for number in range(12)]))
        deaths = {"worker": "measured", "reason": "process"}
        wait_until(lambda: total(read(), "layerprint_tasks_retried_total", deaths) == 1, 60, "the death")
        # The replacement of the dead one counts once it has started, perhaps after the run.
        wait_until(lambda: total(read(), "layerprint_hosts", {"pool": "measured"}) in (1, 2), 60, "the hosts")
        # The counts of the process that was killed may not have left it.
        wait_until(lambda: total(read(), "layerprint_task_seconds_count", {"worker": "measured"}) >= 6, 60, "the tasks")
        assert total(read(), "layerprint_tasks_lost_total", deaths) == 0
        pool.close()

    def test_an_embedded_set(self, local_ray: None, tmp_path: Path, tiny: Encoder) -> None:
        images = open_store(str(tmp_path / "images"))
        files = {f"{i}.png": png(image) for i, image in enumerate(pictures(30))} | {"a.png": b"none", "b.png": b""}
        for key, content in files.items():
            images.put(key, content)
        before = read()
        size = PoolSize(1, cpus=0.1)
        with Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
            context = StageContext(open_store(str(tmp_path / "store")), cluster, lambda progress: None)
            embed_stage.embed(context, TINY, tiny.facts, list_images(images.uri), EmbedSettings(), "secret name")
            fresh: list[tuple[str, dict[str, str], int]] = [
                ("layerprint_images_embedded_total", {}, 30),
                ("layerprint_images_rejected_total", {}, 2),
                ("layerprint_images_rejected_total", {"reason": "empty"}, 1),
                ("layerprint_images_rejected_total", {"reason": "format"}, 1),
                ("layerprint_read_bytes_total", {}, sum(map(len, files.values()))),
                ("layerprint_task_seconds_count", {"worker": "embed_shard"}, 1),
            ]
            stage = {"stage": "embed"}
            driver = (("layerprint_stage_done", stage, 32), ("layerprint_stage_units", stage, 32))

            def all_reported() -> bool:  # each process reports at its own time
                now = read()
                return all(total(now, name, labels, before) == value for name, labels, value in fresh) and all(
                    total(now, name, labels) == value for name, labels, value in driver
                )

            wait_until(all_reported, 60, f"{fresh}, {driver}")
            now = read()
        assert "secret" not in str(now)


class TestRejectClass:
    @pytest.mark.parametrize("label", ["empty", "format", "too_large", "animated", "broken"])
    def test_what_decoding_says(self, label: str) -> None:
        with pytest.raises(UnreadableImageError) as raised:
            decode(self._bad(label))
        assert metrics.reject_class(str(raised.value)) == label

    @staticmethod
    def _bad(label: str) -> bytes:
        match label:
            case "empty":
                return b""
            case "format":
                return b"GIF89a"
            case "too_large":
                return png_header(30_000, 30_000)
            case "animated":
                frames = [Image.fromarray(picture) for picture in pictures(2)]
                sink = io.BytesIO()
                frames[0].save(sink, "WEBP", save_all=True, append_images=frames[1:])
                return sink.getvalue()
            case _:
                return png(pictures(1)[0])[:500]

    def test_the_others(self) -> None:
        assert metrics.reject_class(f"{KILLED}; the last time its node was lost") == "killed_worker"
        assert metrics.reject_class("listed, but gone when it was read") == "gone"
        assert metrics.reject_class("listed, but changed when it was read") == "changed"


def test_counting_costs_next_to_nothing() -> None:
    began = time.perf_counter()
    for _ in range(1000):
        metrics.add(metrics.IMAGES_EMBEDDED, 32)
    assert (time.perf_counter() - began) / 1000 < 200e-6  # measured: 1.4e-6
    metrics.add(metrics.IMAGES_EMBEDDED, 0)  # Ray would refuse it
