"""Stopping early: the dispatcher asks an injected policy, on a fake Ray."""

from collections import defaultdict

import numpy as np
from standin.fake_ray import FakeRay, ReplicaKilledError
from test_dispatch import Outcome, cut

from orchestrator.rundir.identity import Item, Rerun
from orchestrator.sweep.tasks import Scored
from orchestrator.workers.answer_block import Sample
from orchestrator.workers.stopping import NO_SEED, Next, StoppingPolicy, reported_scores

METRICS = {"t": "acc,none"}


class StopAfter(StoppingPolicy):
    """Stops a (variant, temperature) once so many of its scores have been reported; notes all it sees."""

    deciding_metrics = METRICS

    def __init__(self, variant, temperature, count):
        self._stops, self._count = (variant, temperature), count
        self.seen = defaultdict(list)

    def take_scores(self, variant, task, scores):
        for item, temperature, seed, score in scores.tolist():
            self.seen[variant, temperature].append((item, seed, score))

    def next_for(self, variant, temperature):
        enough = len(self.seen[self._stops]) >= self._count
        return Next.STOP if (variant, temperature) == self._stops and enough else Next.CONTINUE


class Lead(StoppingPolicy):
    """Lets variants wait until the baseline has so many scores."""

    deciding_metrics = METRICS

    def __init__(self, baseline, count):
        self.baseline, self.count, self.order = baseline, count, []

    def take_scores(self, variant, task, scores):
        self.order.append(variant)

    def next_for(self, variant, temperature):
        waits = variant != self.baseline and self.order.count(self.baseline) < self.count
        return Next.WAIT if waits else Next.CONTINUE


def answered(outcome, variant, temperature):
    """How many samples of a variant at a temperature were answered."""
    return sum(
        count
        for (name, _, _, rerun), count in outcome.written.items()
        if (name, rerun.temperature) == (variant, temperature)
    )


def test_by_default_every_sample_is_needed_and_no_scores_are_reported():
    """The default policy never stops, and costs no score in any report."""
    reported = []
    policy = StoppingPolicy()
    policy.report = lambda *_: reported.append(1)
    outcome = Outcome(FakeRay(), {"a": cut("a", 5, 4)}, stopping=policy)
    assert (outcome.written, reported) == (outcome.planned, [])
    assert outcome.progress.variants["a"].not_needed == 0


def test_a_decided_temperature_is_asked_no_more_and_the_other_goes_on():
    """Its queued samples are dropped, also from blocks that hold both; nothing is owed in the end."""
    policy = StopAfter("a", 0.7, 4)
    outcome = Outcome(FakeRay(target_in_flight=1), {"a": cut("a", 10, 4)}, stopping=policy)
    assert answered(outcome, "a", 0.0) == 40
    assert answered(outcome, "a", 0.7) < 40
    counts = outcome.progress.variants["a"]
    assert counts.not_needed == 40 - answered(outcome, "a", 0.7)
    assert (counts.owed, counts.lost) == (0, 0)


def test_what_is_in_flight_when_its_temperature_is_decided_is_kept():
    """All blocks are in flight at the first report: all of them are written and reported."""
    policy = StopAfter("a", 0.7, 1)
    outcome = Outcome(FakeRay(target_in_flight=1000), {"a": cut("a", 10, 4)}, stopping=policy)
    assert outcome.written == outcome.planned
    assert len(policy.seen["a", 0.7]) == 40


def test_what_is_in_flight_and_dies_is_asked_again_without_what_is_decided():
    """The block of a replica that died comes back only with the samples still needed."""
    policy = StopAfter("a", 0.7, 4)
    deaths = iter([ReplicaKilledError()])

    def on_block(_, held):
        if policy.seen["a", 0.7] and (death := next(deaths, None)):
            raise death

    ray = FakeRay(on_block=on_block, target_in_flight=9)
    outcome = Outcome(ray, {"a": cut("a", 10, 4)}, stopping=policy)
    assert answered(outcome, "a", 0.0) == 40
    assert answered(outcome, "a", 0.7) + outcome.progress.variants["a"].not_needed == 40
    assert outcome.progress.owed == 0


def test_a_variant_whose_temperatures_are_all_decided_gives_its_slot_away():
    """The others are answered; the log says what was decided and how much was dropped."""

    class Both(StopAfter):
        def next_for(self, variant, temperature):
            return Next.STOP if variant == "a" and self.seen["a", 0.0] else Next.CONTINUE

    outcome = Outcome(
        FakeRay(target_in_flight=1), {"a": cut("a", 20, 4), "b": cut("b", 3, 4)}, stopping=Both("a", 0.0, 1)
    )
    decided = [event for event in outcome.events if event["event"] == "decided"]
    assert outcome.progress.variants["b"].done == 24
    assert outcome.progress.owed == 0
    assert {(event["variant"], event["temperature"]) for event in decided} == {("a", 0.0), ("a", 0.7)}
    dropped = sum(event["not_needed"] for event in decided)
    withdrawn = sum(event["in_flight"] for event in outcome.events if event["event"] == "withdrawn")
    assert dropped + withdrawn == outcome.progress.variants["a"].not_needed > 100


