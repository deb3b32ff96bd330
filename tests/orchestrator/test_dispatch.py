"""The dispatcher on a fake Ray: placing, feeding, failures, and stopping early."""

from collections import Counter
from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorUnavailableError, OutOfMemoryError
from standin.fake_ray import FakeRay, ReplicaKilledError, work_of

from orchestrator.cluster.resources import ReplicaResources
from orchestrator.engines.base import ALONE, SHARED, EngineAwayError, EngineDiedError, EngineOptionError
from orchestrator.rundir.identity import Item, Rerun
from orchestrator.rundir.progress import SweepProgress, VariantProgress
from orchestrator.sweep.blocks import LAST, Block
from orchestrator.workers import dispatcher, failure_policy
from orchestrator.workers.dispatcher import MOST_TOLD, Dispatcher
from orchestrator.workers.replica_slots import ReplicaSlots

RERUNS = (Rerun(0.0), Rerun(0.7, 0))


def block(variant, first, count):
    """A block of items from a first one on."""
    items = tuple(Item(i, f"d{i}", f"p{i}") for i in range(first, first + count))
    return Block(variant, "t", "c", items, RERUNS)


def cut(variant, blocks, size):
    """Blocks of equal size, one after the other."""
    return [block(variant, start * size, size) for start in range(blocks)]


def owed(blocks):
    """Samples of blocks by temperature."""
    return Counter(rerun.temperature for b in blocks for rerun in b.reruns for _ in b.items)


class Outcome:
    """A sweep dispatched on a fake cluster, and what came of it."""

    def __init__(self, ray, work, *, places=1, dead_nodes=(), room=lambda *_: True, stopping=None):
        self.ray, self.given_up, self.events, self.problems = ray, {}, [], []
        self.recorded, self.nodes = [], set()
        counts = {v: VariantProgress(planned=sum(b.samples for b in blocks)) for v, blocks in work.items()}
        self.progress = SweepProgress(counts)
        self.planned = Counter(
            (b.variant, b.task, item.item, rerun)
            for blocks in work.values()
            for b in blocks
            for item in b.items
            for rerun in b.reruns
        )
        metrics = stopping.deciding_metrics if stopping else {}
        jobs = [work_of(variant, blocks, ReplicaResources(1, 0), metrics) for variant, blocks in work.items()]
        patch = pytest.MonkeyPatch()
        with patch.context() as context:
            ray.install(context.setattr)
            nodes = SimpleNamespace(have_room=room, lost_since=lambda _: set(dead_nodes))
            facts = {"nodes": nodes, "progress": self.progress, "log": self.events.append}
            Dispatcher(
                ReplicaSlots(jobs, max_replicas=places, **facts),
                give_up=self._give_up,
                watch=self._watch,
                stopping=stopping,
                record=lambda software: self.recorded.append((software, sum(ray.answered.values()))),
            ).run()

    def _watch(self, progress):
        self.problems.append(progress.problem)
        self.nodes |= {replica.node for replica in progress.replicas.values()}

    def _give_up(self, lost, reason):
        (item,), (rerun,) = lost.items, lost.reruns
        self.given_up[lost.variant, lost.task, item.item, rerun] = reason

    def written_of(self, variant):
        """How many rows a variant got."""
        return sum(count for key, count in self.written.items() if key[0] == variant)

    @property
    def written(self):
        """How often each sample got a row."""
        return self.ray.answered + Counter(dict.fromkeys(self.given_up, 1))


def killing(*deadly):
    """Blocks with one of these items kill their replica."""

    def on_block(_, held):
        if any(item.item in deadly for item in held.items):
            raise ReplicaKilledError

    return on_block


def test_every_sample_is_written_once():
    """Without faults, all blocks of all variants are answered once, each by a single load per variant."""
    ray = FakeRay()
    outcome = Outcome(ray, {"a": cut("a", 5, 4), "b": cut("b", 3, 4)})
    assert outcome.written == outcome.planned
    assert sorted(ray.loads) == ["a", "b"]


def test_what_a_replica_runs_is_recorded_before_it_answers():
    """Its files name that, so the manifest must have it first, whatever dies then."""
    outcome = Outcome(FakeRay(), {"a": cut("a", 5, 4)})
    assert outcome.recorded == [({"versions": {"replica": "1"}, "commit": None}, 0)]


