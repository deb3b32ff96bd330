"""Planning: items, power and the smallest drop that shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sp
from scipy.stats import binom

from stats.comparison import compare
from stats.drop import FlipEvidence
from stats.planning import (
    DecidingTest,
    Design,
    exact_power,
    items_needed,
    items_to_decide,
)
from stats.results import Settings
from stats.scores import TaskScores
from stats.signflip import mcnemar_p
from stats.tasks.power import TaskShape


@pytest.mark.parametrize(
    ("flip_rate", "drop", "items"),
    [(0.09, 0.003, 61_824), (0.09, 0.01, 5_563), (0.03, 0.003, 20_607), (0.03, 0.01, 1_853)],
)
def test_items_needed_as_published(flip_rate, drop, items):
    """One-sided .05, power .8."""
    assert np.ceil(items_needed(drop, flip_rate)) == items


@given(st.floats(0.02, 0.5), st.integers(300, 10**5), st.floats(0.55, 0.99))
def test_the_smallest_detectable_effect_inverts_the_power(flip_rate, items, power):
    """A drop of δ is found with the planned power by the exact test of N items, few flips or many."""
    task = TaskShape(items, 1.0, items * flip_rate)
    effect = DecidingTest((task,), task, items, "joint").detectable_drop(0.05, power)
    if effect < flip_rate:
        assert exact_power(items, effect, flip_rate, 0.05) == pytest.approx(power, abs=0.01)


@given(st.integers(20, 10**6), st.floats(0.55, 0.99))
def test_the_effect_on_many_sums_is_that_of_the_large_sample_formula(blocks, power):
    """Few need more: Student's t."""
    task = TaskShape(blocks, 0.3, blocks, is_flips=False, step=0.0)
    effect = DecidingTest((task,), task, blocks, "joint").detectable_drop(0.05, power)
    normal = 0.3 * (sp.norm.isf(0.05) + sp.norm.ppf(power)) / blocks**0.5
    assert normal * 0.999 <= effect <= normal * (1.0 + 2.0 / blocks)


@pytest.mark.parametrize(("items", "drop", "flip_rate"), [(40, 0.15, 0.3), (25, 0.0, 0.5)])
def test_exact_power_equals_enumeration(items, drop, flip_rate):
    """Sum over every table of counts that the exact test rejects."""
    worse_rate, better_rate = (flip_rate + drop) / 2, (flip_rate - drop) / 2
    expected = 0.0
    for worse in range(items + 1):
        for better in range(items + 1 - worse):
            if mcnemar_p(worse, better) <= 0.05:
                counts, rates = (
                    [worse, better, items - worse - better],
                    [worse_rate, better_rate, 1 - flip_rate],
                )
                expected += sp.multinomial.pmf(counts, items, rates)
    assert exact_power(items, drop, flip_rate, 0.05) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=15)
@given(st.floats(0.05, 0.3), st.floats(0.3, 0.9))
def test_planned_items_have_the_planned_power(flip_rate, ratio):
    """The exact test reaches .8 with the planned number and not with clearly fewer."""
    drop = ratio * flip_rate
    items = Design(1, flip_rate).items_for(drop)
    assert exact_power(items, drop, flip_rate, 0.05) >= 0.8
    assert exact_power(int(0.9 * items) - 1, drop, flip_rate, 0.05) < 0.8


def test_power_depends_on_flipping_items_only():
    """Dropping items that never flip leaves N/p·δ² and so the power as it is."""
    assert exact_power(20_000, 0.01, 0.05, 0.05) == pytest.approx(
        exact_power(10_000, 0.02, 0.1, 0.05), abs=2e-3
    )


def _test(worse, better, items):
    """The test of one task."""
    task = TaskShape(items, 1.0, worse + better)
    return [DecidingTest((task,), task, items, "joint")]


def test_items_needed_give_the_certificate():
    """Simulated by the deciding rule: with that many items four in five equivalent variants are certified."""
    margin, found = 0.02, FlipEvidence(20, 20, 400)
    items = items_to_decide(400, 0.0, _test(20, 20, 400), found, margin, levels=(0.05, 0.05), power=0.8)
    counts = np.random.default_rng(1).multinomial(items, [0.05, 0.05, 0.9], 2_000)
    certified = [FlipEvidence(int(b), int(c), items).p_noninferior(margin) <= 0.05 for b, c, _ in counts]
    assert np.mean(certified) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("level", [0.05, 0.01])
@pytest.mark.parametrize(("worse", "better", "items"), [(60, 40, 1_000), (8, 4, 200)])
def test_items_needed_give_the_degradation(worse, better, items, level):
    """Simulated by the exact test: a drop as observed is found four times in five, at any level."""
    found, test = FlipEvidence(worse, better, items), _test(worse, better, items)
    needed = items_to_decide(items, found.mean, test, found, 0.001, levels=(level, 0.05), power=0.8)
    rates = [worse / items, better / items, 1 - (worse + better) / items]
    b, c, _ = np.random.default_rng(2).multinomial(needed, rates, 10_000).T
    assert np.mean(binom.sf(b - 1, b + c, 0.5) <= level) == pytest.approx(0.8, abs=0.013)


def test_without_flips_the_number_of_items_certifies():
    """(1 − M)ⁿ ≤ α from 299 items on; no way leads to a certificate from a drop above the margin."""
    test, rest = _test(0, 0, 100), {"levels": (0.05, 0.05), "power": 0.8}
    assert items_to_decide(100, 0.0, test, FlipEvidence(0, 0, 100), 0.01, **rest) == 299
    assert items_to_decide(100, -0.01, test, None, None, **rest) is None


def test_an_impossible_plan_is_refused():
    """No drop."""
    with pytest.raises(ValueError, match="drop"):
        items_needed(0.0, 0.1)


def test_reruns_average_noise_only():
    """All noise falls with K, data variance stays."""
    assert Design(1, 0.1, 10).variance == pytest.approx(0.01)
    assert Design(1, 0.1, 10, noise_rate=0.0).variance == pytest.approx(0.1)


@pytest.mark.parametrize("reruns", [2, 10])
def test_reruns_without_noise_are_one_run(reruns):
    """They are the same answers again."""
    once, again = (Design(246, 0.1, runs, 0.0) for runs in (1, reruns))
    assert again.power_at(0.05) == once.power_at(0.05)
    assert again.items_for(0.05) == once.items_for(0.05)


def test_no_averaging_makes_up_for_items():
    """Four items have no p-value below 1/16, five none below 1/32."""
    assert Design(4, 0.1, 10).power_at(0.1) == 0.0
    assert Design(100, 0.1, 10).items_for(0.1) >= 5


def test_one_item_is_planned_for():
    """At any level."""
    for alpha in (0.2, 0.25, 0.3, 0.5):
        found = compare([TaskScores("t", np.array([1.0]), np.array([0.0]))], Settings(alpha=alpha))
        assert found.items_needed is None or found.items_needed > 0
