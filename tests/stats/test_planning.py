"""Planning against simulation and against published numbers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from stats.planning import Design, exact_power, task_power
from stats.tasks.combine import combine_tasks

SIMULATIONS = 40_000


def _simulated_power(items, drop, flip_rate, seed):
    """Share of studies in which the exact one-sided McNemar test rejects at .05."""
    rng = np.random.default_rng(seed)
    flips = rng.binomial(items, flip_rate, SIMULATIONS)
    worse = rng.binomial(flips, (1 + drop / flip_rate) / 2)
    return float((binom.sf(worse - 1, flips, 0.5) <= 0.05).mean())


@pytest.mark.parametrize(
    ("items", "drop", "flip_rate"),
    [(300, 0.03, 0.1), (1_500, 0.02, 0.09), (5_563, 0.01, 0.09), (20_607, 0.003, 0.03)],
)
def test_power_agrees_with_simulation(items, drop, flip_rate):
    """Within one percentage point, from hundreds of items to ten thousands."""
    assert Design(items, flip_rate).power_at(drop) == pytest.approx(
        _simulated_power(items, drop, flip_rate, 1), abs=0.01
    )


@pytest.mark.parametrize(
    ("drop", "flip_rate", "needed"),
    [(0.003, 0.09, 61_824), (0.01, 0.09, 5_563), (0.003, 0.03, 20_607), (0.01, 0.03, 1_853)],
)
def test_items_needed_are_the_published_ones(drop, flip_rate, needed):
    """One-sided .05, power .8, by formula; the exact test asks for at most 8 % more."""
    design = Design(100, flip_rate)
    assert np.ceil(design.items_by_formula(drop)) == needed
    assert needed < design.items_for(drop) < 1.08 * needed


def test_exact_power_is_the_whole_sum():
    """The window leaves out nothing: against the sum over all numbers of flips."""
    flips = np.arange(401)
    rejects = binom.sf(binom.isf(0.05, flips, 0.5), flips, 0.6)
    assert exact_power(400, 0.02, 0.1, 0.05) == pytest.approx(binom.pmf(flips, 400, 0.1) @ rejects, rel=1e-9)


@pytest.mark.parametrize(("drop", "flip_rate"), [(0.05, 0.2), (0.02, 0.06), (0.01, 0.09)])
def test_items_needed_give_the_power_asked_for(drop, flip_rate):
    """Simulated at the planned number of items: 0.8 within one percentage point."""
    items = Design(100, flip_rate).items_for(drop)
    assert _simulated_power(items, drop, flip_rate, 2) == pytest.approx(0.8, abs=0.01)


def _averaged_power(items, reruns, half, worse, better, seed):
    """Simulated sign-flip test on means over reruns: `half` of the items are coin tosses for both models."""
    values = np.arange(-reruns, reruns + 1)
    toss = binom.pmf(np.arange(reruns + 1), reruns, 0.5)
    chances = half * np.convolve(toss, toss)
    chances[0] += better
    chances[-1] += worse
    chances[reruns] += 1 - half - worse - better
    counts = np.random.default_rng(seed).multinomial(items, chances, SIMULATIONS)
    z = counts @ values / np.sqrt(counts @ values**2)
    return float((z > 1.6448536).mean())


def test_power_with_reruns_agrees_with_simulation():
    """Five reruns, 6 % noise and 3 % lasting flips: within one percentage point."""
    design = Design(4_000, 0.09, reruns=5, noise_rate=0.06)
    found = _averaged_power(4_000, 5, 0.12, 0.019, 0.011, 3)
    assert design.power_at(0.008) == pytest.approx(found, abs=0.01)


def test_detectable_drop_is_found_with_the_power_asked_for():
    """Planning forth and back agree."""
    for design in (Design(800, 0.1), Design(9_000, 0.1), Design(3_000, 0.1, reruns=4, noise_rate=0.05)):
        drop = design.detectable_drop()
        assert design.power_at(drop) == pytest.approx(0.8, abs=0.005)


def test_too_few_items_detect_nothing():
    """Where even the largest drop is missed, none is named."""
    assert Design(10, 0.05).detectable_drop() is None


def test_reruns_help_only_against_noise():
    """Where flips are lasting, ten reruns detect nothing that one does not."""
    lasting = Design(5_000, 0.1, noise_rate=0.0)
    assert replace(lasting, reruns=10).detectable_drop() == pytest.approx(lasting.detectable_drop(), rel=0.02)
    noisy = Design(5_000, 0.1)
    assert replace(noisy, reruns=10).detectable_drop() < 0.4 * noisy.detectable_drop()


@pytest.mark.parametrize(
    "wrong", [{"items": 0}, {"flip_rate": 1.5}, {"reruns": 0}, {"noise_rate": 0.2}, {"alpha": 0}]
)
def test_impossible_designs_are_refused(wrong):
    """Numbers out of range end in an error that names them."""
    with pytest.raises(ValueError, match=r"must be between|must be at least 1"):
        Design(**{"items": 100, "flip_rate": 0.1, **wrong})


@pytest.mark.parametrize("drop", [0.0, -0.01, 0.2])
def test_impossible_drops_are_refused(drop):
    """A drop must be positive and no larger than the flip rate."""
    with pytest.raises(ValueError, match="cannot be planned for"):
        Design(100, 0.1).items_for(drop)


@pytest.mark.slow
def test_task_power_agrees_with_the_tests_themselves():
    """The table look-up against `combine_tasks`, six tasks of 100 flips, damage on one of them."""
    shares = np.array([0.65, 0.5, 0.5, 0.5, 0.5, 0.5])
    rng = np.random.default_rng(4)
    rejected = np.zeros(4)
    for number in range(600):
        worse = rng.binomial(100, shares)
        found = combine_tasks([np.where(np.arange(100) < b, 1.0, -1.0) for b in worse], 2_000, number)
        rejected += np.array([found.p[name] for name in ("pooled", "max-drop", "fisher", "joint")]) <= 0.05
    looked_up = task_power(100, shares)
    powers = [looked_up[name] for name in ("pooled", "max-drop", "fisher", "joint")]
    assert rejected / 600 == pytest.approx(powers, abs=0.06)


def test_task_power_keeps_the_level():
    """Without damage every test rejects at most .05, simulation error apart."""
    found = task_power(150, np.full(8, 0.5), seed=5)
    assert max(found.values()) < 0.055
