"""Engines that need more GPUs than a node has: how many nodes they take, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from ray.exceptions import RayTaskError
from standin.fake_ray import work_of

from orchestrator.cluster import resources
from orchestrator.cluster.resources import (
    Node,
    ReplicaResources,
    has_room,
    replica_resources,
    why_unschedulable,
)
from orchestrator.config.load import resolve
from orchestrator.config.schema import ReplicaConfig, SweepConfig
from orchestrator.engines import kind_of, vllm_kind
from orchestrator.engines.base import EngineOptionError, EngineSpec
from orchestrator.rundir.identity import Item, Rerun
from orchestrator.rundir.progress import SweepProgress, VariantProgress
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.prepare import engine_problems
from orchestrator.workers import dispatcher, replica_slots
from orchestrator.workers.replica_slots import ReplicaSlots


def gpu_nodes(*gpus):
    """A node for each number of GPUs."""
    return [Node(f"node-{index}", {"CPU": 64.0, "GPU": float(count)}, {}) for index, count in enumerate(gpus)]


def vllm(**options):
    """Options of a vLLM engine."""
    return {"kind": "vllm", **options}


def taken_of(engine, nodes, config=None):
    """What a replica with engine options takes of some nodes."""
    return replica_resources(config or ReplicaConfig(), kind_of(EngineSpec("m", options=engine)), nodes)


@pytest.mark.parametrize(
    ("engine", "gpus", "nodes", "each"),
    [
        ({"tensor_parallel_size": 8}, (8, 8), 1, 8),
        ({"tensor_parallel_size": 16}, (8, 8), 2, 8),
        ({"tensor_parallel_size": 8, "pipeline_parallel_size": 2}, (8, 8, 8), 2, 8),
        ({"tensor_parallel_size": 6}, (4, 4), 2, 3),
        ({"tensor_parallel_size": 12}, (8, 4, 4), 3, 4),
        ({"tensor_parallel_size": 16}, (8, 4), 2, 8),
        ({"tensor_parallel_size": 4}, (0, 0), 1, 0),
        ({}, (1, 1), 1, 1),
    ],
)
def test_an_engine_takes_as_few_nodes_as_can_hold_its_gpus(engine, gpus, nodes, each):
    """With the same number on each; without GPUs one node is enough."""
    taken = taken_of(vllm(**engine), gpu_nodes(*gpus))
    assert (taken.nodes, taken.gpus) == (nodes, each)


def test_the_number_of_nodes_may_be_set():
    """Then it is taken, also where one node would do and where there are no GPUs."""
    config = ReplicaConfig(nodes_per_replica=2, cpus_per_replica=3)
    engine = vllm(tensor_parallel_size=4)
    assert taken_of(engine, gpu_nodes(8, 8), config) == ReplicaResources(3, 2, nodes=2)
    assert taken_of(engine, gpu_nodes(0, 0), config) == ReplicaResources(3, 0, nodes=2)


def test_only_nodes_with_the_labels_count():
    """A larger node without them is no place for the replica."""
    nodes = [
        Node("other", {"CPU": 64.0, "GPU": 8.0}, {}),
        *(Node(name, {"CPU": 64.0, "GPU": 4.0}, {"card": "h"}) for name in ("first", "second")),
    ]
    taken = taken_of(vllm(tensor_parallel_size=8), nodes, ReplicaConfig(labels={"card": "h"}))
    assert (taken.nodes, taken.gpus) == (2, 4)
    assert why_unschedulable(taken, nodes) is None


def test_other_engines_stay_on_one_node():
    """What one node cannot hold is refused for them."""
    engine = {"kind": "lm-eval:hf", "tensor_parallel_size": 16}
    taken = taken_of(engine, gpu_nodes(8, 8))
    assert (taken.nodes, taken.gpus) == (1, 16)
    assert "on one node; the largest node has 64 CPU, 8 GPU" in why_unschedulable(taken, gpu_nodes(8, 8))


SPREAD = ReplicaResources(4, 8, nodes=2)


@pytest.mark.parametrize(
    ("placed", "room"),
    [
        ([], True),
        ([(("node-0",), ReplicaResources(4, 1))], True),
        ([(("node-0",), ReplicaResources(4, 1)), (("node-1",), ReplicaResources(4, 1))], False),
        ([(("node-0", "node-2"), SPREAD)], False),
        ([((), SPREAD)], False),
        ([((), ReplicaResources(4, 8))], True),
        ([((), ReplicaResources(4, 4)), ((), ReplicaResources(4, 4))], True),
    ],
)
def test_room_is_needed_on_several_nodes_at_once(placed, room):
    """Two of the three must be free; what Ray has not placed yet is assumed to share a node if it can."""
    assert has_room(gpu_nodes(8, 8, 8), SPREAD, placed) is room


def test_avoided_nodes_have_no_room(monkeypatch):
    """Neither for one node nor among several; Ray is told by the label that every node has."""
    elsewhere = replace(SPREAD, labels={"card": "h"}, avoided=frozenset({"node-1", "node-2"}))
    nodes = [replace(node, labels={"card": "h"}) for node in gpu_nodes(8, 8, 8)]
    assert not has_room(nodes, elsewhere, [])
    assert has_room(nodes, replace(elsewhere, nodes=1), [])
    assert str(elsewhere).endswith("on each of 2 nodes, not on node-1 or node-2")
    selector = {"card": "h", "ray.io/node-id": "!in(node-1,node-2)"}
    assert elsewhere.actor_options()["label_selector"] == selector
    group = MagicMock()
    monkeypatch.setattr(resources, "placement_group", group)
    resources.Placement(elsewhere)
    assert group.call_args.kwargs["bundle_label_selector"] == [selector] * 2


@pytest.mark.parametrize(
    ("first", "failures", "node"),
    [
        ("0", {"0": OSError("reset"), "1": OSError("reset")}, "x"),
        ("1", {"1": OSError("reset")}, "y"),
        ("0", {"0": OSError("reset"), "1": EngineOptionError("no such kernel")}, "y"),
    ],
)
def test_the_node_whose_part_tells_most_is_the_one_that_failed(monkeypatch, first, failures, node):
    """The first to fail, unless another one refuses."""

    def get(part):
        raise RayTaskError("load", "traceback", failures[part])

    fake = SimpleNamespace(
        wait=lambda parts, **_: ([part for part in parts if part in failures], []), get=get
    )
    monkeypatch.setattr(dispatcher, "ray", fake)
    slot = SimpleNamespace(parts=("0", "1"), nodes=("x", "y"))
    error = RayTaskError("load", "traceback", failures[first])
    assert dispatcher._most_telling(first, error, slot) == (failures.get("1" if node == "y" else first), node)


def test_what_too_few_nodes_can_hold_is_named():
    """With how many nodes would do, and what the largest has."""
    assert why_unschedulable(SPREAD, gpu_nodes(8, 8)) is None
    assert why_unschedulable(SPREAD, gpu_nodes(8, 4)) == (
        "a replica needs 4 CPU, 8 GPU on each of 2 nodes, and only 1 node has that; "
        "the largest node has 64 CPU, 8 GPU"
    )


def problems_of(engine, cluster):
    """Mistakes in a sweep of one variant."""
    config = SweepConfig.model_validate(
        {
            "name": "s",
            "baseline": "base",
            "model": "m",
            "tasks": ["t"],
            "variants": {"base": {"engine": engine, "cluster": cluster}},
        }
    )
    return list(engine_problems(resolve(config)["base"], config.prompt))


@pytest.mark.parametrize(
    ("engine", "nodes", "problem"),
    [
        ({"kind": "lm-eval:hf"}, 2, "an engine of the installed lm-eval:<model class> runs on one node only"),
        (vllm(tensor_parallel_size=3), 2, "2 nodes cannot share 3 workers evenly"),
        (vllm(), 2, "2 nodes cannot share 1 worker evenly"),
        (
            vllm(nnodes=2),
            None,
            "nnodes is set by lldeg: remove it, and set cluster.nodes_per_replica instead",
        ),
    ],
)
def test_impossible_spreads_are_refused_before_anything_starts(engine, nodes, problem):
    """Each with one sentence."""
    (found,) = problems_of(engine, {"nodes_per_replica": nodes})
    assert problem in found


def test_gpus_and_workers_must_agree_over_nodes():
    """Half a GPU on each node would be possible for Ray, and not for the engine."""
    cluster = {"nodes_per_replica": 2, "gpus_per_replica": 1}
    (found,) = problems_of(vllm(tensor_parallel_size=2), cluster)
    assert "gpus_per_replica: an engine over 2 nodes takes a GPU for each of its 2 workers" in found


def test_an_old_vllm_stays_on_one_node(monkeypatch):
    """It has no option for several."""
    monkeypatch.setattr(vllm_kind, "vllm_options", lambda: frozenset({"tensor_parallel_size"}))
    engine = vllm(tensor_parallel_size=16)
    assert taken_of(engine, gpu_nodes(8, 8)).nodes == 1
    assert problems_of(engine, {"nodes_per_replica": 2})
    elsewhere = {**engine, "python": "/env/bin/python"}
    assert taken_of(elsewhere, gpu_nodes(8, 8)).nodes == 2


def test_each_node_is_told_which_it_is():
    """By vLLM's own options; another executor than its multiprocessing one is refused."""
    group = 2, "10.0.0.1", 29500
    spec = EngineSpec("m", options=vllm(tensor_parallel_size=16))
    assert kind_of(spec).on_node(group, 1).spec.arguments == {
        "tensor_parallel_size": 16,
        "distributed_executor_backend": "mp",
        "nnodes": 2,
        "node_rank": 1,
        "master_addr": "10.0.0.1",
        "master_port": 29500,
    }
    other = EngineSpec("m", options=vllm(distributed_executor_backend="ray"))
    with pytest.raises(EngineOptionError, match="must be mp"):
        kind_of(other).on_node(group, 1)


