"""Processes that load one model after the other, on a fake Ray."""

from dataclasses import replace

import pytest
from standin.fake_ray import FakeRay, ReplicaKilledError, work_of
from test_dispatch import Outcome, cut

from orchestrator.cluster.resources import ReplicaResources
from orchestrator.engines import vllm_kind
from orchestrator.engines.base import EngineOptionError
from orchestrator.workers.replica_slots import VariantWork


def work():
    """Of three variants."""
    return {"a": cut("a", 5, 4), "b": cut("b", 4, 4), "c": cut("c", 3, 4)}


def numbers(outcome, event, key="replica"):
    """What the events of a kind tell."""
    return [one.get(key) for one in outcome.events if one["event"] == event]


def test_one_process_loads_all_variants():
    """One after the other, on its node; every sample is written once."""
    ray = FakeRay(on_close=lambda _: True)
    outcome = Outcome(ray, work())
    assert ray.loads == ["a", "b", "c"]
    assert numbers(outcome, "started", "process_of") == [None, 1, 2]
    assert outcome.nodes == {"node-of-1"}
    assert outcome.written == outcome.planned
    assert ray.alive == []


@pytest.mark.parametrize("frees", [True, False])
def test_others_get_a_process_of_their_own(frees, monkeypatch):
    """If they have not enough in common with the last one, or that has left something behind."""
    if frees:
        monkeypatch.setattr(VariantWork, "process", property(lambda work: work.job.variant.name))
    ray = FakeRay(on_close=lambda _: frees)
    outcome = Outcome(ray, work())
    assert numbers(outcome, "started", "process_of") == [None] * 3
    assert (ray.most_alive, ray.alive) == (1, [])
    assert outcome.written == outcome.planned


@pytest.mark.parametrize("error", [EngineOptionError("no"), ReplicaKilledError()])
def test_a_load_that_fails_in_a_used_process_is_tried_in_a_new_one(error):
    """What the last model left there may be why: nothing is refused, and no node suspected."""

    def on_load(replica):
        if replica.used and replica.variant == "b":
            raise error

    ray = FakeRay(on_close=lambda _: True, on_load=on_load)
    outcome = Outcome(ray, work())
    assert ray.loads == ["a", "b", "b", "c"]
    assert numbers(outcome, "started again") == [2]
    assert numbers(outcome, "started", "process_of") == [None, 1, None, 3]
    assert (outcome.progress.notes, outcome.written, ray.alive) == ([], outcome.planned, [])


def test_a_model_that_is_refused_in_a_new_process_too_is_refused():
    """The first load of it proves nothing, the second does."""

    def on_load(replica):
        if replica.variant == "b":
            raise EngineOptionError("no")

    ray = FakeRay(on_close=lambda _: True, on_load=on_load)
    outcome = Outcome(ray, work())
    assert ray.loads == ["a", "b", "b", "c"]
    assert outcome.progress.variants["b"].refusal == "no"
    assert (outcome.written_of("a"), outcome.written_of("c")) == (40, 24)


def test_a_process_that_dies_while_it_is_closed_costs_nothing():
    """The next model gets another."""

    def on_close(_):
        raise ReplicaKilledError

    outcome = Outcome(FakeRay(on_close=on_close), work())
    assert numbers(outcome, "started", "process_of") == [None] * 3
    assert outcome.written == outcome.planned


CPUS = ReplicaResources(2.0, 0.0)


def process(resources=CPUS, **options):
    """What decides which processes may load a model with engine options."""
    one = work_of("v", [], resources)
    one.job = replace(one.job, variant=replace(one.job.variant, options={"enforce_eager": True} | options))
    return one.process


@pytest.mark.parametrize(
    ("resources", "options"),
    [
        (ReplicaResources(2.0, 1.0), {}),
        (ReplicaResources(2.0, 0.0, labels={"zone": "b"}), {}),
        (CPUS, {"enforce_eager": False}),
        (CPUS, {"env": {"VLLM_ATTENTION_BACKEND": "other"}}),
        (CPUS, {"python": "/other/bin/python"}),
        (CPUS, {"image": "vllm:other"}),
        (CPUS, {"kind": "hf"}),
        (CPUS, {"trust_remote_code": True}),
        (ReplicaResources(2.0, 0.0, nodes=2), {}),
    ],
)
def test_what_is_chosen_when_a_process_starts_must_be_the_same(resources, options):
    """Its place, its variables, its Python; what two models compute with may differ."""
    assert process() == process(dtype="float16", max_num_seqs=3)
    assert process(resources, **options) != process()


@pytest.mark.parametrize("on_cpu", [True, False])
def test_what_may_leave_something_behind_shares_with_none(on_cpu, monkeypatch):
    """Code of a repository, a class of lm-eval's, and on a CPU what was compiled in the process."""
    monkeypatch.setattr(vllm_kind, "built_for_cpus", lambda: on_cpu)
    assert process(kind="hf") is process(trust_remote_code=True) is None
    assert (process(enforce_eager=False) is None) == on_cpu
