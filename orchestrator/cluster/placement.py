"""Where the actors of one replica go: to a node that Ray chooses, or to several, all at once or none."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayError
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cluster.resources import ReplicaResources


class Placement:
    """The place of one replica: on several nodes a placement group, which Ray grants whole or not at all.

    Args:
        resources: what the replica takes of each of its nodes.
    """

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
