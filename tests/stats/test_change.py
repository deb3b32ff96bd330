"""Changes of a measurement: the two-sided test, intervals of ratios and differences, and tolerances."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from stats.change import (
    ChangeVerdict,
    MeanChange,
    RateChange,
    RatioChange,
    conclude_changes,
    flip_p,
    measure_change,
    student_p,
    trigger_f1,
)
from stats.drop import ClusterEvidence
from stats.scores import TaskScores


def lengths(baseline, variant, clusters=None, bounds=None):
    """One task's values."""
    values = [np.asarray(side, dtype=np.float64) for side in (baseline, variant)]
    return TaskScores("t", *values, clusters=clusters, bounds=bounds)


def measured(tasks, **options):
    """A change of lengths."""
    settings = {"relative": True, "tolerance": 0.05, "alpha": 0.05} | options
    return measure_change("output_tokens", tasks, **settings)


def two_sided(sums):
    """The share of all sign vectors that give a sum as far from 0 as the observed one."""
    reached = np.array([np.dot(signs, sums) for signs in product((1.0, -1.0), repeat=len(sums))])
    return np.mean(np.abs(reached) >= abs(sum(sums)) * (1 - 1e-12))


@pytest.mark.parametrize(
    "sums", [[3, -1, 4, 1, -5, 9, 2, 6], [-7, -5, -3, 1], [0, 0, 2], [0.1, 0.2, -0.3, 0.7]]
)
def test_the_test_is_the_two_sided_sign_flip_test(sums):
    """On few items it is what enumerating all sign vectors gives."""
    assert flip_p(np.array(sums, dtype=np.float64)) == pytest.approx(two_sided(sums), rel=1e-9)


def test_rounded_differences_give_nearly_the_same_p_value():
    """Differences without a common step are rounded; beside 200,000 drawn sign vectors that hardly shows."""
    rng = np.random.default_rng(2)
    sums = rng.normal(0.12, 1.0, 300) * rng.lognormal(0.0, 1.0, 300)
    flips = rng.choice([1.0, -1.0], (200_000, 300)) @ sums
    assert flip_p(sums) == pytest.approx(np.mean(np.abs(flips) >= abs(sums.sum())), abs=0.004)


def test_one_item_and_nothing_that_differs():
    """A single item says nothing of its ratio; equal values have a change of exactly 0."""
    one = measured([lengths([100], [130])])
    assert one.change == pytest.approx(0.3)
    assert one.change_interval == (-1.0, np.inf)
    assert (one.p, one.p_within) == (1.0, 1.0)
    (same,) = conclude_changes([measured([lengths(range(30, 60), range(30, 60))])], 0.05)
    assert (same.change, same.change_interval, same.p) == (0.0, (0.0, 0.0), 1.0)
    assert same.verdict is ChangeVerdict.WITHIN


def test_a_baseline_of_zero_has_no_finite_ratio():
    """Then nothing is shown to be within a tolerance, unless the variant has 0 as well."""
    change = measured([lengths([0, 0, 0], [0, 1, 2])])
    assert (change.change, change.change_interval) == (np.inf, (-1.0, np.inf))
    assert change.p_within > 0.05
    (same,) = conclude_changes([measured([lengths([0] * 40, [0] * 40)])], 0.05)
    assert (same.change, same.change_interval, same.verdict) == (0.0, (0.0, 0.0), "within")


