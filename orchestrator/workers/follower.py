"""The part of a replica that runs on another node than its engine's first."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import psutil
import ray

from orchestrator.cluster.process_group import end_children_with_this_process
from orchestrator.config.environment import set_library_environment
from orchestrator.engines import kind_of
from orchestrator.engines.base import EngineDiedError, NodeGroup
from orchestrator.rundir.store import RunStore, replica_log_name
from orchestrator.workers.replica_log import keep_log

if TYPE_CHECKING:
    from orchestrator.engines.base import EngineSpec
    from orchestrator.workers.replica import Job


def form_group(nodes: int) -> NodeGroup:
    """The group that this node leads: called in the replica, whose followers get it as their argument."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return NodeGroup(nodes, ray.util.get_node_ip_address(), port)


def on_this_node(spec: EngineSpec, group: NodeGroup, rank: int) -> EngineSpec:
    """What this node of a group loads or follows; engines then listen at the address that Ray uses.

    Raises:
        EngineOptionError: the engine cannot be spread over nodes with these options.
    """
    address = ray.util.get_node_ip_address()
    os.environ["VLLM_HOST_IP"] = address
    if interface := _interface_of(address):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    return kind_of(spec.options).on_node(spec, group, rank)


def _interface_of(address: str) -> str | None:
    """The network interface with an address; gloo would take the one of the host's name, often a loopback."""
    return next(
        (name for name, held in psutil.net_if_addrs().items() if any(one.address == address for one in held)),
        None,
    )


class Follower:
    """The workers of an engine on one more node; they take their work from the first node, not from here.

    Args:
        job: that of the replica.
        number: that of the replica.
        rank: which of the replica's nodes this is; the first has 0.
    """

    def __init__(self, job: Job, number: int, rank: int) -> None:
        end_children_with_this_process()
        set_library_environment()
        self._job, self._rank = job, rank
        name = replica_log_name(number, f"{job.variant}-node-{rank}")
        self._end_log = keep_log(RunStore(job.store_url, must_answer=False), name)

    def follow(self, group: NodeGroup) -> None:
        """Run the workers for as long as they live.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
            EngineDiedError: they have ended; without them the engine cannot go on.
        """
        try:
            spec = on_this_node(self._job.engine, group, self._rank)
            kind_of(spec.options).follow(spec, gpus=self._job.gpus)
        finally:
            self._end_log()
        raise EngineDiedError(f"its workers on node {ray.get_runtime_context().get_node_id()[:8]} ended")
