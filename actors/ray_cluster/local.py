"""The connection to Ray, and the pools of processes that work there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import cast

import ray

from actors.ray_cluster.hosts import PoolSize
from actors.ray_cluster.pool import Pool
from actors.ray_cluster.private_ray import RAY_ENVIRONMENT, join, private_ray

__all__ = ["Cluster", "ClusterSettings", "Pool", "PoolSize"]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where the work runs: a Ray started for this process, or the one that ``address`` names.

    ``fit`` adapts the settings to the resources of that cluster ("CPU", "GPU") once it is connected.
    """

    embed: PoolSize
    layers: PoolSize
    address: str | None = None
    fit: Callable[[Mapping[str, float]], ClusterSettings] | None = None


class Cluster:
    """A connection to Ray with two pools: ``embed`` (forward passes) and ``layers`` (one layer's work at a time).

    Ray starts when the first pool is requested: an audit that finds all its results never starts it.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self._cleanup = ExitStack()
        self._pools: dict[str, Pool] = {}

    def pool(self, name: str) -> Pool:
        if name not in self._pools:
            self._start()
            pool = Pool(name, self.size(name))
            pool.make_room = partial(self._release_all_but, name)
            self._cleanup.callback(pool.close)
            self._pools[name] = pool
        return self._pools[name]

    def _release_all_but(self, name: str) -> None:
        for other in self._pools.values():
            if other.name != name:
                other.release()

    def size(self, name: str) -> PoolSize:
        """The size of a pool; connects first where the cluster decides it."""
        if self.settings.fit:
            self._start()
            self.settings = self.settings.fit(ray.cluster_resources())
        return cast(PoolSize, getattr(self.settings, name))

    def close(self) -> None:
        """End the hosts, and Ray if this object started it."""
        self._pools.clear()
        self._cleanup.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        if ray.is_initialized():
            return
        for name, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self.settings.address:
            join(self.settings.address)
            self._cleanup.callback(ray.shutdown)
        else:
            # The pools take turns, but an idle one keeps its processes: there must be room for both.
            slots = self.settings.embed.hosts * self.settings.embed.cpus
            slots += self.settings.layers.hosts * self.settings.layers.cpus
            self._cleanup.enter_context(private_ray(int(slots) + 1))
