"""Ray: joining or starting a cluster, and how many replicas fit on it."""

from __future__ import annotations

import logging
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from orchestrator.errors import UserError
from orchestrator.quiet import be_quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.config import ClusterConfig

CPUS_BESIDE_A_GPU = 4


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Join the Ray cluster at an address, or start one on this machine; leave it at the end.

    Raises:
        UserError: there is no cluster at the address.
    """
    be_quiet()
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets anything else slow the engines down
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": os.cpu_count()}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"There is no Ray cluster to be reached at {address or 'this machine'}: {error}."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Footprint:
    """Ray resources of one replica."""

    cpus: float
    gpus: float

    def places(self, replicas: int | str) -> int:
        """How many replicas may run at once.

        Args:
            replicas: a number, or "auto" for as many as the cluster holds.

        Raises:
            UserError: not even one fits on any node.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fitting = sum(self._fit(node) for node in nodes)
        if fitting == 0:
            nothing: dict[str, float] = {}
            largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default=nothing)
            raise UserError(
                f"A replica needs {self.cpus:g} CPUs and {self.gpus:g} GPUs on one node; the largest has "
                f"{largest.get('CPU', 0):g} CPUs and {largest.get('GPU', 0):g} GPUs."
            )
        return fitting if replicas == "auto" else min(int(replicas), fitting)

    def _fit(self, node: dict[str, float]) -> int:
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return min(math.floor(node.get(kind, 0) / amount + 1e-9) for kind, amount in wanted.items() if amount)


def footprint(cluster: ClusterConfig, engine: dict[str, Any]) -> Footprint:
    """Resources of a replica with these engine options on the cluster at hand.

    Without GPUs a replica takes a whole node's CPUs: Ray tells the engine's threads by that number, and two
    engines on the same cores are slower than one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(node.get("GPU", 0) for node in nodes)
    parallel = int(engine.get("tensor_parallel_size", 1)) * int(engine.get("pipeline_parallel_size", 1))
    gpus = (
        cluster.gpus_per_replica
        if cluster.gpus_per_replica is not None
        else float(parallel if has_gpus else 0)
    )
    if cluster.cpus_per_replica is not None:
        cpus = cluster.cpus_per_replica
    elif gpus:
        cpus = float(CPUS_BESIDE_A_GPU)
    else:
        cpus = max(float(node.get("CPU", 1)) for node in nodes)
    return Footprint(cpus, gpus)
