"""The estimate of the time left, on a clock that the test moves."""

import pytest

from orchestrator.rundir import progress as module
from orchestrator.rundir.progress import ReplicaProgress, SweepProgress, VariantProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at 0 until it is set."""
    now = {"seconds": 0.0}
    monkeypatch.setattr(module.time, "monotonic", lambda: now["seconds"])
    return now


@pytest.fixture
def sweep(clock):
    """Two variants of 1,000 samples; the first took 20 s to load and is at work from then on."""
    variants = {
        "base": VariantProgress(planned=1000, loads=1, load_seconds=20.0),
        "other": VariantProgress(planned=1000),
    }
    progress = SweepProgress(variants)
    progress.replicas[1] = ReplicaProgress(number=1, variant="base", loaded=20.0)
    return progress


def test_nothing_is_said_before_there_is_a_rate(sweep, clock):
    """While models load, and in the first moments of work."""
    clock["seconds"] = 20.5
    assert sweep.seconds_left() is None
    sweep.variants["base"].done = 10
    assert sweep.seconds_left() is None


def test_samples_left_at_the_rate_so_far_and_loads_to_come(sweep, clock):
    """1,500 of 2,000 are owed at 50 a second, and one model is to be loaded."""
    clock["seconds"] = 30.0
    sweep.variants["base"].done = 500
    assert sweep.seconds_left() == pytest.approx(1500 / 50 + 20)


def test_the_first_blocks_of_many_in_work_do_not_frighten(sweep, clock):
    """4 s into work at 50 samples a second, little has come back; the estimate is of the right size."""
    clock["seconds"] = 24.0
    sweep.variants["base"].done = 30
    sweep.replicas[1].in_flight = 340
    assert sweep.seconds_left() == pytest.approx(1800 / 50 + 20)


def test_between_two_variants_the_estimate_stands(sweep, clock):
    """While the second model loads, the first one's rate counts, and the load."""
    clock["seconds"] = 45.0
    sweep.variants["base"].done = 1000
    sweep.variants["base"].busy_seconds = 20.0
    sweep.replicas = {2: ReplicaProgress(number=2, variant="other")}
    assert sweep.seconds_left() == pytest.approx(1000 / 50 + 20)


def test_two_engines_take_half_the_time(sweep, clock):
    """What is left is shared by the engines at work."""
    clock["seconds"] = 30.0
    sweep.variants["base"].done = sweep.variants["other"].done = 250
    sweep.replicas[2] = ReplicaProgress(number=2, variant="other", loaded=20.0)
    assert sweep.seconds_left() == pytest.approx(1500 / 25 / 2)


def test_a_refused_variant_is_not_waited_for(sweep, clock):
    """Its engine will not be loaded again."""
    clock["seconds"] = 30.0
    sweep.variants["base"].done = 500
    before = sweep.seconds_left()
    sweep.variants["other"].refusal = "no"
    assert sweep.seconds_left() == pytest.approx(before - 20)
