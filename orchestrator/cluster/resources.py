"""The resources one replica takes of a Ray cluster, and which nodes have them free.

A replica takes the same of each of its nodes. Nearly all have one; an engine whose GPUs no node has all of is
spread over as few as can hold them.
"""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.config.schema import ReplicaConfig
from orchestrator.engines.kind import EngineKind

CPUS_BESIDE_A_GPU = 4
SECONDS_BETWEEN_LOOKS = 5.0
NODE_ID = "ray.io/node-id"  # a label that Ray gives to every node
_ROUNDING = 1e-9

Placed = tuple[Collection[str], "ReplicaResources"]
"""A placed replica: the IDs of its nodes (none until Ray has chosen them), and the resources it takes."""


@dataclass(frozen=True)
class ReplicaResources:
    """What one replica takes of each of its nodes."""

    cpus: float
    gpus: float
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)  # custom ones of Ray, by name
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)  # that the node must have
    nodes: int = 1  # how many it runs on
    avoided: frozenset[str] = frozenset()  # IDs of nodes that are not to be among them

    def actor_options(self) -> dict[str, Any]:
        """As options of a Ray actor."""
        further = {"resources": dict(self.resources), "label_selector": self.selector}
        further = {name: value for name, value in further.items() if value}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, **further}

    @cached_property
    def selector(self) -> dict[str, str]:
        """The labels as Ray selects nodes by them."""
        avoided = {NODE_ID: f"!in({','.join(sorted(self.avoided))})"} if self.avoided else {}
        return {**self.labels, **avoided}

    @cached_property
    def amounts(self) -> dict[str, float]:
        """Amounts above zero by Ray's names."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in amounts.items() if amount}

    def __str__(self) -> str:
        wants = [f"{amount:g} {name}" for name, amount in self.amounts.items()]
        wants += [f"the label {name}={value}" for name, value in self.labels.items()]
        where = "" if self.nodes == 1 else f" on each of {self.nodes} nodes"
        if self.avoided:
            where += f", not on {' or '.join(sorted(name[:8] for name in self.avoided))}"
        return ", ".join(wants) + where


@dataclass(frozen=True)
class Node:
    """A living node of the Ray cluster: its ID, its total resources and its labels."""

    name: str
    amounts: dict[str, float]
    labels: Mapping[str, str]

    def __str__(self) -> str:
        own = {"memory", "object_store_memory"}  # and names with a colon tell nodes and accelerators apart
        countable = [name for name in self.amounts if name not in own and ":" not in name]
        names = sorted(countable, key=lambda name: (name not in {"CPU", "GPU"}, name))
        return ", ".join(f"{self.amounts[name]:g} {name}" for name in names) or "nothing"


class Placement:
    """The place of one replica: on several nodes a placement group, which Ray grants whole or not at all."""

    def __init__(self, resources: ReplicaResources) -> None:
        self.resources = resources
        self._group = None
        if resources.nodes > 1:
            self._group = placement_group(
                [dict(resources.amounts)] * resources.nodes,
                strategy="STRICT_SPREAD",
                bundle_label_selector=[resources.selector] * resources.nodes if resources.selector else None,
            )

    def actor_options(self, rank: int) -> dict[str, Any]:
        """Options of the actor on one of the nodes."""
        options = self.resources.actor_options()
        if self._group is not None:
            options.pop("label_selector", None)  # the group's bundles have it
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._group, rank)
        return options

    def reserved(self) -> Sequence[str]:
        """Ray's IDs of the nodes that are reserved, by rank; empty until they are, and where none are."""
        if self._group is None:
            return ()
        table = placement_group_table(self._group)
        nodes = table["bundles_to_node_id"]
        return tuple(nodes[rank] for rank in sorted(nodes)) if table["state"] == "CREATED" else ()

    def free(self) -> None:
        """Give the nodes back; actors that are still there are killed."""
        if self._group is not None:
            with suppress(RayError):  # the Ray cluster is gone, and the group with it
                remove_placement_group(self._group)


@contextmanager
def autoscaling_request(replicas: Sequence[ReplicaResources], count: int | None) -> Iterator[None]:
    """Ask Ray's autoscaler, if there is one, to make room for replicas; withdraw the request at the end.

    Of what the replicas of each variant take the largest is asked for, `count` times; None asks for nothing.
    """
    if count is None:
        yield
        return
    largest = max(replicas, key=lambda one: (one.nodes * one.gpus, one.nodes * one.cpus))
    whole = {name: int(amount) if amount.is_integer() else amount for name, amount in largest.amounts.items()}
    bundles = [whole] * (count * largest.nodes)
    labels = {"bundle_label_selectors": [dict(largest.labels)] * len(bundles)} if largest.labels else {}
    request_resources(bundles=bundles, **labels)
    try:
        yield
    finally:
        with suppress(RayError, RuntimeError, OSError):  # the Ray cluster is gone, and the request with it
            request_resources(bundles=[])