def test_what_is_decided_before_the_start_is_never_asked():
    """A policy that knows the earlier samples of a run saves the load of the model."""
    ray = FakeRay()
    outcome = Outcome(ray, {"a": cut("a", 3, 4)}, stopping=StopAfter("a", 0.7, 0))
    assert (answered(outcome, "a", 0.7), answered(outcome, "a", 0.0)) == (0, 12)


def test_reports_carry_the_scores_of_every_sample():
    """Item, temperature, seed and score, whichever blocks they were in."""
    policy = StopAfter("a", 9.9, 0)
    ray = FakeRay(score=lambda _, item, rerun: item + rerun.temperature)
    Outcome(ray, {"a": cut("a", 2, 3)}, stopping=policy)
    assert sorted(policy.seen["a", 0.7]) == [(item, 0, item + 0.7) for item in range(6)]
    assert sorted(policy.seen["a", 0.0]) == [(item, NO_SEED, float(item)) for item in range(6)]


def test_with_one_slot_the_baseline_is_answered_first():
    """Although the other variant has more work, it waits for the baseline."""
    policy = Lead("base", 3)
    ray = FakeRay()
    outcome = Outcome(ray, {"big": cut("big", 9, 4), "base": cut("base", 3, 4)}, stopping=policy)
    assert ray.loads == ["base", "big"]
    assert outcome.written == outcome.planned


def test_with_two_slots_the_baseline_leads():
    """Both are loaded at once; no block of the other is written before the baseline has its lead."""
    policy = Lead("base", 2)
    ray = FakeRay(target_in_flight=1)
    outcome = Outcome(ray, {"big": cut("big", 9, 4), "base": cut("base", 4, 4)}, places=2, stopping=policy)
    assert sorted(ray.loads) == ["base", "big"]
    assert policy.order[:2] == ["base", "base"]
    assert outcome.written == outcome.planned


def test_waiting_never_blocks_a_sweep():
    """Where nothing else is left to do, a policy that would wait for ever is not obeyed."""
    outcome = Outcome(FakeRay(), {"a": cut("a", 4, 4)}, places=2, stopping=Lead("no such variant", 1))
    assert outcome.written == outcome.planned


def test_scores_of_samples():
    """A sample with an error, and one without the metric, have no score; what is not sampled has no seed."""
    item = Item(3, "d", "p")
    samples = [
        Sample(item, Rerun(0.7, 5), scored=Scored({"acc,none": 1.0}, {})),
        Sample(item, Rerun(0.0), scored=Scored({"f1,none": 1.0}, {})),
        Sample(item, Rerun(0.0), error="no"),
    ]
    scores = reported_scores(samples, "acc,none")
    assert scores["item"].tolist() == [3, 3, 3]
    assert scores["temperature"].tolist() == [0.7, 0.0, 0.0]
    assert scores["seed"].tolist() == [5, NO_SEED, NO_SEED]
    np.testing.assert_array_equal(scores["score"], [1.0, np.nan, np.nan])


def unwritable(variant):
    """Makes every block of a variant fail until it is left to a later submit."""

    def on_block(replica, _):
        if replica.job.variant == variant:
            raise OSError("read-only file system")

    return on_block


def test_nobody_waits_for_a_baseline_whose_blocks_are_left_to_a_later_submit():
    """The policy hears that no more will come, before most of the others' blocks are handed out."""

    class Ended(Lead):
        def ended(self, variant):
            heard.setdefault(variant, len(self.order))

    heard = {}
    work = {"base": cut("base", 2, 4), "big": cut("big", 9, 4)}
    outcome = Outcome(
        FakeRay(on_block=unwritable("base"), target_in_flight=1), work, places=2, stopping=Ended("base", 9)
    )
    assert outcome.progress.variants["big"].owed == 0
    assert heard["base"] < len(outcome.planned)
    assert heard["base"] <= 2


def test_what_was_left_to_a_later_submit_is_not_needed_once_it_is_decided():
    """Nothing is owed then, whatever has failed before."""

    class OnceAllHasFailed(StoppingPolicy):
        def next_for(self, variant, temperature):
            return Next.STOP if variant == "a" and len(tries) == 6 else Next.CONTINUE

    def on_block(_, held):
        if held.variant == "a":
            tries.append(held.name)
            raise OSError("read-only file system")

    tries = []
    work = {"a": cut("a", 2, 4), "b": cut("b", 1, 4)}
    outcome = Outcome(FakeRay(on_block=on_block), work, stopping=OnceAllHasFailed())
    counts = outcome.progress.variants["a"]
    assert (counts.lost, counts.not_needed, outcome.progress.owed) == (16, 16, 0)
