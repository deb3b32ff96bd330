"""What a replica takes of a Ray cluster, and where it fits."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from orchestrator.engines import is_served

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.config.schema import ReplicaConfig

    Seated = tuple[str | None, "Footprint"]
    """A replica that takes up room: its node's name, None as long as Ray looks for one, and its size."""

CPUS_BESIDE_A_GPU = 4
SECONDS_BETWEEN_LOOKS = 5.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Footprint:
    """What one replica takes of a node.

    Attributes:
        resources: custom resources of Ray by name.
        labels: labels a node must have.
    """

    cpus: float
    gpus: float
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def actor_options(self) -> dict[str, Any]:
        """As options of a Ray actor."""
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if self.resources:
            options["resources"] = dict(self.resources)
        if self.labels:
            options["label_selector"] = dict(self.labels)
        return options

    @cached_property
    def amounts(self) -> dict[str, float]:
        """What it takes, by Ray's names; nothing it takes none of."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in amounts.items() if amount}

    def __str__(self) -> str:
        wants = [f"{amount:g} {name}" for name, amount in self.amounts.items()]
        wants += [f"the label {name}={value}" for name, value in self.labels.items()]
        return ", ".join(wants)


@dataclass(frozen=True)
class Node:
    """A living node of the cluster: what it has, and its labels."""

    name: str
    amounts: Mapping[str, float]
    labels: Mapping[str, str]

    def __str__(self) -> str:
        countable = filter(_is_countable, self.amounts)  # Ray tells them in any order
        names = sorted(countable, key=lambda name: (name not in {"CPU", "GPU"}, name))
        return ", ".join(f"{self.amounts[name]:g} {name}" for name in names) or "nothing"


def _is_countable(name: str) -> bool:
    """Not memory, nor the resources by which Ray tells nodes and accelerators apart."""
    return name not in {"memory", "object_store_memory"} and ":" not in name


def living_nodes() -> list[Node]:
    """The nodes of the cluster that was joined."""
    return [
        Node(node["NodeID"], node["Resources"], node.get("Labels") or {})
        for node in ray.nodes()
        if node["Alive"]
    ]


@contextmanager
def wanted_places(sizes: Sequence[Footprint], count: int | None) -> Iterator[None]:
    """Ask Ray's autoscaler, where there is one, for room for so many replicas, for as long as this lasts.

    Args:
        sizes: of the replicas; the largest is asked for.
        count: None asks for nothing.
    """
    largest = max(sizes, key=lambda size: (size.gpus, size.cpus))
    whole = {name: int(amount) if amount.is_integer() else amount for name, amount in largest.amounts.items()}
    if count is not None:
        request_resources(bundles=[whole] * count)
    try:
        yield
    finally:
        with suppress(RayError, RuntimeError, OSError):  # the cluster is gone, and the wish with it
            if count is not None:
                request_resources(bundles=[])


class Nodes:
    """The living nodes, looked up anew every few seconds, so that those that join or leave are noticed."""

    def __init__(self) -> None:
        self._lost: dict[str, float] = {}  # when it was noticed
        self._nodes = living_nodes()
        self._looked = time.monotonic()

    def now(self) -> list[Node]:
        """The nodes, seconds old at most."""
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._look()
        return self._nodes

    def lost_since(self, moment: float) -> set[str]:
        """Names of the nodes that live no more, as far as that was noticed after a moment or is right now."""
        self._look()
        return {name for name, noticed in self._lost.items() if noticed > moment}

    def _look(self) -> None:
        nodes, self._looked = living_nodes(), time.monotonic()
        for name in {node.name for node in self._nodes} - {node.name for node in nodes}:
            self._lost[name] = self._looked
        self._nodes = nodes

    def room(self, size: Footprint, seated: Sequence[Seated]) -> bool:
        """Whether one more replica finds room beside those that sit there."""
        return has_room(self.now(), size, seated)


def has_room(nodes: Sequence[Node], size: Footprint, seated: Sequence[Seated]) -> bool:
    """Whether one more replica finds room beside those that sit there.

    Those without a node yet are put where the least is left, the largest first.
    """
    free = {node.name: dict(node.amounts) for node in nodes}
    labels = {node.name: node.labels for node in nodes}
    for name, taken in seated:
        if name in free:
            _take(taken, free[name])
    looking = Counter(taken for name, taken in seated if name is None)
    for wanted in sorted(looking, key=lambda one: (-one.gpus, -one.cpus, -len(one.labels))):
        for name in sorted(free, key=lambda name: sum(free[name].get(kind, 0) for kind in wanted.amounts)):
            while looking[wanted] and _fits(wanted, free[name], labels[name]):
                _take(wanted, free[name])
                looking[wanted] -= 1
    return any(_fits(size, free[name], labels[name]) for name in free)


def _take(size: Footprint, amounts: dict[str, float]) -> None:
    for kind, amount in size.amounts.items():
        amounts[kind] = amounts.get(kind, 0) - amount


def _fits(size: Footprint, amounts: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in size.labels.items()) and all(
        amounts.get(kind, 0) + _ROUNDING >= amount for kind, amount in size.amounts.items()
    )


def misfit(size: Footprint, nodes: Sequence[Node]) -> str | None:
    """Why a replica fits on no node, or None if it does."""
    if any(_fits(size, node.amounts, node.labels) for node in nodes):
        return None
    largest = max(
        nodes, key=lambda node: (node.amounts.get("GPU", 0), node.amounts.get("CPU", 0)), default=None
    )
    there = f"the largest has {largest}" if largest else "there is no node"
    return f"a replica needs {size} on one node; {there}"


def footprint(cluster: ReplicaConfig, engine: Mapping[str, Any], nodes: Sequence[Node]) -> Footprint:
    """What a replica with these engine options takes of the cluster at hand.

    Without GPUs a replica takes a whole node's CPUs: Ray tells the engine's threads by that number, and two
    engines on the same cores are slower than one. A served model needs one CPU here, for sending and scoring.
    """
    if is_served(engine):
        return Footprint(
            cluster.cpus_per_replica or 1.0,
            cluster.gpus_per_replica or 0.0,
            cluster.resources,
            cluster.labels,
        )
    has_gpus = any(node.amounts.get("GPU", 0) for node in nodes)
    parallel = int(engine.get("tensor_parallel_size", 1)) * int(engine.get("pipeline_parallel_size", 1))
    gpus = cluster.gpus_per_replica
    if gpus is None:
        gpus = float(parallel if has_gpus else 0)
    cpus = cluster.cpus_per_replica
    if cpus is None:
        cpus = CPUS_BESIDE_A_GPU if gpus else max((node.amounts.get("CPU", 1) for node in nodes), default=1)
    return Footprint(float(cpus), gpus, cluster.resources, cluster.labels)