@pytest.mark.parametrize("first", [0, 1])
def test_the_node_of_a_replica_is_told_whatever_arrives_first(first):
    """That it is there, and that its model is loaded."""
    arrivals = iter([first])
    outcome = Outcome(FakeRay(choose=lambda _: next(arrivals, 0)), {"a": cut("a", 5, 4)})
    assert "node-of-1" in outcome.nodes


def test_nothing_owed_loads_nothing():
    """A variant that is complete never costs a load."""
    ray = FakeRay()
    Outcome(ray, {"a": [], "b": cut("b", 1, 2)})
    assert ray.loads == ["b"]


def test_the_variant_with_most_work_left_gets_the_place():
    """Large work starts first, so that it is not what everybody waits for in the end."""
    ray = FakeRay()
    Outcome(ray, {"small": cut("small", 1, 2), "large": cut("large", 9, 4)})
    assert ray.loads == ["large", "small"]


def test_places_are_shared_between_variants():
    """With two places and two variants of equal work, both run at once."""
    ray = FakeRay()
    outcome = Outcome(ray, {"a": cut("a", 5, 4), "b": cut("b", 5, 4)}, places=2)
    assert sorted(ray.loads[:2]) == ["a", "b"]
    assert (ray.most_alive, outcome.written) == (2, outcome.planned)


def test_no_more_replicas_than_places():
    """The cluster is never asked for more than it has."""
    ray = FakeRay()
    Outcome(ray, {"a": cut("a", 50, 4)}, places=3)
    assert ray.most_alive == 3


def test_blocks_that_wait_for_room_are_a_problem_until_there_is_some():
    """Whoever watches learns what a replica needs; once one sits, or all is done, nothing is in the way."""
    found = iter([False, False])
    outcome = Outcome(FakeRay(), {"a": cut("a", 2, 4)}, room=lambda *_: next(found, True))
    told, *later = outcome.problems
    assert told == "the Ray cluster has no room for a replica, which needs 1 CPU"
    assert set(later) <= {told, None}
    assert later[-1] is None
    assert outcome.written == outcome.planned


def test_no_replica_is_loaded_for_work_that_others_will_have_taken():
    """A single block needs a single engine, however many places are free."""
    ray = FakeRay()
    Outcome(ray, {"a": cut("a", 1, 4)}, places=4)
    assert ray.loads == ["a"]


def test_a_replica_is_fed_before_it_drains():
    """Blocks beyond the engine's target wait; below it the next one is handed over before one comes back."""
    ray = FakeRay(target_in_flight=16)
    Outcome(ray, {"a": cut("a", 20, 4)})
    assert ray.most_held == 3  # of 8 samples: taking away any one leaves no more than 16 in flight


@pytest.mark.parametrize(("way", "held"), [(ALONE, 3), (SHARED, 12)])
def test_what_is_in_flight_is_counted_in_requests(way, held):
    """Each of several choices is one, unless a request has them all."""
    blocks = [replace(one, choices=10) for one in cut("a", 20, 4)]
    ray = FakeRay(target_in_flight=88, log_likelihoods=way)
    Outcome(ray, {"a": blocks})
    assert ray.most_held == held


def test_an_engine_whose_target_exceeds_its_blocks_takes_several():
    """A large batch is filled from many small blocks."""
    ray = FakeRay(target_in_flight=1000)
    Outcome(ray, {"a": cut("a", 20, 4)})
    assert ray.most_held == 20


def test_no_replica_is_left_behind():
    """At the end every replica was killed, so that no GPU stays taken."""
    ray = FakeRay()
    Outcome(ray, {"a": cut("a", 5, 4), "b": cut("b", 5, 4)}, places=2)
    assert ray.alive == []


def test_a_replica_that_dies_once_costs_nothing():
    """The blocks it held are answered by the next one."""
    deaths = iter([ReplicaKilledError()])

    def on_block(replica, held):
        if held.items[0].item == 8 and (death := next(deaths, None)):
            raise death

    ray = FakeRay(on_block=on_block)
    outcome = Outcome(ray, {"a": cut("a", 5, 4)})
    assert (outcome.written, outcome.given_up) == (outcome.planned, {})
    assert ray.loads == ["a", "a"]


