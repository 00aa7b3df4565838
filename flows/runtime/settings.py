"""Machine settings, read from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from actors.ray_cluster.local import ClusterSettings, PoolSize
from flows.runtime.machine import usable_cores


class MachineSettings(BaseSettings):
    """Settings from the environment: LAYERPRINT_DEVICE, LAYERPRINT_BATCH_SIZE and so on."""

    model_config = SettingsConfigDict(env_prefix="LAYERPRINT_", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the encoder runs")
    cores: int | None = Field(None, ge=1, description="cores to use; None = all available to this process")
    batch_size: int = Field(32, ge=1, le=4096, description="images per forward pass")
    readers: int = Field(8, ge=1, le=256, description="threads per embedding actor that fetch and decode")
    ray_address: str | None = Field(None, description="address of a running Ray cluster; None = start a Ray")
    embed_hosts: int | None = Field(None, ge=1, description="embedding processes; None = one per GPU or four cores")
    embed_cpus: float | None = Field(None, gt=0, description="cores that each of them reserves")
    embed_gpus: float = Field(1.0, gt=0, description="GPUs that each of them reserves, if there are any; 0.5 = half")
    layer_hosts: int | None = Field(None, ge=1, description="processes for partitions, searches and scores")

    def gpus(self) -> int:
        """Number of CUDA devices of this machine to use."""
        if self.device == "cpu":
            return 0
        devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
        return max(1, devices) if self.device == "cuda" else devices

    def usable_cores(self) -> int:
        return self.cores or max(1, int(usable_cores()))

    def cluster_settings(self) -> ClusterSettings:
        """The pools on this machine; those on a running cluster are sized by `fit` once its resources are known."""
        cores = self.usable_cores()
        layers = PoolSize(self.layer_hosts or min(cores, 16))
        fit = self.fit if self.ray_address else None
        return ClusterSettings(self._embed(cores, self.gpus()), layers, self.ray_address, fit)

    def fit(self, resources: Mapping[str, float]) -> ClusterSettings:
        """The pools on a cluster with these resources; both fit at once, a quarter of the cores is for layers."""
        cores = int(resources.get("CPU", 1))
        layers = self.layer_hosts or max(1, min(cores // 4, 16))
        gpus = 0 if self.device == "cpu" else int(resources.get("GPU", 0))
        return ClusterSettings(self._embed(max(1, cores - layers), gpus), PoolSize(layers), self.ray_address)

    def _embed(self, cores: int, gpus: int) -> PoolSize:
        """One host per GPU or share of it, else one per four cores: a forward pass uses a few threads well."""
        hosts = self.embed_hosts or int(gpus / self.embed_gpus) or max(1, cores // 4)
        return PoolSize(hosts, self.embed_cpus or max(1, cores // hosts), self.embed_gpus if gpus else 0.0)
