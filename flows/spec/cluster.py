"""The Ray cluster of a spec. It changes no result and no digest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_serializer

from flows.spec.fields import Name, SpecPart


class PoolSpec(SpecPart):
    """Worker processes of one kind, and the resources that each reserves."""

    hosts: int = Field(0, ge=0, le=10_000, description="number of processes; 0 = as many as fit on the cluster")
    cpus: float = Field(1.0, gt=0, le=1024, description="cores per process")
    gpus: float = Field(0.0, ge=0, le=64, description="GPUs per process; 0.5 = two share one")


class ClusterSpec(SpecPart):
    """A Ray cluster that runs the stages as jobs."""

    ray: Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$", max_length=2000)] = Field(
        description="the Jobs API of its head, for example http://head:8265"
    )
    namespace: Name | None = Field(None, description="Ray namespace of the jobs")
    runtime_env: dict[str, Any] = Field(
        {},
        repr=False,
        description="Ray runtime environment, for example {env_vars: {…}}; a secret by name: env:NAME or file:PATH",
    )
    token: Annotated[str, StringConstraints(pattern=r"^(env|file):.+$", max_length=2000)] | None = Field(
        None, description="where Ray's token is: env:NAME or file:PATH; left out: RAY_AUTH_TOKEN, if set"
    )
    embed: PoolSpec = Field(PoolSpec(cpus=4), description="workers that embed: {hosts, cpus, gpus}")
    layers: PoolSpec = Field(PoolSpec(), description="workers for one layer's search and scores: {hosts, cpus}")

    @field_serializer("runtime_env", when_used="json")
    def _without_values(self, runtime_env: dict[str, Any]) -> dict[str, Any]:
        """Only names: Prefect keeps the JSON of a flow's parameters, and others may read it.

        What the values of ``pip``, ``working_dir`` and the like name may hold a password too.
        """
        return {name: sorted(value or ()) if name == "env_vars" else "…" for name, value in runtime_env.items()}