@pytest.mark.parametrize("death", [ReplicaKilledError, lambda: EngineDiedError("out of memory")])
def test_the_sample_that_kills_is_found_and_the_others_answered(death):
    """Halving isolates one item; its samples become error rows, all the rest is answered."""

    def on_block(_, held):
        if any(item.item == 13 for item in held.items):
            raise death()

    outcome = Outcome(FakeRay(on_block=on_block), {"a": cut("a", 5, 8)})
    assert set(outcome.given_up) == {("a", "t", 13, rerun) for rerun in RERUNS}
    assert outcome.written == outcome.planned
    assert outcome.progress.variants["a"].errors == 2
    assert outcome.progress.owed == 0


def test_the_sample_that_kills_is_found_by_halving():
    """One in 256 items costs about as many loads as the logarithm says, not one for each item."""
    ray = FakeRay(on_block=killing(200))
    outcome = Outcome(ray, {"a": cut("a", 1, 256)})
    assert outcome.written == outcome.planned
    assert len(ray.loads) <= 2 + 8 + 2 * len(RERUNS) + 1


@pytest.mark.slow
@given(
    st.sets(st.integers(0, 23), max_size=3),
    st.integers(1, 3),
    st.integers(1, 200),
    st.randoms(use_true_random=False),
)
def test_whatever_kills_and_in_whatever_order_results_arrive_every_sample_has_one_row(
    deadly, places, target, random
):
    """Deaths, several replicas, any order: no sample twice, none missing, only deadly ones given up."""
    ray = FakeRay(on_block=killing(*deadly), choose=lambda _: random.randrange(1000), target_in_flight=target)
    outcome = Outcome(ray, {"a": cut("a", 4, 6), "b": cut("b", 2, 6)}, places=places)
    assert outcome.written == outcome.planned
    assert {item for _, _, item, _ in outcome.given_up} <= deadly
    assert outcome.progress.owed == 0
    assert ray.alive == []


def test_an_engine_that_refuses_is_loaded_once_and_the_others_go_on():
    """Its blocks stay owed, its reason is kept, the other variant is complete."""

    def on_load(replica):
        if replica.variant == "a":
            raise EngineOptionError("no such dtype")

    ray = FakeRay(on_load=on_load)
    outcome = Outcome(ray, {"a": cut("a", 5, 4), "b": cut("b", 2, 4)})
    assert ray.loads.count("a") == 1
    assert outcome.progress.variants["a"].refusal == "no such dtype"
    assert outcome.progress.variants["b"].owed == 0
    assert outcome.progress.variants["a"].owed == 40


@pytest.mark.parametrize("error", [EngineAwayError("gone"), EngineOptionError("revoked")])
def test_what_blocks_have_answered_when_their_engine_ends_counts(error):
    """All blocks in flight are written as far as they were answered; the rest stays missing, others go on."""
    blocks = {"a": cut("a", 5, 4), "b": cut("b", 2, 4)}
    outcome = Outcome(FakeRay(on_block=lambda replica, _: error if replica.variant == "a" else None), blocks)
    answered = {item for variant, _, item, _ in outcome.written if variant == "a"}
    assert len(answered) > 1
    assert outcome.progress.variants["a"].owed == outcome.progress.variants["a"].planned - outcome.written_of(
        "a"
    )
    assert outcome.progress.variants["b"].owed == 0
    assert [event["event"] for event in outcome.events].count("away") == isinstance(error, EngineAwayError)
    assert outcome.progress.notes == (["a: gone"] if isinstance(error, EngineAwayError) else [])


def test_what_was_asked_twice_is_counted():
    """Samples that a dead replica had in flight are asked for again."""
    deaths = iter([True])

    def on_block(*_):
        if next(deaths, False):
            raise ReplicaKilledError

    outcome = Outcome(FakeRay(on_block=on_block), {"a": cut("a", 3, 4)})
    (in_flight,) = [event["blocks"] for event in outcome.events if event["event"] == "died"]
    assert outcome.progress.variants["a"].asked_again == in_flight * cut("a", 3, 4)[0].samples > 0


def failing_on(*sick, error=ReplicaKilledError, variant="a"):
    """Loads of a variant fail on these nodes."""

    def on_load(replica):
        if replica.variant == variant and replica.place in sick:
            raise error

    return on_load


