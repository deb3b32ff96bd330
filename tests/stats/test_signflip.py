"""The sign-flip test on scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sp

from stats.arrays import EvidenceError, as_scores, block_sums
from stats.distributions.nulls import monte_carlo_p, monte_carlo_sums
from stats.signflip import SignFlipTest


def enumerated_p(differences):
    """Share of all sign vectors whose sum is at least the observed one, in whole numbers."""
    sums = np.zeros(1, dtype=np.int64)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])
    return np.mean(sums >= int(np.sum(differences)))


@settings(max_examples=100)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=12), st.data())
def test_clusters_are_flipped_as_blocks(differences, data):
    """The p-value is that of the enumerated signs of the cluster sums."""
    size = len(differences)
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    sums = [sum(d for d, g in zip(differences, labels, strict=True) if g == k) for k in set(labels.tolist())]
    found = SignFlipTest(block_sums(np.array(differences) / 9.0, labels))
    assert found.p == pytest.approx(enumerated_p(sums), rel=1e-9)
    assert found.blocks == len(sums)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=12))
def test_unequal_reruns_are_exact(successes):
    """Means over 4 and over 3 reruns live on twelfths."""
    pairs = np.array(successes)
    found = SignFlipTest(pairs[:, 0] / 4 - pairs[:, 1] / 3)
    assert found.method == "exact"
    assert found.p == pytest.approx(enumerated_p(3 * pairs[:, 0] - 4 * pairs[:, 1]), rel=1e-9)


def test_agrees_with_scipy_where_scipy_enumerates():
    """Scipy's permutation_test goes through all 2^n sign vectors for small n."""
    differences = np.array([0.5, -0.25, 0.75, 1.0, -0.5, 0.25, 0.5, 0.0, 1.0, -0.75])
    reference = sp.permutation_test(
        (differences,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert SignFlipTest(differences).p == pytest.approx(reference.pvalue, rel=1e-12)


@pytest.mark.parametrize("unit", [1.0, 10.0, 0.1, 1 / 3, np.pi, 1e-7])
def test_the_unit_of_the_scores_does_not_matter(unit):
    """Ties are counted alike whatever the data are multiplied with."""
    differences = np.array([0.1, 0.2, -0.3, 0.3, -0.1, 0.4, -0.6])
    expected = enumerated_p([1, 2, -3, 3, -1, 4, -6])
    assert SignFlipTest(differences * unit).p == pytest.approx(expected, rel=1e-12)


def test_no_difference_gives_one():
    """Zero flips are no evidence against the variant."""
    assert SignFlipTest(np.zeros(20)).p == 1.0


def test_few_scores_on_no_lattice_are_enumerated():
    """Fourteen irrational differences: the p-value is that of all 16,384 sign vectors, and exact."""
    differences = np.random.default_rng(5).normal(0.3, 1.0, 14)
    found = SignFlipTest(differences)
    signs = 1 - 2 * ((np.arange(2**14)[:, None] >> np.arange(14)) & 1)
    exact = np.mean(signs @ differences >= differences.sum() - 1e-12)
    assert (found.method, found.standard_error, found.smallest_p) == ("exact", 0.0, 2.0**-14)
    assert found.p == pytest.approx(exact, rel=1e-12)


def test_thirty_two_blocks_are_exact_and_thirty_three_simulated():
    """All differences to one side: 2^−32 at best, then what the draws resolve."""
    differences = np.random.default_rng(8).random(33) + 0.5
    assert SignFlipTest(differences[:32]).p == pytest.approx(2.0**-32, rel=1e-12)
    assert SignFlipTest(differences, draws=999).p == pytest.approx(1 / 1_000)


def test_enumerated_ties_count_despite_rounding():
    """Rounding errors on irrational sums do not break ties: ten of sixteen sums are at least 0."""
    differences = np.array([np.pi, -np.pi, np.e, -np.e]) * (1 + 1e-15 * np.arange(4))
    assert SignFlipTest(differences).p == pytest.approx(10 / 16)


def test_scores_on_no_lattice_are_simulated_and_say_so():
    """A simulated p-value carries method and standard error and is close to the normal limit."""
    differences = np.random.default_rng(5).normal(0.1, 1.0, 200)
    found = SignFlipTest(differences, draws=20_000, seed=1)
    limit = sp.norm.sf(differences.sum() / np.sqrt(differences @ differences))
    assert found.method == "monte-carlo"
    assert found.standard_error == pytest.approx(np.sqrt(found.p * (1 - found.p) / 20_001), rel=1e-9)
    assert abs(found.p - limit) < 4 * found.standard_error


def test_a_simulated_p_value_is_never_zero():
    """(r + 1)/(B + 1) with r = 0."""
    found = SignFlipTest(np.random.default_rng(6).random(60) + 0.5, draws=999)
    assert found.p == pytest.approx(1 / 1_000)
    assert found.smallest_p == pytest.approx(1 / 1_000)


def test_a_simulated_p_value_depends_on_the_seed_only():
    """The same seed gives the same p-value, another one another."""
    differences = np.random.default_rng(7).normal(size=50)
    first, again, other = (SignFlipTest(differences, draws=999, seed=s).p for s in (1, 1, 2))
    assert first == again != other


def test_simulated_ties_count_despite_rounding():
    """Pairs of equal irrational values that cancel: every sum of 0 is a tie with the observed one."""
    pair = np.repeat([np.pi, -np.pi], 20) * (1 + 1e-15 * np.arange(40))
    assert monte_carlo_p(monte_carlo_sums(pair, 20_000, 1), float(pair.sum())) == pytest.approx(
        sp.binom.sf(19, 40, 0.5), abs=0.015
    )


def test_the_smallest_possible_p_value_is_reported():
    """Three clusters can give 1/8 at best."""
    found = SignFlipTest(block_sums(np.ones(30), np.repeat([0, 1, 2], 10)))
    assert (found.p, found.smallest_p) == pytest.approx((1 / 8, 1 / 8))


@pytest.mark.parametrize("bad", [[], [np.nan], [np.inf, 0.0]])
def test_no_numbers_are_refused(bad):
    """Neither an empty vector nor a NaN becomes a p-value."""
    with pytest.raises(EvidenceError):
        as_scores(np.array(bad, dtype=float))


def test_clusters_that_cancel_but_for_rounding_do_not_differ():
    """0.1 + 0.2 − 0.3 is 5.6e-17, six times over; its sign is no evidence."""
    differences = np.tile([0.1, 0.2, -0.3], 6)
    assert differences[:3].sum() > 0.0
    assert SignFlipTest(block_sums(differences, np.repeat(np.arange(6), 3))).p == 1.0


def test_labels_of_another_length_are_refused():
    """Every item needs its cluster."""
    with pytest.raises(EvidenceError, match="3 cluster labels for 2 items"):
        block_sums(np.ones(2), np.array([1, 2, 3]))


def test_f1_scores_are_exact():
    """Sixty F1 scores on the denominator 90,090, too many to enumerate: exact, as drawing signs says."""
    rng = np.random.default_rng(9)
    words = rng.choice([7, 9, 10, 11, 13], (2, 60))
    differences = np.subtract(*(rng.integers(0, words + 1) / words)) + 0.0
    found = SignFlipTest(differences)
    drawn = monte_carlo_p(monte_carlo_sums(differences, 20_000, 1), float(differences.sum()))
    assert (found.method, found.standard_error) == ("exact", 0.0)
    assert abs(found.p - drawn) < 4 * np.sqrt(drawn * (1.0 - drawn) / 20_001)
