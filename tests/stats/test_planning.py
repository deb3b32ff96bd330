"""Planning against simulation and against published numbers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from stats.comparison import Settings, TaskScores, compare_variants
from stats.planning import DecidingTest, Design, exact_power
from stats.signflip import SignFlipTest
from stats.tasks.combine import combine_tasks
from stats.tasks.power import TaskShape, power_over_tasks

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


TESTS = ("pooled", "max-drop", "fisher", "joint", "any")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("items", "flip_rate", "drops", "level"),
    [
        ((1_000,) * 6, 0.1, (0.03, 0.0, 0.0, 0.0, 0.0, 0.0), 0.05),
        ((700, 150, 150), 0.03, (0.011,) * 3, 0.05),
        ((50,) * 6, 0.1, (0.05,) * 6, 0.0125),
    ],
)
def test_power_over_tasks_is_that_of_the_tests_themselves(items, flip_rate, drops, level):
    """Every combination of 800 drawn sets of scores, to three standard errors: many flips, few, and fewer."""
    rng, rejected, runs = np.random.default_rng(4), np.zeros(5), 800
    for number in range(runs):
        counts = [
            rng.multinomial(n, [(flip_rate + d) / 2, (flip_rate - d) / 2, 1 - flip_rate])
            for n, d in zip(items, drops, strict=True)
        ]
        found = combine_tasks([np.repeat([1.0, -1.0], count[:2]) for count in counts], 2_000, number)
        rejected += np.array([found.p[name] for name in TESTS]) <= level
    shapes = [TaskShape(n, 1.0, n * flip_rate) for n in items]
    for share, name in zip(rejected / runs, TESTS, strict=True):
        error = 3 * np.sqrt(max(share * (1 - share), 0.01) / runs)
        assert power_over_tasks(shapes, np.array(drops), level, name) == pytest.approx(share, abs=error), name


@pytest.mark.parametrize("combine", TESTS[:4])
def test_without_a_drop_the_power_is_the_level(combine):
    """No more than .05 but for the error of the simulation, with many flips, few, and normal sums."""
    for shape in (TaskShape(2_000, 1.0, 200.0), TaskShape(50, 1.0, 5.0), TaskShape(400, 0.3, 400.0, False)):
        assert power_over_tasks([shape] * 8, 0.0, 0.05, combine) < 0.056


@pytest.mark.parametrize("combine", TESTS)
def test_a_detectable_drop_over_tasks_has_the_power_asked_for(combine):
    """Forth and back, and as many items as it needs."""
    design = Design(3_000, 0.06, tasks=(0.6, 0.2, 0.2), combine=combine)
    drop = design.detectable_drop()
    assert design.power_at(drop) == pytest.approx(0.8, abs=0.01)
    assert design.items_for(drop) == pytest.approx(3_000, rel=0.03)


def test_the_joint_test_over_tasks_detects_less_than_the_pooled_one():
    """Where the drop is spread evenly, and more than the largest drop of a task."""
    drops = [
        Design(2_000, 0.1, tasks=(0.25,) * 4, combine=each).detectable_drop()
        for each in ("any", "pooled", "joint", "max-drop")
    ]
    assert drops == sorted(drops)


def _flips(count, items):
    """Scores of a task with as many flips either way, anywhere."""
    differences = np.random.default_rng(5).permutation(
        np.append(np.tile([1.0, -1.0], count // 2), np.zeros(items - count))
    )
    return TaskScores(f"task of {items}", (differences > 0) * 1.0, (differences < 0) * 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("combine", ["joint", "max-drop", "fisher", "any"])
def test_a_true_drop_of_mde_over_tasks_is_found(combine):
    """With the planned power, to three standard errors of 600 simulations, by the test that decides."""
    items, flip_rate, runs = 200, 0.05, 600
    tasks = [_flips(10, items)] * 4
    drop = compare_variants({"variant": tasks}, Settings(combine=combine))["variant"].mde
    rng, found = np.random.default_rng(6), 0
    for number in range(runs):
        counts = rng.multinomial(items, [(flip_rate + drop) / 2, (flip_rate - drop) / 2, 1 - flip_rate], 4)
        sums = [np.repeat([1.0, -1.0], count[:2]) for count in counts]
        found += combine_tasks(sums, 2_000, number).p[combine] <= 0.05
    assert found / runs == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / runs))


@pytest.mark.parametrize(("clusters", "size", "flip_rate"), [(12, 40, 0.1), (300, 3, 0.03)])
def test_a_drop_over_clusters_is_found_with_the_power_asked_for(clusters, size, flip_rate):
    """Few clusters of many items are Student's sums on a lattice, many of few items are flips."""
    unit = (size * flip_rate) ** 0.5
    task = TaskShape(clusters * size, unit, clusters, is_flips=False, step=1 / unit)
    if unit < 1:
        task = TaskShape(clusters * size, 1.0, clusters * size * flip_rate)
    drop = DecidingTest((task,), task, clusters, "joint").detectable_drop(0.05, 0.8)
    uniform = np.random.default_rng(7).random((3_000, clusters, size))
    sums = ((uniform < (flip_rate + drop) / 2) * 1.0 - (uniform > 1 - (flip_rate - drop) / 2)).sum(axis=2)
    assert np.mean([SignFlipTest(own).p <= 0.05 for own in sums]) == pytest.approx(0.8, abs=0.022)


def test_the_shape_of_differences_keeps_their_squares():
    """Few that differ are flips, many of several sizes are sums."""
    sparse, dense = np.zeros(100), np.random.default_rng(8).integers(1, 9, 100) * 0.5
    sparse[:10] = [2.0, -1.0] * 5
    flips, sums = TaskShape.of(sparse, 300), TaskShape.of(dense - dense.mean().round(), 300)
    assert flips.is_flips
    assert flips.count * flips.unit**2 == pytest.approx(sparse @ sparse)
    assert not sums.is_flips
    assert sums.count * sums.unit**2 == pytest.approx(100 * dense.var(ddof=1))
    assert sums.step * sums.unit == pytest.approx(0.5)
