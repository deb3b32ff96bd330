"""Confidence intervals for the drop, and non-inferiority."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sp

from stats.drop import (
    ClusterEvidence,
    FlipEvidence,
    fay_lumbard_interval,
    fay_lumbard_upper,
    tango_interval,
    tango_score,
)
from stats.signflip import mcnemar_p

ITEMS = 25_282
COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 400))


def student(values, sizes=None):
    """Student's evidence of items, or of clusters of these sizes."""
    return ClusterEvidence(values, np.ones_like(values) if sizes is None else sizes)


def tango_p(worse, better, items, margin):
    """Tango's p-value of "the drop is at least the margin"."""
    return sp.norm.cdf(tango_score(worse, better, items, margin))


@pytest.mark.parametrize(
    ("worse", "better", "low", "high"),
    [(163, 168, -0.16, 0.12), (1096, 1107, -0.41, 0.32), (1241, 1042, 0.42, 1.16), (1816, 1378, 1.30, 2.17)],
)
def test_tango_on_published_counts(worse, better, low, high):
    """Percent of all pairs, to the printed digits."""
    found = tango_interval(worse, better, ITEMS)
    assert (round(100 * found[0], 2), round(100 * found[1], 2)) == (low, high)


def test_tango_on_fagerlands_table():
    """B = 1, c = 7, n = 21: [−.517, −.026]."""
    found = tango_interval(1, 7, 21)
    assert (round(found[0], 3), round(found[1], 3)) == (-0.517, -0.026)


@given(COUNTS, st.floats(-0.9, 0.9).filter(lambda drop: abs(drop) > 1e-3))
def test_tangos_nuisance_share_maximises_the_likelihood(counts, drop):
    """The score uses the restricted maximum-likelihood variance, found here on a fine grid."""
    worse, better, extra = counts
    items = worse + better + extra
    shares = np.linspace(max(0.0, -drop), (1.0 - drop) / 2, 20_001)[1:-1]
    likelihood = worse * np.log(shares + drop) + better * np.log(shares)
    likelihood += extra * np.log(1 - 2 * shares - drop)
    share = shares[np.argmax(likelihood)]
    expected = (worse - better - items * drop) / np.sqrt(items * (2 * share + drop * (1 - drop)))
    assert tango_score(worse, better, items, drop) == pytest.approx(expected, rel=0.02, abs=0.02)


@pytest.mark.slow
@settings(max_examples=200)
@given(COUNTS)
def test_fay_lumbard_excludes_zero_exactly_when_the_test_rejects(counts):
    """One-sided at α/2, on either side."""
    worse, better, extra = counts
    found = fay_lumbard_interval(worse, better, worse + better + extra)
    assert (found[0] > 0.0) == (mcnemar_p(worse, better) < 0.025)
    assert (found[1] < 0.0) == (mcnemar_p(better, worse) < 0.025)


def test_zero_is_excluded_where_the_level_is_the_p_value():
    """As at a boundary that is met exactly: all counts up to 120 × 120."""
    tails = sp.binom.sf(np.arange(121) - 1, np.arange(241)[:, None], 0.5)
    for better, worse in combinations(range(121), 2):
        flipped = worse + better
        assert fay_lumbard_upper(better, worse, flipped, tails[flipped, worse]) < 0.0, (worse, better)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worse", "better", "items"),
    [(9, 2, 161), (40, 20, 160), (1, 7, 21), (7, 3, 12), (3, 0, 30), (300, 260, 9000)],
)
def test_fay_lumbard_is_the_quantile_of_the_melded_products(worse, better, items):
    """Against a million draws from the confidence distributions of both shares."""
    rng, draws, flips = np.random.default_rng(1), 1_000_000, worse + better
    low_share = rng.beta(worse, better + 1, draws) if worse else np.zeros(draws)
    high_share = rng.beta(worse + 1, better, draws) if better else np.ones(draws)
    rarely, often = rng.beta(flips, items - flips + 1, draws), rng.beta(flips + 1, items - flips, draws)
    low = min(np.quantile(t * (2 * low_share - 1), 0.025) for t in (rarely, often))
    high = max(np.quantile(t * (2 * high_share - 1), 0.975) for t in (rarely, often))
    found = fay_lumbard_interval(worse, better, items)
    assert found == pytest.approx((low, high), abs=0.006 * (high - low))


