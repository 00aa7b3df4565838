from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.ray_cluster.local import Cluster, ClusterSettings, PoolSize
from tests.actors.diaries import Diary, run, wait_for_end
from tests.paths import ROOT

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test


class TestCluster:
    def test_a_pool_is_made_once_and_has_its_size(self, local_ray: None, tmp_path: Path) -> None:
        settings = ClusterSettings(embed=PoolSize(1, cpus=0.1), layers=PoolSize(2, cpus=0.2))
        with Cluster(settings) as cluster:
            assert cluster.pool("embed") is cluster.pool("embed")
            assert (cluster.pool("embed").hosts.size, cluster.pool("layers").hosts.size) == (
                settings.embed,
                settings.layers,
            )
            hosts = {process for _, process in run(cluster.pool("layers"), Diary(str(tmp_path)), 20).values()}
        wait_for_end(hosts)
        assert ray.is_initialized()  # it was not started by this cluster

    def test_a_pool_that_rests_makes_room(
        self, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a cluster that lost a node: what is left has room for either pool."""
        monkeypatch.setattr("actors.ray_cluster.dispatch.NOTICE_S", 1)
        size = PoolSize(1, cpus=ray.cluster_resources()["CPU"] // 2 + 1)
        with Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
            diary = Diary(str(tmp_path))
            first = run(cluster.pool("embed"), diary, 3)
            then = run(cluster.pool("layers"), diary, 3)
            assert len(first) == len(then) == 3
            wait_for_end({process for _, process in first.values()})
            assert len(run(cluster.pool("embed"), diary, 3)) == 3  # and back

    def test_hosts_have_the_s3_settings(self, cluster: Cluster, s3: Any) -> None:
        def variable(name: str) -> str | None:
            return os.environ.get(name)

        (endpoint,) = dict(cluster.pool("layers").run(variable, ["AWS_ENDPOINT_URL"])).values()
        assert endpoint == s3.endpoint

    @pytest.mark.usefixtures("processes")
    def test_ray_starts_with_the_first_pool_and_ends_with_the_cluster(self, tmp_path: Path) -> None:
        code = f"""
import ray
from actors.ray_cluster.local import Cluster, ClusterSettings, PoolSize
from tests.actors.diaries import Raises, run
size = PoolSize(2, cpus=0.5)
with Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
    print(ray.is_initialized())
    pool = cluster.pool("layers")
    print(ray.is_initialized(), int(ray.cluster_resources()["CPU"]))
    try:
        run(pool, Raises({str(tmp_path)!r}, error="InputError", tasks=tuple(range(9))), 9)
    except Exception as error:
        print(type(error).__name__)
print(ray.is_initialized())
"""
        root = ROOT
        child = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True
        )
        assert child.stdout.split() == ["False", "True", "3", "InputError", "False"]
        assert "raise InputError" not in child.stderr  # nor do the other tasks that failed print a traceback
