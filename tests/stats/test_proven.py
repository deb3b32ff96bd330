"""Certificates by betting: their level for every distribution and at every look, and their limits."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standin.sequential_runs import replay

from stats.drop import ProvenEvidence
from stats.planning import Design
from stats.sequential.boundaries import Stopping
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.paths import expected_course
from stats.sequential.plan import PlannedTask, SequentialPlan
from stats.verdict import Verdict


def drawn(loss, gain, margin, sizes):
    """All sequences of blocks that each lose or gain so much per item, margin on average; their chances."""
    rare = (margin - gain) / (loss - gain)
    for lost in product((False, True), repeat=sizes.size):
        chances = np.where(lost, rare, 1.0 - rare)
        yield np.where(lost, loss, gain) * sizes, float(chances.prod())


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("sizes", [np.ones(9), np.tile([1.0, 3.0], 4)])
@pytest.mark.parametrize(
    ("loss", "gain", "margin"), [(1.0, -1.0, 0.5), (1.0, 0.0, 0.4), (0.7, -1.0, 0.45), (1.0, 0.1, 0.4)]
)
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_two_point_laws_keep_the_level_exactly(planned, sizes, loss, gain, margin, alpha):
    """Enumerated: of all blocks in an order that is drawn, or the smallest p-value after each of them."""
    rejected = 0.0
    for sums, chance in drawn(loss, gain, margin, sizes):
        looks = [(sizes.size, None)]
        if planned:
            looks = [(k, (sizes.size, float(sizes.max()))) for k in range(1, sizes.size + 1)]
        rejected += chance * any(
            ProvenEvidence(sums[:k], sizes[:k], 1.0, plan).p_noninferior(margin) <= alpha for k, plan in looks
        )
    assert rejected <= alpha
    assert alpha < 0.1 or rejected > 0.0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 200))
def test_more_blocks_or_margin_are_no_less_evidence(seed, blocks):
    """The p-value falls with the margin, and with the blocks as long as their mean lies below it."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, blocks).astype(float)
    sums = sizes * rng.uniform(-0.3, 0.2, blocks)
    below = np.cumsum(sums) < 0.1 * np.cumsum(sizes)
    firsts = [
        ProvenEvidence(sums[:k], sizes[:k], 1.0, (blocks, 3.0)).p_noninferior(0.1)
        for k in range(1, blocks + 1)
    ]
    assert (np.diff(np.array(firsts)[below]) <= 0.0).all()
    whole = ProvenEvidence(sums, sizes)
    assert (np.diff([whole.p_noninferior(margin) for margin in np.linspace(-0.5, 1.0, 40)]) <= 0.0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.05, 0.005]))
def test_the_limit_inverts_the_bets(seed, tail):
    """The p-value passes the tail there; also at the mean, where lucky bets came before the losses."""
    rng = np.random.default_rng(seed)
    losses = np.sort(np.clip(rng.normal(rng.uniform(-0.2, 0.2), rng.uniform(0.02, 0.6), 150), -1.0, 1.0))
    for evidence in (
        ProvenEvidence(losses, np.ones(150)),
        ProvenEvidence(losses, np.ones(150), 1.0, (150, 1.0)),
    ):
        limit = evidence.limits(tail)[1]
        below, above = (evidence.p_noninferior(limit + step) for step in (-1e-6, 1e-6))
        assert above <= tail < below


def test_without_a_range_nothing_is_proven():
    """A bet needs to know the largest loss."""
    assert ProvenEvidence(np.full(500, -1.0), np.ones(500), float("inf")).p_noninferior(5.0) == 1.0


def plan_of(*sizes, **details):
    """A plan with a proven certificate."""
    tasks = tuple(PlannedTask(str(number), size) for number, size in enumerate(sizes))
    return SequentialPlan(tasks, ("v",), Stopping(10, "decided", certificate="proven"), **details)


def test_the_stakes_are_those_of_the_plan():
    """The p-value at the looks is that of the first of all planned blocks, in the order of asking."""
    values = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 3_000, p=[0.02, 0.96, 0.02])
    plan = plan_of(3_000, margin=0.02)
    course, monitor = replay(plan, {"v": [values]})["v"], SequentialMonitor(plan)
    assert course.verdict is Verdict.CERTIFIED
    assert course.stopped
    seen = course.looks[-1].items
    order = np.concatenate(
        [
            part[np.random.default_rng([plan.seed, look]).permutation(part.size)]
            for look, part in enumerate(np.split(values[:seen], np.arange(300, seen, 300)), 1)
        ]
    )
    p = ProvenEvidence(order, np.ones(seen), 1.0, (3_000, 1.0)).p_noninferior(0.02)
    assert (course.p_noninferior, course.interval[1] < 0.02) == (pytest.approx(p), True)
    assert {round(look.certified_boundary, 3) for look in course.looks} == {1.645}
    for count in (500, 450, 1_700, 3_000):  # in any portions
        monitor.observe("v", [values[:count]])
    assert monitor.courses() == {"v": course}


def test_the_bets_of_a_look_go_through_all_tasks():
    """A task that gains and is asked first is not staked on before the one that loses."""
    gains, losses = np.full(400, -0.5), np.full(400, 0.5)
    course = replay(plan_of(400, 400, margin=0.01, sign_vectors=99), {"v": [gains, losses]})["v"]
    assert course.p_noninferior > 0.05


@pytest.mark.parametrize(
    ("items", "rate", "margin", "certified"),
    [(300, 0.1, 0.03, 0.287), (3_000, 0.09, 0.01, 0.378), (3_000, 0.02, 0.01, 0.915)],
)
def test_bets_are_planned_for(items, rate, margin, certified):
    """The expected chance of a certificate is the simulated one of docs/sequential.md, to five points."""
    stopping = Stopping(10, "decided", certificate="proven")
    expected = expected_course(Design(items, rate), 0.0, stopping, margin)[1]
    assert expected == pytest.approx(certified, abs=0.05)
