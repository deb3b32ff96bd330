"""The exact distribution of a sum of sign-flipped whole numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as sp

from stats.distributions.sums import LatticeSum

WEIGHTS = st.lists(st.integers(-12, 12), min_size=1, max_size=11)


def enumerated_sums(weights):
    """All 2^n sums."""
    signs = np.array(list(itertools.product([-1, 1], repeat=len(weights))))
    return signs @ np.array(weights)


@settings(max_examples=150)
@given(WEIGHTS, st.integers(-150, 150))
def test_tail_equals_enumeration(weights, value):
    """P(S ≥ value) is the share of all sign vectors that reach the value, zeros and ties included."""
    expected = np.mean(enumerated_sums(weights) >= value)
    found = np.exp(LatticeSum.of(np.array(weights)).log_tail(value))
    assert found == pytest.approx(expected, rel=1e-9, abs=0.0)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([1, 2, 7, 999, 1_000, 5_000]), min_size=1, max_size=10), st.floats(-1, 1))
def test_tail_equals_enumeration_where_the_law_has_gaps(weights, place):
    """Weights of very different size leave holes in the support, and the tail steps over them."""
    value = int(place * sum(weights))
    expected = np.mean(enumerated_sums(weights) >= value)
    found = np.exp(LatticeSum.of(np.array(weights)).log_tail(value))
    assert found == pytest.approx(expected, rel=1e-9, abs=0.0)


@settings(max_examples=100)
@given(WEIGHTS)
def test_table_equals_enumeration(weights):
    """The tabulated distribution has the probabilities of the enumerated sums."""
    support, chances = LatticeSum.of(np.array(weights)).table()
    values, counts = np.unique(enumerated_sums(weights), return_counts=True)
    expected = dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))
    found = {s: p for s, p in zip(support.tolist(), chances.tolist(), strict=True) if p > 0.0}
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("flips", [40, 333, 1_000, 20_000])
def test_small_tails_keep_nine_digits(flips):
    """Against binomials summed in whole numbers, down to 1e-100."""
    distribution = LatticeSum(np.array([1]), np.array([flips]))
    for log10_p in (-2, -10, -30, -60, -100):
        worse = int(sp.binom.isf(10.0**log10_p, flips, 0.5))
        if worse >= flips:
            continue
        exact = _log_binomial_tail(flips, worse)
        assert distribution.log_tail(2 * worse - flips) == pytest.approx(exact, abs=1e-9)


def _log_binomial_tail(flips, worse):
    """Ln Σ_{k ≥ worse} C(flips, k)/2^flips in exact integer arithmetic."""
    term = total = _choose(flips, worse)
    for k in range(worse, flips):
        term = term * (flips - k) // (k + 1)
        total += term
    shift = max(total.bit_length() - 60, 0)
    return float(np.log(total >> shift)) + (shift - flips) * float(np.log(2.0))


def _choose(n, k):
    result = 1
    for i in range(min(k, n - k)):
        result = result * (n - i) // (i + 1)
    return result


def test_tails_below_the_smallest_float_are_still_finite():
    """10,000 flips all to wrong: ln p = −10,000 ln 2."""
    distribution = LatticeSum(np.array([1]), np.array([10_000]))
    assert distribution.log_tail(10_000) == pytest.approx(-10_000 * np.log(2.0), rel=1e-12)
    assert distribution.log_tail(9_998) == pytest.approx(np.log(10_001.0) - 10_000 * np.log(2.0), rel=1e-12)


def test_tail_and_table_agree_for_averaged_scores():
    """Two ways to one distribution: tilted transform and direct convolution, nine digits over 60 decades."""
    rng = np.random.default_rng(3)
    distribution = LatticeSum.of(rng.integers(-10, 11, 800))
    support, chances = distribution.table()
    tails = np.cumsum(chances[::-1])[::-1]
    for value in np.linspace(0, 16 * distribution.scale, 25):
        place = int(np.searchsorted(support, value))
        assert distribution.log_tail(int(support[place])) == pytest.approx(np.log(tails[place]), abs=1e-9)


def test_the_lower_half_mirrors_the_upper():
    """P(S ≥ −s) = 1 − P(S > s), at no greater cost far below the middle."""
    distribution = LatticeSum.of(np.random.default_rng(4).integers(1, 60, 1_000))
    value = int(distribution.scale)
    assert np.exp(distribution.log_tail(-value)) == pytest.approx(
        1 - np.exp(distribution.log_tail(value + 1)), rel=1e-12
    )
    assert distribution.log_tail(-distribution.span // 2) == pytest.approx(0.0, abs=1e-12)


def test_nothing_differs():
    """Without a difference S is 0 for sure."""
    distribution = LatticeSum.of(np.zeros(4, dtype=np.int64))
    assert distribution.log_tail(0) == 0.0
    assert distribution.log_tail(1) == -np.inf


@pytest.mark.parametrize(("signs", "largest"), [(200, 300), (400, 2_000)])
def test_leaving_out_empty_frequencies_changes_nothing(signs, largest, monkeypatch):
    """On wide lattices most of the transform is skipped; the tail keeps nine digits, far out as well."""
    distribution = LatticeSum.of(np.random.default_rng(5).integers(1, largest, signs))
    values = [int(z * distribution.scale) for z in (0.2, 2, 5, 9)]
    whole = [distribution.log_tail(value) for value in values]
    monkeypatch.setattr("stats.distributions.sums.MAX_WORK", 0)
    monkeypatch.setattr("stats.distributions.sums.FEW_SIGNS_WORK", 0)
    sparse = LatticeSum(distribution.sizes, distribution.counts)
    assert [sparse.log_tail(value) for value in values] == pytest.approx(whole, abs=1e-9)


@pytest.mark.slow
def test_few_signs_on_a_wide_lattice_equal_enumeration():
    """Fourteen signs with sizes up to 90,090, from a table."""
    weights = np.random.default_rng(6).integers(1, 90_090, 14)
    distribution = LatticeSum.of(weights)
    assert distribution.feasible
    for value in (1, int(distribution.scale), int(2 * distribution.scale)):
        expected = np.mean(enumerated_sums(weights) >= value)
        assert np.exp(distribution.log_tail(value)) == pytest.approx(expected, rel=1e-9)