def test_fay_lumbard_without_flips_is_the_rule_of_three():
    """No flip among n: the share of flips is at most 1 − (α/2)^(1/n), in both directions."""
    found = fay_lumbard_interval(0, 0, 50)
    edge = 1 - 0.025 ** (1 / 50)
    assert found == pytest.approx((-edge, edge), rel=1e-9)


@given(COUNTS)
def test_intervals_mirror_when_models_are_swapped(counts):
    """The interval of c − b is that of b − c with its sign changed."""
    worse, better, extra = counts
    items = worse + better + extra
    for interval in (fay_lumbard_interval, tango_interval):
        one, other = interval(worse, better, items), interval(better, worse, items)
        assert one == pytest.approx((-other[1], -other[0]), abs=1e-9)


@given(st.integers(50, 300), st.integers(0, 99))
def test_t_interval_is_scipys(items, seed):
    """Paired t with n − 1 degrees of freedom, cut to the possible range."""
    values = np.random.default_rng(seed).uniform(-1, 1, items)
    reference = sp.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = student(values).interval(0.05)
    expected = (max(reference.low, -1.0), min(reference.high, 1.0))
    assert found == pytest.approx(expected, abs=1e-9)


@given(st.integers(2, 49), st.integers(0, 99))
def test_few_differences_get_two_more_items(differing, seed):
    """With few differences it covers scipy's on the items, and on the items and two extreme ones."""
    rng = np.random.default_rng(seed)
    differences = np.append(rng.uniform(-1, 1, differing), np.zeros(differing))
    largest = np.abs(differences).max()
    references = [
        sp.ttest_1samp(values, 0.0).confidence_interval(0.95)
        for values in (differences, [*differences, largest, -largest])
    ]
    found = student(differences).interval(0.05)
    expected = (max(min(r.low for r in references), -1.0), min(max(r.high for r in references), 1.0))
    assert found == pytest.approx(expected, abs=1e-9)


def test_small_samples_that_differ_throughout_get_students_interval():
    """Fourteen clusters that all differ are not skewed by zeros."""
    sums = np.random.default_rng(9).normal(0.3, 0.2, 14)
    reference = sp.ttest_1samp(sums, 0.0).confidence_interval(0.95)
    found = student(sums).interval(0.05)
    assert found == pytest.approx((reference.low, reference.high))


@pytest.mark.slow
@pytest.mark.parametrize("items", [5, 10, 20, 40])
def test_small_samples_of_averages_are_covered(items):
    """Ten reruns of items that are half certain and half not, five points lost: at least 94 % of 2,000."""
    rng, covered = np.random.default_rng(8), 0
    for _ in range(2_000):
        ability = np.where(rng.random(items) < 0.5, rng.random(items) < 0.5, rng.uniform(0.2, 0.8, items))
        lower = np.where((ability > 0.0) & (ability < 1.0), ability - 0.1, ability)
        found = student((rng.binomial(10, ability) - rng.binomial(10, lower)) / 10).interval(0.05)
        covered += found[0] <= 0.05 <= found[1]
    assert covered >= 0.94 * 2_000


def test_equal_clusters_give_the_t_interval_of_their_means():
    """With clusters of one size the ratio estimator is the paired t on cluster means."""
    sums = np.random.default_rng(2).normal(1.0, 2.0, 14)
    found = student(sums, np.full(14, 20.0)).interval(0.05)
    reference = student(sums / 20.0).interval(0.05)
    assert found == pytest.approx(reference, rel=1e-12)


def test_one_cluster_says_nothing():
    """A single cluster leaves the whole range and no certificate."""
    assert student(np.array([3.0]), np.array([10.0])).interval(0.05) == (-1.0, 1.0)
    assert student(np.array([0.0]), np.array([10.0])).p_noninferior(0.01) == 1.0


def test_non_inferiority_of_fp8_at_half_a_point():
    """Published counts (1096, 1107): p = 1.7e-3."""
    assert f"{tango_p(1096, 1107, ITEMS, 0.005):.1e}" == "1.7e-03"


@given(COUNTS, st.floats(0.001, 0.5))
def test_non_inferiority_agrees_with_the_interval(counts, margin):
    """Certified at α/2 exactly when Tango's upper limit lies below the margin."""
    worse, better, extra = counts
    items = worse + better + extra
    certified = tango_p(worse, better, items, margin) < 0.025
    high = tango_interval(worse, better, items)[1]
    assert certified == (high < margin) or high == pytest.approx(margin, abs=1e-6)


