"""The runtime of a command, and the machine settings that it reads."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from actors.ray_cluster.local import ClusterSettings, PoolSize
from flows.runtime.runtime import Runtime, running
from flows.runtime.settings import MachineSettings
from flows.spec.spec import AuditSpec, load_spec
from storage.errors import InputError
from tests.flows.conftest import Write


class TestThisMachine:
    def test_cores_are_shared_by_hosts(self) -> None:
        settings = MachineSettings(device="cpu", cores=8).cluster_settings()
        assert settings == ClusterSettings(embed=PoolSize(2, cpus=4), layers=PoolSize(8))

    def test_the_operator_says_how_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"EMBED_HOSTS": "3", "EMBED_CPUS": "1.5", "LAYER_HOSTS": "5"}.items():
            monkeypatch.setenv(f"LAYERPRINT_{name}", value)
        settings = MachineSettings(device="cpu", cores=8).cluster_settings()
        assert settings == ClusterSettings(embed=PoolSize(3, cpus=1.5), layers=PoolSize(5))

    def test_shares_of_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MachineSettings, "gpus", lambda self: 1)
        monkeypatch.setenv("LAYERPRINT_EMBED_GPUS", "0.25")
        settings = MachineSettings(cores=8).cluster_settings()
        assert settings.embed == PoolSize(4, cpus=2, gpus=0.25)


class TestRunningCluster:
    @pytest.mark.parametrize(
        ("resources", "embed", "layers"),
        [
            ({"CPU": 2.0}, PoolSize(1, cpus=1), 1),
            ({"CPU": 16.0}, PoolSize(3, cpus=4), 4),
            ({"CPU": 64.0, "GPU": 4.0}, PoolSize(4, cpus=12, gpus=1), 16),
            ({}, PoolSize(1, cpus=1), 1),
        ],
    )
    def test_it_is_filled_and_both_pools_have_room(
        self, resources: dict[str, float], embed: PoolSize, layers: int
    ) -> None:
        settings = MachineSettings(ray_address="head:6379")
        assert settings.cluster_settings().fit == settings.fit
        fitted = settings.fit(resources)
        assert fitted == ClusterSettings(embed, PoolSize(layers), "head:6379")
        assert embed.hosts * embed.cpus + layers <= max(2, resources.get("CPU", 0))

    def test_no_gpu_for_the_cpu(self) -> None:
        fitted = MachineSettings(ray_address="head:6379", device="cpu").fit({"CPU": 64.0, "GPU": 4.0})
        assert fitted.embed == PoolSize(12, cpus=4)


def test_prefect_keeps_nothing_of_a_runtime(runtime: Runtime, write_spec: Write) -> None:
    """Prefect would write an argument's attributes, such as the token of a cluster, into its database."""

    @flow(validate_parameters=False, persist_result=False)
    def noop(runtime: Runtime, spec: AuditSpec) -> str:
        return str(flow_run.id)

    spec = load_spec(write_spec(cluster={"ray": "http://head:8265"}))
    runtime.context(spec)
    with get_client(sync_client=True) as client:
        parameters = client.read_flow_run(UUID(noop(runtime, spec))).parameters
    assert parameters["runtime"] == "<Runtime>"
    assert parameters["spec"]["store"] == spec.store


def test_a_set_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with running() as runtime:
        first = runtime.listed(str(tmp_path))
        (tmp_path / "b.png").write_bytes(b"x")
        assert runtime.listed(str(tmp_path)) is first
    with running() as another:
        assert len(another.listed(str(tmp_path))) == 2


def test_a_listing_that_fails_is_tried_again(tmp_path: Path) -> None:
    with running() as runtime:
        with pytest.raises(InputError):
            runtime.listed(str(tmp_path))
        (tmp_path / "a.png").write_bytes(b"x")
        assert len(runtime.listed(str(tmp_path))) == 1