@pytest.mark.parametrize(
    "clusters", [None, np.arange(90) // 3, np.repeat([0, 1, 2, 3, 4, 5], [40, 20, 10, 10, 5, 5])]
)
def test_the_ends_of_an_interval_are_the_ratios_that_the_t_test_just_does_not_reject(clusters):
    """Fieller's, with the errors and degrees of freedom of the mean over clusters."""
    rng = np.random.default_rng(1)
    baseline = rng.lognormal(5.0, 0.7, 90)
    task = lengths(baseline, baseline * rng.lognormal(0.1, 0.4, 90), clusters)
    names = np.arange(90) if clusters is None else clusters
    for end in RatioChange([task]).interval(0.1):
        gaps = task.variant - (1.0 + end) * task.baseline
        evidence = ClusterEvidence(np.bincount(names, gaps), np.bincount(names).astype(float), np.inf)
        assert stats.t.sf(abs(evidence.mean) / evidence.standard_error, evidence.freedom) == pytest.approx(
            0.05
        )


@pytest.mark.parametrize("make", [RatioChange, MeanChange])
@pytest.mark.parametrize("seed", range(6))
def test_within_a_tolerance_is_an_interval_within_it(make, seed):
    """The two one-sided tests reject exactly where the interval at 1 − 2α lies within the tolerance."""
    rng = np.random.default_rng(seed)
    baseline = rng.random(60)
    variant = np.clip(baseline + rng.normal(0.01, 0.05, 60), 0.0, 1.0)
    clusters = np.arange(60) // 4 if seed % 2 and make is RatioChange else None
    evidence = make([lengths(baseline, variant, clusters, None if make is RatioChange else (0.0, 1.0))])
    low, high = evidence.interval(0.1)
    edge = max(-low, high)
    assert evidence.p_within(edge * 1.01) < 0.05 < evidence.p_within(edge * 0.99)


@pytest.mark.parametrize("relative", [True, False])
def test_two_items_that_agree_show_nothing(relative):
    """As many as are needed to find a change are needed to rule one out: half of all items may differ."""
    changes = [measured([lengths([9.0] * n, [9.0] * n)], relative=relative) for n in (2, 4, 5)]
    verdicts = [change.verdict for change in conclude_changes(changes, 0.05)]
    assert verdicts == ["inconclusive", "inconclusive", "within"]


def test_shares_are_compared_by_their_difference():
    """30 more of 400 answers are cut: 7.5 points, with the interval of the drop's own statistics."""
    cut = np.arange(400) < 10
    change = measured([lengths(cut, np.arange(400) < 40, bounds=(0, 1))], relative=False, tolerance=0.01)
    assert change.change == pytest.approx(0.075)
    assert change.change_interval[0] > 0.04
    assert change.p == pytest.approx(2 * 0.5**30)


def test_a_difference_without_bounds_that_is_nowhere_is_nothing():
    """Its interval agrees with its tolerance; where there are bounds, what was not seen counts."""
    values = np.linspace(0.0, 1.0, 50)
    nothing = measured([lengths(values, values)], relative=False, tolerance=0.01)
    assert (nothing.change_interval, nothing.p, nothing.p_within < 0.05) == ((0.0, 0.0), 1.0, True)
    bounded = measured([lengths(values, values, bounds=(0.0, 1.0))], relative=False, tolerance=0.01)
    assert bounded.change_interval[1] > 0.01


@pytest.mark.parametrize("seed", [0, 2])
def test_unequal_reruns_are_tested_by_student_as_well(seed):
    """Means over unequal numbers of reruns may not be swapped: either test has to reject."""
    sums = np.random.default_rng(seed).normal(0.3, 1.0, 40)
    assert student_p(sums, np.ones(40)) == pytest.approx(stats.ttest_1samp(sums, 0.0).pvalue)
    change = measured([lengths(100 - sums, np.full(40, 100.0))], may_swap=False)
    larger = max(student_p(sums, np.ones(40)), flip_p(sums))
    assert (change.method, change.p) == ("student", pytest.approx(larger, rel=1e-3))


@pytest.mark.parametrize("differing", [(2, 2), (4, 1000)])
def test_few_differences_are_no_change_however_student_sees_them(differing):
    """Two of two items by the same amount, or four of 1,000: half, or an eighth, of all signs are as far."""
    count, items = differing
    variant = 100.0 + (np.arange(items) < count)
    change = measured([lengths(np.full(items, 100.0), variant)], may_swap=False)
    assert change.p == pytest.approx(0.5 ** (count - 1))
    assert student_p(variant - 100.0, np.ones(items)) < 0.05


def test_holm_counts_what_can_change():
    """Three differ, one in both directions alike; one is the same, one not tested: a family of three."""
    rng = np.random.default_rng(0)
    base = rng.lognormal(5.0, 0.5, 80)
    one = measured([lengths(base, base * 1.04 + rng.normal(0, 15, 80))])
    two = measured([lengths(base, base + rng.normal(0, 60, 80))])
    same, untested = measured([lengths(base, base)]), measured([lengths(base, base * 2)], tested=False)
    even = measured([lengths([5.0] * 8, [4.0, 6.0] * 4)])
    found = conclude_changes([one, same, untested, two, even], 0.05)
    assert one.p < two.p < even.p == 1.0
    assert found[0].p_adjusted == pytest.approx(3 * one.p)
    verdicts = ["changed", "within", "described", "inconclusive", "inconclusive"]
    assert [change.verdict for change in found] == verdicts
    assert np.isnan(found[2].p_adjusted)


def test_tasks_are_taken_together_with_what_they_share():
    """The ratio is of totals over all tasks, and one document in two tasks flips together."""
    first = TaskScores(
        "a", np.array([10.0, 20.0]), np.array([12.0, 20.0]), links=np.array([1, 2]), bounds=None
    )
    second = TaskScores(
        "b", np.array([30.0, 40.0]), np.array([33.0, 44.0]), links=np.array([1, 3]), bounds=None
    )
    change = measured([first, second])
    assert change.change == pytest.approx(9 / 100)
    assert (change.items, change.clusters) == (4, 3)
    assert change.p == 0.5  # two blocks differ, both upwards


def test_f1_of_triggers_is_that_of_precision_and_recall():
    """By hand: 6 in both, 2 too many, 1 missing and 5 in neither; over two tasks as over one."""
    baseline, variant = [1] * 6 + [0] * 2 + [1] + [0] * 5, [1] * 6 + [1] * 2 + [0] + [0] * 5
    precision, recall = 6 / 8, 6 / 7
    f1, (low, high) = trigger_f1([lengths(baseline, variant, bounds=(0, 1))], 0.1)
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert 0.0 <= low < f1 < high < 1.0
    parts = [lengths(baseline[k::2], variant[k::2], bounds=(0, 1)) for k in (0, 1)]
    assert trigger_f1(parts, 0.1)[0] == pytest.approx(f1)
    halves = [lengths(np.array(baseline) / 2, np.array(variant) / 2, bounds=(0, 1))]
    assert trigger_f1(halves, 0.1)[0] == pytest.approx(f1 / 2)  # each calls in one of two reruns, by chance


def test_calls_that_agree_everywhere_leave_room_for_what_was_not_seen():
    """An F1 of 1 over few items is no proof."""
    f1, (low, high) = trigger_f1([lengths([1] * 20, [1] * 20, bounds=(0, 1))], 0.1)
    assert (f1, high) == (1.0, 1.0)
    assert 0.85 < low < 0.95
    sides, pairs = ([1, 0] * 6, [0, 1] * 6), np.arange(12) // 2
    for clusters in (None, pairs):  # nor is one of 0
        f1, (low, high) = trigger_f1([lengths(*sides, clusters, bounds=(0, 1))], 0.1)
        assert (f1, low) == (0.0, 0.0)
        assert 0.3 < high < 0.6


@pytest.mark.parametrize(("reruns", "size"), [(1, 1), (3, 1), (1, 4)])
def test_intervals_of_f1_cover_it(reruns, size):
    """Both call with probability .6, one alone with .2, alike in a cluster; at a nominal level of 90 %."""
    rng, covered, repeats = np.random.default_rng(5), 0, 400
    truth = 2 * 0.6 / (2 * 0.6 + 0.2)
    if reruns > 1:  # they pair at random
        truth = 2 * (0.6 / reruns + 0.49 * (1 - 1 / reruns)) / 1.4
    clusters = np.repeat(np.arange(120), size) if size > 1 else None
    for _ in range(repeats):
        kind = np.repeat(rng.choice(4, p=[0.6, 0.1, 0.1, 0.2], size=(120, reruns)), size, axis=0)
        sides = [np.isin(kind, both).mean(axis=1) for both in ((0, 1), (0, 2))]
        low, high = trigger_f1([lengths(*sides, clusters, (0, 1))], 0.1)[1]
        covered += low <= truth <= high
    assert covered / repeats > 0.9 - 2 * np.sqrt(0.09 / repeats)


def test_a_lower_limit_of_f1_counts_clusters_that_disagree_as_a_whole():
    """Six of 100 clusters do, 60 are drawn: the limit at .95 is above the truth as often as it may be."""
    rng, missed, repeats = np.random.default_rng(3), 0, 150
    for _ in range(repeats):
        disagrees, side = np.repeat([rng.random(60) < 0.06, rng.random(60) < 0.5], 4, axis=1)
        sides = [np.where(disagrees, one, True) for one in (side, ~side)]
        low, _ = trigger_f1([lengths(*sides, np.arange(240) // 4, (0, 1))], 0.1)[1]
        missed += low > 2 * 0.94 / 1.94
    assert missed / repeats < 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats)


def test_the_ratio_of_two_rates_is_that_of_their_totals():
    """6 samples in 3 s against 6 in 12 s: a quarter, whatever single blocks took; of one, no interval."""
    baseline, variant = np.array([[2.0, 4.0], [1.0, 2.0]]), np.array([[2.0, 4.0], [10.0, 2.0]])
    assert RateChange(baseline, variant).estimate == pytest.approx(-0.75)
    assert all(np.isnan(RateChange(baseline[:, :1], variant[:, :1]).interval(0.05)))


def test_two_rates_that_differ_by_a_factor_have_an_interval_without_width():
    """Blocks may differ among themselves: they are paired."""
    baseline = np.array([[5.0] * 30, np.random.default_rng(0).lognormal(0.0, 1.0, 30)])
    assert RateChange(baseline, baseline * [[1.0], [2.0]]).interval(0.05) == pytest.approx((-0.5, -0.5))


def test_two_rates_have_the_error_of_neighbours_on_either_side():
    """A load that drifts while the variant runs hardly shows where blocks stand as the baseline took them."""
    order = np.arange(60).reshape(20, 3).T.ravel()  # of the variant
    seconds = np.ones(60)
    seconds[order] += np.linspace(0.0, 1.0, 60)
    sides = [np.array([np.full(60, 32.0), own]) for own in (np.ones(60), seconds)]
    widths = [np.ptp(RateChange(*sides, by).interval(0.05)) for by in (None, np.arange(60), order)]
    assert widths[0] == widths[1]
    assert widths[2] > 2 * widths[0]
    whole = RateChange(*(side[:, order] for side in sides)).interval(0.05)
    assert widths[2] == pytest.approx(np.ptp(whole))


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_an_interval_of_two_rates_covers_the_ratio(memory):
    """In 95 of 100 runs of 60 blocks, also where the load of the machine drifts from block to block."""
    rng, covered, runs = np.random.default_rng(0), 0, 400
    for _ in range(runs):
        sides = []
        for slowness in (1.0, 1.6):
            drift, noise = np.zeros(60), rng.normal(0.0, 0.2, 60)
            for place in range(1, 60):
                drift[place] = memory * drift[place - 1] + noise[place]
            sides.append(np.array([np.full(60, 32.0), slowness * np.exp(drift)]))
        low, high = RateChange(*sides).interval(0.05)
        covered += low < 1 / 1.6 - 1 < high
    assert 0.95 - 4 * np.sqrt(0.95 * 0.05 / runs) < covered / runs < 0.985
