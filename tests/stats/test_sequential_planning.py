"""Expected share and power against sweeps that the monitor decides."""

import numpy as np
import pytest

from stats.planning import Design
from stats.sequential.boundaries import Stopping
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.paths import expected_course
from stats.sequential.plan import PlannedTask, SequentialPlan
from stats.verdict import Verdict


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "items", "flip_rate", "combine", "until", "drop"),
    [
        (1, 3_000, 0.09, "joint", "degraded", 0.02),
        (1, 3_000, 0.09, "joint", "decided", 0.02),
        (1, 3_000, 0.09, "joint", "decided", 0.0),
        (1, 400, 0.02, "joint", "decided", 0.0),
        (1, 400, 0.02, "joint", "degraded", 0.015),
        (4, 100, 0.1, "joint", "decided", 0.04),
        (4, 500, 0.05, "max-drop", "decided", 0.0),
    ],
)
def test_expectations_are_those_of_simulated_sweeps(tasks, items, flip_rate, combine, until, drop):
    """Power, certificates and share of 200 sweeps, many flips, few, and tasks, to three standard errors."""
    stopping, margin, runs, shares = Stopping(8, until), 0.02, 200, []
    design = Design(tasks * items, flip_rate, tasks=(1 / tasks,) * tasks, combine=combine)
    expected = expected_course(design, drop, stopping, margin)
    planned = tuple(PlannedTask(f"task {number}", items) for number in range(tasks))
    plan = SequentialPlan(planned, ("variant",), stopping, 0.05, margin, combine, sign_vectors=999)
    rng, verdicts = np.random.default_rng(15), []
    for _ in range(runs):
        uniform, monitor = rng.random((tasks, items)), SequentialMonitor(plan)
        worse, better = (flip_rate + drop) / 2, (flip_rate - drop) / 2
        monitor.observe("variant", list(np.where(uniform < worse, 1.0, -1.0 * (uniform > 1 - better))))
        end = monitor.decisions()["variant"]
        verdicts.append(end.verdict)
        shares.append(plan.share(end.look))
    for verdict, chance in zip((Verdict.DEGRADED, Verdict.CERTIFIED), expected[:2], strict=True):
        error = np.sqrt(max(chance * (1 - chance), 0.01) / runs)
        assert verdicts.count(verdict) / runs == pytest.approx(chance, abs=3 * error + 0.01)
    assert np.mean(shares) == pytest.approx(expected[2], abs=3 * np.std(shares) / np.sqrt(runs) + 0.01)


def test_few_flips_are_not_certified_as_a_normal_limit_has_it():
    """Of 800 items with 2 % flips, four in ten without a drop; by a Brownian motion six."""
    assert expected_course(Design(800, 0.02), 0.0, Stopping(10, "decided"), 0.01)[1] == pytest.approx(
        0.4, abs=0.03
    )


def test_one_look_has_the_power_of_the_fixed_test():
    """And uses all samples."""
    design = Design(25_282, 0.0903)
    power, _, share = expected_course(design, 0.0079, Stopping(1), 0.01)
    assert power == pytest.approx(design.power_at(0.0079), abs=2e-3)
    assert share == pytest.approx(1.0)


def test_no_drop_is_found_as_often_as_the_level_allows():
    """The normal limit of the exact test."""
    power = expected_course(Design(5_000, 0.1), 0.0, Stopping(20), 0.01)[0]
    assert power == pytest.approx(0.05, abs=1e-9)


def test_more_comparisons_leave_less_for_each():
    """Damage is found at α/m, and later; a certificate keeps its level."""
    design, stopping = Design(3_000, 0.09), Stopping(10, "decided")
    alone, among = (expected_course(design, 0.015, stopping, 0.01, comparisons=m) for m in (1, 8))
    assert among[0] < alone[0]
    assert among[2] > alone[2]
    assert expected_course(design, 0.0, stopping, 0.01, comparisons=8)[0] == pytest.approx(0.05 / 8, abs=1e-4)


def test_a_drop_that_no_flip_rate_allows_is_refused():
    """Not planned for in silence."""
    with pytest.raises(ValueError, match="allows a drop of at most"):
        expected_course(Design(100, 0.05), 0.1, Stopping(), 0.01)