def told(outcome, kind):
    """The nodes that events of a kind name."""
    return [event["node"] for event in outcome.events if event["event"] == kind]


def on_nodes(names, on_load, work, **further):
    """A sweep on nodes with room for a replica each, where failed loads need no rest."""
    ray = FakeRay(on_load=on_load, nodes=tuple(names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failure_policy, "REST", 0.0)
        return Outcome(ray, work, places=len(names), room=ray.room, **further)


def test_an_engine_that_dies_while_loading_is_tried_three_times():
    """A load may fail by bad luck, but not for ever: twice, and once more when no node is left."""
    outcome = on_nodes("n", failing_on("n"), {"a": cut("a", 5, 4), "b": cut("b", 2, 4)})
    assert outcome.ray.loads.count("a") == 3
    assert "failed to load 3 times: RayActorError" in outcome.progress.variants["a"].refusal
    assert outcome.progress.variants["b"].owed == 0


@pytest.mark.parametrize(
    "error", [ReplicaKilledError, OSError("We couldn't connect"), EngineDiedError("no memory")]
)
def test_a_node_that_fails_twice_is_left_out_and_no_healthy_replica_ends(error):
    """Everything is answered on the other node; log and notes name the sick one with the reason."""
    outcome = on_nodes("sh", failing_on("s", error=error), {"a": cut("a", 5, 40)})
    assert (outcome.written, outcome.progress.variants["a"].refusal) == (outcome.planned, None)
    assert told(outcome, "died") == ["s", "s"]
    assert told(outcome, "left out") == ["s"]
    assert outcome.progress.notes[0].startswith("a leaves out node s: ")


def test_a_load_that_fails_is_tried_elsewhere_first():
    """Its node rests meanwhile; it is not left out after a single failure."""
    failures = iter([OSError("429 Too Many Requests")])

    def on_load(replica):
        if replica.place == "s" and (failure := next(failures, None)):
            raise failure

    ray = FakeRay(on_load=on_load, nodes=("s", "h"))
    outcome = Outcome(ray, {"a": cut("a", 2, 4)}, room=ray.room)
    assert [event["node"] for event in outcome.events if event["event"] in {"died", "loaded"}] == ["s", "h"]
    assert (outcome.written, told(outcome, "left out")) == (outcome.planned, [])


def test_where_all_nodes_fail_each_is_tried_three_times_and_the_reason_told():
    """Then the variant ends, and the other one is complete."""
    work = {"a": cut("a", 5, 4), "b": cut("b", 2, 4)}
    outcome = on_nodes("xy", failing_on("x", "y", error=OSError("disk full")), work)
    assert Counter(told(outcome, "died")) == {"x": 3, "y": 3}
    reason = "its model failed to load 6 times on 2 nodes: OSError: disk full"
    assert outcome.progress.variants["a"].refusal == reason
    assert outcome.progress.variants["b"].owed == 0
    assert sorted(outcome.progress.notes) == [
        f"a leaves out node {node}: OSError: disk full" for node in "xy"
    ]


def test_of_many_nodes_the_first_are_noted():
    """The log has all; a thousand sentences would help nobody."""
    names = [f"n{number}" for number in range(2 * MOST_TOLD)]
    outcome = on_nodes(names, failing_on(*names), {"a": cut("a", 40, 4)})
    notes = [note for note in outcome.progress.notes if "leaves out" in note]
    assert len(set(told(outcome, "left out"))) == 2 * MOST_TOLD
    assert len(notes) <= 2 * MOST_TOLD


def test_a_node_that_is_sick_for_one_variant_is_used_for_another():
    """It is left out for the variant alone."""
    work = {"a": cut("a", 5, 40), "b": cut("b", 5, 40)}
    outcome = on_nodes("sh", failing_on("s"), work)
    assert outcome.written == outcome.planned
    assert "s" in {event["node"] for event in outcome.events if event["event"] == "loaded"}


@pytest.mark.parametrize("refuses_first", [True, False])
def test_a_refusal_beside_a_loaded_replica_leaves_out_its_node_only(refuses_first):
    """Another kind of GPU refuses what the first can run; all is answered there, whoever comes first."""
    order = ("s", "h") if refuses_first else ("h", "s")
    outcome = on_nodes(order, failing_on("s", error=EngineOptionError("no FP8")), {"a": cut("a", 5, 40)})
    assert (outcome.written, outcome.progress.variants["a"].refusal) == (outcome.planned, None)
    assert (told(outcome, "refused"), told(outcome, "left out")) == (["s"], ["s"])
    assert any("no FP8" in note for note in outcome.progress.notes)


def test_a_refusal_on_every_node_loads_each_once():
    """Nothing is tried again, nor on nodes that are free."""
    error = EngineOptionError("no such dtype")
    outcome = on_nodes("xy", failing_on("x", "y", error=error), {"a": cut("a", 5, 40)})
    assert len(outcome.ray.loads) <= 2
    assert outcome.progress.variants["a"].refusal == "no such dtype"


def test_loads_that_end_with_their_node_are_no_fault_of_the_model():
    """A node that dies takes along what was loading there, and what was sent there before anybody noticed."""
    lost = []

    def on_load(replica):
        if len(lost) < 2 * failure_policy.MAX_FAILED_LOADS:
            lost.append(f"node-of-{replica.number}")
            raise ReplicaKilledError

    outcome = Outcome(FakeRay(on_load=on_load), {"a": cut("a", 5, 4)}, places=3, dead_nodes=lost)
    assert outcome.progress.variants["a"].refusal is None
    assert outcome.written == outcome.planned


def test_blocks_that_die_with_their_node_are_not_suspected():
    """However often nodes die, a block that was there is neither run alone nor split nor given up."""
    lost = []

    def on_block(replica, held):
        if len(lost) < 2 * failure_policy.DEATHS_UNTIL_GIVEN_UP:
            lost.append(f"node-of-{replica.number}")
            raise ReplicaKilledError
        assert held.deaths == 0
        assert held.samples == 2

    outcome = Outcome(FakeRay(on_block=on_block), {"a": [block("a", 0, 1)]}, dead_nodes=lost)
    assert outcome.given_up == {}
    assert outcome.written == outcome.planned


def test_blocks_of_a_replica_that_is_unavailable_are_not_suspected():
    """Ray calls it so as long as it does not know that its node is lost."""
    left = iter(range(2 * failure_policy.DEATHS_UNTIL_GIVEN_UP))

    def on_block(_, held):
        if next(left, None) is not None:
            raise ActorUnavailableError("the socket is closed", None)
        assert held.deaths == 0

    outcome = Outcome(FakeRay(on_block=on_block), {"a": [block("a", 0, 1)]})
    assert (outcome.given_up, outcome.written) == ({}, outcome.planned)


def test_a_storage_that_fails_once_costs_nothing():
    """The replica lives; the block is answered again."""
    failures = iter([OSError("connection reset")])

    def on_block(_, held):
        if held.items[0].item == 4 and (failure := next(failures, None)):
            raise failure

    ray = FakeRay(on_block=on_block)
    outcome = Outcome(ray, {"a": cut("a", 3, 4)})
    assert (outcome.written, outcome.progress.owed) == (outcome.planned, 0)
    assert ray.loads == ["a"]


def test_a_storage_that_always_fails_leaves_its_block_owed():
    """Three tries, then the samples are given up for now: owed, not error rows; the rest is done."""
    tries = []

    def on_block(_, held):
        if held.items[0].item == 4:
            tries.append(held.name)
            raise OSError("read-only file system")

    outcome = Outcome(FakeRay(on_block=on_block), {"a": cut("a", 3, 4)})
    counts = outcome.progress.variants["a"]
    assert (len(tries), counts.owed, counts.lost, counts.errors) == (3, 8, 8, 0)
    assert outcome.given_up == {}
    assert "read-only file system" in outcome.progress.notes[0]


def test_results_that_arrive_together_all_count():
    """Among them may be the death of a replica: what it held is done again, the others' work is not."""
    deaths = iter([True])

    def on_block(replica, _):
        if replica.number == 2 and next(deaths, False):
            raise ReplicaKilledError

    ray = FakeRay(on_block=on_block, together=True)
    outcome = Outcome(ray, {"a": cut("a", 12, 4)}, places=4)
    assert (outcome.written, outcome.progress.owed) == (outcome.planned, 0)
    assert len(ray.loads) > 4


def test_an_interrupt_leaves_no_replica(monkeypatch):
    """Ctrl-C ends every replica before it reaches the caller."""

    def on_block(_, __):
        raise KeyboardInterrupt

    ray = FakeRay(on_block=on_block)
    with pytest.raises(KeyboardInterrupt):
        Outcome(ray, {"a": cut("a", 5, 4)})
    assert ray.alive == []


def test_what_happens_to_replicas_is_logged():
    """The log tells starts, loads, deaths and ends, each with the variant."""
    outcome = Outcome(FakeRay(on_block=killing(0)), {"a": cut("a", 1, 1)})
    assert {event["event"] for event in outcome.events} == {"started", "loaded", "died", "closed"}
    assert all(event["variant"] == "a" for event in outcome.events)


def test_a_replica_that_ray_ends_for_want_of_memory_has_died():
    """Ray's memory monitor has an error of its own; its blocks go to the next replica, in halves."""

    def on_block(_, held):
        if held.samples > 4:
            raise OutOfMemoryError("the node was running low on memory")

    ray = FakeRay(on_block=on_block)
    outcome = Outcome(ray, {"a": cut("a", 1, 4)})
    assert (outcome.written, outcome.given_up) == (outcome.planned, {})
    assert len(ray.loads) == 3
    assert sum("OutOfMemoryError" in event.get("reason", "") for event in outcome.events) == 2


def test_a_replica_without_results_is_asked_for_its_status(monkeypatch):
    """What the storage says stands in the progress as long as it lasts, and no longer."""
    monkeypatch.setattr(dispatcher, "SECONDS_UNTIL_STATUS", -1.0)
    turns = cycle([-1, 0])
    ray = FakeRay(choose=lambda _: next(turns), problem="storage error, retrying: disk full")
    outcome = Outcome(ray, {"a": cut("a", 3, 4)})
    assert "storage error, retrying: disk full" in outcome.problems
    assert (outcome.problems[-1], outcome.written) == (None, outcome.planned)


def with_scores(variant, blocks=3):
    """Blocks that ask for answers, and some that score the baseline's."""
    scoring = [replace(one, task="s", fidelity=True, look=LAST) for one in cut(variant, 2, 4)]
    return [*cut(variant, blocks, 4), *scoring]


@pytest.mark.parametrize("places", [1, 2, 3])
@pytest.mark.parametrize("deadly", [(), (5,)])
def test_nothing_is_scored_before_the_baseline_has_answered(places, deadly):
    """With few places and many, and where a block of the baseline has to be asked again; all is done once."""
    order = []

    def on_block(replica, block):
        if block.variant == "base" and not block.fidelity:
            killing(*deadly)(replica, block)
        order.append((block.variant, block.fidelity))

    ray = FakeRay(on_block=on_block)
    work = {"a": with_scores("a", 9), "base": with_scores("base"), "b": with_scores("b", 1)}
    outcome = Outcome(ray, work, places=places)
    assert outcome.written == outcome.planned
    last = max(place for place, one in enumerate(order) if one == ("base", False))
    assert not any(fidelity for _, fidelity in order[:last])


def test_a_single_place_loads_every_variant_once():
    """The baseline goes first, so that no variant has to come back to score it."""
    ray = FakeRay()
    Outcome(ray, {"a": with_scores("a", 9), "base": with_scores("base")})
    assert ray.loads == ["base", "a"]


def test_a_variant_gives_way_to_a_baseline_that_has_no_place():
    """Its first load fails, the only place goes to the variant, which waits for answers: both are done."""
    failures = iter([True])

    def on_load(replica):
        if replica.variant == "base" and next(failures, False):
            raise OSError("no memory")

    ray = FakeRay(on_load=on_load)
    outcome = Outcome(ray, {"a": with_scores("a", 9), "base": with_scores("base")})
    assert outcome.written == outcome.planned


def test_a_baseline_that_ends_leaves_its_answers_unscored():
    """The variants' blocks are handed out all the same, and find no answers: nothing waits for ever."""

    def on_load(replica):
        if replica.variant == "base":
            raise EngineOptionError("no such option")

    outcome = Outcome(FakeRay(on_load=on_load), {"a": with_scores("a"), "base": with_scores("base")})
    assert outcome.progress.variants["base"].refusal == "no such option"
    assert outcome.written_of("a") == outcome.progress.variants["a"].planned
