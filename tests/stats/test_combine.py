"""Many tasks, one decision."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sp

from stats.distributions.nulls import NullTable
from stats.tasks.combine import FisherSum, chi_square_p, combine_tasks, term_of

TASKS = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=3)


def flips(worse, total):
    return np.where(np.arange(total) < worse, 1.0, -1.0)


def enumerated(tasks):
    """Pooled sum, largest z and Fisher's sum for every sign vector; the observed one is the first."""
    sums, largest, fisher = np.zeros(1), np.full(1, -np.inf), np.zeros(1)
    for task in tasks:
        signs = np.array(list(itertools.product([1, -1], repeat=len(task))))
        drawn = signs @ np.array(task)
        scale = np.sqrt(np.sum(np.square(task)))
        p_values = np.array([np.mean(drawn >= value) for value in drawn])
        z = drawn / scale if scale > 0 else np.full(drawn.shape, -np.inf)
        sums = np.add.outer(sums, drawn).ravel()
        largest = np.maximum.outer(largest, z).ravel()
        fisher = np.add.outer(fisher, -np.log(p_values)).ravel()
    return sums, largest, fisher


def upper_share(values):
    """P(at least as large) of every value, ties within rounding counted."""
    return np.array([np.mean(values >= value - 1e-9) for value in values])


@settings(max_examples=60)
@given(TASKS)
def test_every_combination_equals_enumeration(tasks):
    """Pooled, max-drop and Fisher p-values are shares of all sign vectors over all tasks."""
    sums, largest, fisher = enumerated(tasks)
    found = combine_tasks([np.array(task, dtype=float) for task in tasks], draws=200)
    assert found.pooled.p == pytest.approx(np.mean(sums >= sums[0]), rel=1e-9)
    if sum(any(task) for task in tasks) > 1:
        assert found.p["max-drop"] == pytest.approx(np.mean(largest >= largest[0] - 1e-9), rel=1e-9)
        assert found.p["fisher"] == pytest.approx(np.mean(fisher >= fisher[0] - 1e-9), rel=1e-9)


@settings(max_examples=15)
@given(st.lists(st.lists(st.sampled_from([-2, -1, 1, 2]), min_size=2, max_size=4), min_size=2, max_size=2))
def test_joint_p_is_the_enumerated_law_of_the_smallest(tasks):
    """The calibrated p-value is the share of sign vectors whose smallest of the three is as small."""
    p_values = np.array([upper_share(values) for values in enumerated(tasks)])
    smallest = p_values.min(axis=0)
    expected = np.mean(smallest <= smallest[0] * (1 + 1e-9))
    found = combine_tasks([np.array(task, dtype=float) for task in tasks], draws=20_000, seed=3)
    assert found.p["joint"] == pytest.approx(expected, abs=5 * np.sqrt(0.25 / 20_000))


def test_a_tiny_joint_p_is_not_held_up_by_the_number_of_draws():
    """Below the resolution of the draws the joint p-value is the union bound, three times the smallest."""
    found = combine_tasks([flips(908, 1_597), flips(908, 1_597)], draws=1_000)
    assert found.p["joint"] == pytest.approx(3 * found.p["any"])
    assert found.p["any"] < 1e-14


def test_joint_p_is_reproducible_and_never_zero():
    """A fixed seed gives a fixed p-value, a saturated study a positive one."""
    tasks = [flips(60, 100), flips(30, 61)]
    assert combine_tasks(tasks, seed=4).p == combine_tasks(tasks, seed=4).p
    assert combine_tasks([np.ones(5_000), np.ones(5_000)]).p["joint"] > 0.0


def test_one_task_needs_no_combination():
    """With a single task all p-values are its own."""
    found = combine_tasks([flips(30, 45)])
    assert found.pooled.p == found.p["max-drop"] == found.p["fisher"] == found.p["joint"] == found.p["any"]