class Place:
    """Several nodes that Ray never finds."""

    def __init__(self, resources):
        self.resources, self.is_free = resources, False

    def actor_options(self, _):
        """None are needed."""
        return {}

    def reserved(self):
        """None."""
        return ()

    def free(self):
        """Note it."""
        self.is_free = True


def test_a_replica_whose_nodes_are_not_found_is_withdrawn(monkeypatch):
    """It is no failed load; what waits for room is told as for any other replica."""
    monkeypatch.setattr(replica_slots, "ray", MagicMock())
    monkeypatch.setattr(replica_slots, "Placement", Place)
    progress, events = SweepProgress({"a": VariantProgress(planned=1)}), []
    cluster = SimpleNamespace(have_room=lambda *_: True)
    block = Block("a", "t", "c", (Item(0, "d", "p"),), (Rerun(0.0),))
    work = work_of("a", [block], ReplicaResources(1, 8, nodes=2))
    slots = ReplicaSlots([work], max_replicas=1, nodes=cluster, progress=progress, log=events.append)
    slots.fill(())
    (slot,) = slots
    slots.settle()
    assert list(slots) == [slot]
    monkeypatch.setattr(replica_slots, "SECONDS_TO_RESERVE", 0)
    slots.settle()
    assert not slots
    assert slot.place.is_free
    assert [event["event"] for event in events] == ["started", "not placed"]
    assert not work.failed_loads.failed
    assert slots.may_find_room()
    assert progress.waiting.endswith("needs 1 CPU, 8 GPU on each of 2 nodes")


@pytest.mark.parametrize(("has_node", "events"), [(True, ["started"]), (False, ["started", "not placed"])])
def test_a_replica_that_no_living_node_can_take_does_not_wait_long(monkeypatch, has_node, events):
    """A node may die while a replica that avoids all others is meant for it; a busy node is waited for."""
    monkeypatch.setattr(replica_slots, "ray", MagicMock())
    monkeypatch.setattr(replica_slots, "Placement", Place)
    monkeypatch.setattr(replica_slots, "SECONDS_TO_RESERVE", 0)
    progress, logged = SweepProgress({"a": VariantProgress(planned=1)}), []
    rooms = iter([True, has_node])  # when it is started, and when it is looked after
    cluster = SimpleNamespace(have_room=lambda *_: next(rooms))
    block = Block("a", "t", "c", (Item(0, "d", "p"),), (Rerun(0.0),))
    work = work_of("a", [block], ReplicaResources(1, 0, avoided=frozenset({"x"})))
    slots = ReplicaSlots([work], max_replicas=1, nodes=cluster, progress=progress, log=logged.append)
    slots.fill(())
    slots.settle()
    assert [event["event"] for event in logged] == events