def test_many_flips_are_judged_by_tango_and_few_by_the_melded_interval():
    """At 2,203 flips the published p-value stands; below 20 flips p ≤ α/2 exactly where the interval ends."""
    assert FlipEvidence(1096, 1107, ITEMS).p_noninferior(0.005) == pytest.approx(
        tango_p(1096, 1107, ITEMS, 0.005)
    )
    for worse, better, items in ((0, 3, 9), (3, 7, 120), (0, 0, 300), (2, 12, 60), (4, 0, 4), (5, 14, 2_000)):
        high = fay_lumbard_interval(worse, better, items)[1]
        for margin in (high * 0.999, high * 1.001):
            if 0.0 < margin < 1.0:
                assert (FlipEvidence(worse, better, items).p_noninferior(margin) < 0.025) == (margin > high)


def test_three_lucky_items_of_nine_are_no_certificate():
    """None worse and three better of nine: Tango says .038 at one point, though +16 are possible."""
    assert tango_p(0, 3, 9, 0.01) < 0.05
    assert FlipEvidence(0, 3, 9).p_noninferior(0.01) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("items", [5, 9, 20, 40, 80])
@pytest.mark.parametrize("margin", [0.01, 0.05])
def test_a_drop_as_large_as_the_margin_is_rarely_certified(items, margin):
    """By enumeration of all flip counts, at most 5.5 % at α = .05 whatever the flip rate."""
    counts = [(b, c) for b in range(items + 1) for c in range(items + 1 - b)]
    counts = [(b, c) for b, c in counts if b - c < margin * items]  # nothing else is certified
    found = [n for n in counts if FlipEvidence(*n, items).p_noninferior(margin) <= 0.05]
    for flip_rate in (margin, 0.1, 0.3, 0.6, 0.9):
        chances = [(flip_rate + margin) / 2, (flip_rate - margin) / 2, 1 - flip_rate]
        law = sp.multinomial(items, chances)
        assert sum(law.pmf([b, c, items - b - c]) for b, c in found) <= 0.055


def test_graded_non_inferiority_is_near_scipys_one_sided_t():
    """Mean difference against the margin, where nothing is skewed; without bounds it is Student's t."""
    values = np.random.default_rng(4).normal(0.0, 0.2, 800)
    reference = sp.ttest_1samp(values, 0.03, alternative="less").pvalue
    assert student(values).p_noninferior(0.03) == pytest.approx(reference, rel=0.05)
    unbounded = ClusterEvidence(values, np.ones(800), np.inf)
    assert unbounded.p_noninferior(0.03) == pytest.approx(reference, rel=1e-10)


def test_items_that_all_agree_are_certified_by_their_number_only():
    """No difference in n items: (1 − M)^n, not a standard error of 0."""
    assert student(np.zeros(100)).p_noninferior(0.01) == pytest.approx(0.99**100)
    found = student(np.zeros(100)).interval(0.05)
    assert found[1] == pytest.approx(1 - 0.025**0.01)


def test_a_few_equal_or_nearly_equal_items_are_no_certificate():
    """Four items without a difference, or with a tiny spread, could miss any loss."""
    assert student(np.zeros(4)).p_noninferior(0.01) == pytest.approx(0.99**4)
    assert student(np.array([0.0, 0.0, 0.0, -0.001])).p_noninferior(0.01) > 0.9
    assert student(np.array([0.0, 0.0, -1.0]), np.full(3, 100.0)).p_noninferior(0.01) > 0.9


def test_rare_total_losses_are_not_certified_away():
    """One item in a hundred loses all, the rest wobble: a drop of the margin is hardly ever certified."""
    rng = np.random.default_rng(6)
    for items in (20, 100, 300):
        certified = 0
        for _ in range(1_000):
            values = np.where(rng.random(items) < 0.01, 1.0, rng.normal(0.0, 0.05, items)).clip(-1, 1)
            certified += student(values).p_noninferior(0.01) <= 0.05
        assert certified <= 75


def test_clusters_can_be_certified_from_299_on():
    """Losses of a point may sit in one cluster of a hundred, which 298 miss with chance .05."""
    means = np.random.default_rng(7).normal(-0.01, 0.01, 299)
    few, enough = (student(200.0 * means[:count], np.full(count, 200.0)) for count in (20, 299))
    assert few.p_noninferior(0.01) > 0.5
    assert enough.p_noninferior(0.01) <= 0.05
    assert sp.ttest_1samp(means[:20], 0.01, alternative="less").pvalue < 1e-6