def test_tasks_without_flips_add_nothing():
    """Beside a quiet task the decision rests on the others alone."""
    found = combine_tasks([flips(30, 45), np.zeros(100), np.zeros(3)])
    assert found.p["joint"] == combine_tasks([flips(30, 45)]).p["joint"]


def test_no_flips_anywhere_give_one():
    """Two hundred quiet tasks are no evidence."""
    assert combine_tasks([np.zeros(5)] * 200).p["joint"] == 1.0


@pytest.mark.slow
def test_two_hundred_tasks():
    """Beyond enumeration Fisher's law still is that of the sum, found here by drawing from it."""
    found = combine_tasks([flips(7, 11)] * 100 + [flips(5, 10)] * 100, draws=2_000)
    rng = np.random.default_rng(9)
    drawn = sum(
        -np.log(sp.binom.sf(rng.binomial(m, 0.5, (40_000, 100)) - 1, m, 0.5)).sum(axis=1) for m in (11, 10)
    )
    observed = -100 * np.log(sp.binom.sf(6, 11, 0.5)) - 100 * np.log(sp.binom.sf(4, 10, 0.5))
    expected = np.mean(drawn >= observed - 1e-9)
    assert found.p["fisher"] == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 40_000))
    assert found.p["any"] <= found.p["joint"] <= 3 * found.p["any"]


def test_scores_on_no_lattice_combine_by_simulation():
    """Continuous scores give valid p-values, marked as simulated."""
    rng = np.random.default_rng(8)
    found = combine_tasks([rng.normal(0.2, 1, 40), rng.normal(0.2, 1, 50)], draws=2_000)
    assert found.method == "monte-carlo"
    assert found.p["any"] <= found.p["joint"] <= 3 * found.p["any"] + 3 / 2_001


def test_max_drop_sees_one_damaged_task():
    """One task of six loses 40 of 60 flips net; max-drop is far below pooled."""
    found = combine_tasks([flips(50, 60)] + [flips(230, 460)] * 5)
    assert found.p["max-drop"] < 1e-5 < found.pooled.p


def test_fisher_chi_square_is_the_textbook_value():
    """Σ −ln p against scipy's combine_pvalues."""
    p_values = [0.03, 0.4, 0.11]
    reference = sp.combine_pvalues(p_values, method="fisher").pvalue
    assert chi_square_p(-float(np.log(p_values).sum()), 3) == pytest.approx(reference, rel=1e-12)


def test_the_exact_fisher_law_is_below_the_chi_square():
    """For discrete p-values the χ² wastes level."""
    found = combine_tasks([flips(b, m) for b, m in ((9, 12), (4, 5), (2, 3), (6, 9), (25, 40), (4, 6))])
    assert found.p["fisher"] < found.p_fisher_chi2


@pytest.mark.parametrize("total", [4.0, 9.0, 25.0, 80.0, 300.0])
def test_the_grid_agrees_with_enumeration(total):
    """Where both work the tilted grid is within a thousandth, far into the tail."""
    tables = [NullTable(flips(b, m), 10, [0]) for b, m in ((60, 120), (50, 99), (100, 180), (70, 141))]
    law = FisherSum([term_of(table.tails, table.chances) for table in tables])
    gridded = FisherSum(law.terms)
    gridded._halves = None
    assert law._halves is not None
    assert gridded.tail(total) == pytest.approx(law.tail(total), rel=1e-3)
    assert gridded.tail_in_body(total) == pytest.approx(law.tail(total), rel=1e-3, abs=1e-10)


def test_the_grid_reproduces_the_gamma_law_of_continuous_p_values():
    """Sums of forty finely cut exponentials follow Gamma(40), also at p near 1e-20."""
    width = 0.01
    starts = np.arange(0.0, 80.0, width)
    centres = starts + 1.0 - width / np.expm1(width)
    law = FisherSum([(centres, -starts + np.log(-np.expm1(-width)))] * 40)
    for total in (30.0, 45.0, 70.0, 130.0):
        assert law.tail(total) == pytest.approx(sp.gamma.sf(total, 40), rel=1e-3)