class Nodes:
    """The live nodes, listed again every few seconds, so that nodes that join or leave are noticed."""

    def __init__(self) -> None:
        self._lost: dict[str, float] = {}  # when it was noticed
        self._nodes: list[Node] = []
        self._look()

    def now(self) -> list[Node]:
        """The nodes as of at most `SECONDS_BETWEEN_LOOKS` ago."""
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._look()
        return self._nodes

    def lost_since(self, moment: float) -> set[str]:
        """IDs of the nodes found dead after a moment of the monotonic clock, or right now."""
        self._look()
        return {name for name, noticed in self._lost.items() if noticed > moment}

    def _look(self) -> None:
        living = [node for node in ray.nodes() if node["Alive"]]
        nodes = [Node(node["NodeID"], node["Resources"], node.get("Labels") or {}) for node in living]
        self._looked = time.monotonic()
        for name in {node.name for node in self._nodes} - {node.name for node in nodes}:
            self._lost[name] = self._looked
        self._nodes = nodes

    def have_room(self, wanted: ReplicaResources, placed: Sequence[Placed]) -> bool:
        """Whether one more replica fits in addition to those already placed."""
        return has_room(self.now(), wanted, placed)


def has_room(nodes: Sequence[Node], wanted: ReplicaResources, placed: Sequence[Placed]) -> bool:
    """Whether one more replica fits in addition to those already placed.

    Replicas for which Ray has not chosen nodes yet are assumed to go where the least is left, the largest
    first.
    """
    free = {node.name: Node(node.name, dict(node.amounts), node.labels) for node in nodes}
    for names, taken in placed:
        for name in free.keys() & set(names):
            _take(taken, free[name])
    pending = Counter(taken for names, taken in placed if not names)
    for one in sorted(pending, key=lambda one: (-one.nodes, -one.gpus, -one.cpus, -len(one.labels))):
        _place(one, pending[one], free.values())
    fitting = (node for node in free.values() if _fits(wanted, node))
    return len(list(islice(fitting, wanted.nodes))) == wanted.nodes


def _place(one: ReplicaResources, count: int, nodes: Iterable[Node]) -> None:
    """Take what replicas need from the nodes, as long as they fit, and where the least is left first."""
    order = deque(sorted(nodes, key=lambda node: sum(node.amounts.get(kind, 0) for kind in one.amounts)))
    while count and len(order) >= one.nodes:
        chosen = list(islice(order, one.nodes))
        too_small = [node for node in chosen if not _fits(one, node)]
        for node in too_small:
            order.remove(node)
        if not too_small:
            for node in chosen:
                _take(one, node)
            count -= 1


def _take(taken: ReplicaResources, node: Node) -> None:
    for kind, amount in taken.amounts.items():
        node.amounts[kind] = node.amounts.get(kind, 0) - amount


def _fits(wanted: ReplicaResources, node: Node) -> bool:
    return (
        node.name not in wanted.avoided
        and all(node.labels.get(label) == value for label, value in wanted.labels.items())
        and all(node.amounts.get(kind, 0) + _ROUNDING >= amount for kind, amount in wanted.amounts.items())
    )


def why_unschedulable(wanted: ReplicaResources, nodes: Sequence[Node]) -> str | None:
    """Why a replica does not even fit on empty nodes; None if it fits."""
    fitting = sum(_fits(wanted, node) for node in nodes)
    if fitting >= wanted.nodes:
        return None
    largest = max(
        nodes, key=lambda node: (node.amounts.get("GPU", 0), node.amounts.get("CPU", 0)), default=None
    )
    there = f"the largest node has {largest}" if largest else "the cluster has no nodes"
    if wanted.nodes == 1:
        return f"a replica needs {wanted} on one node; {there}"
    having = {0: "no node has", 1: "only 1 node has"}.get(fitting, f"only {fitting} nodes have")
    return f"a replica needs {wanted}, and {having} that; {there}"


def replica_resources(cluster: ReplicaConfig, kind: EngineKind, nodes: Sequence[Node]) -> ReplicaResources:
    """What a replica of this kind takes of a Ray cluster with these nodes.

    Without GPUs a replica takes all CPUs of a node: Ray sets the engine's threads to that number, and two
    engines on the same cores are slower than one. A served model needs one CPU here, for sending and scoring.
    """
    gpus, cpus = cluster.gpus_per_replica, cluster.cpus_per_replica
    if kind.served:
        return ReplicaResources(cpus or 1.0, gpus or 0.0, cluster.resources, cluster.labels)
    if gpus is None:
        has_gpus = any(node.amounts.get("GPU", 0) for node in nodes)
        gpus = float(kind.gpus if has_gpus else 0)
    if cpus is None:
        cpus = CPUS_BESIDE_A_GPU if gpus else max((node.amounts.get("CPU", 1) for node in nodes), default=1)
    besides = ReplicaResources(float(cpus), 0.0, cluster.resources, cluster.labels)
    count = cluster.nodes_per_replica or 1
    if cluster.nodes_per_replica is None and kind.spans_nodes:
        fitting = [node for node in nodes if _fits(besides, node)] or nodes
        sizes = [node.amounts.get("GPU", 0) for node in fitting]
        largest = max(sizes, default=0)
        if gpus > max(largest, 1):  # over as few nodes as can hold it evenly; on one if none can
            counts = [many for many in range(2, int(gpus) + 1) if gpus % many == 0 and gpus / many <= largest]
            enough = (many for many in counts if sum(size >= gpus / many for size in sizes) >= many)
            count = next(enough, counts[0] if counts else 1)
    return replace(besides, gpus=gpus / count, nodes=count)
