"""Recovering whole numbers from floating-point scores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stats.distributions.lattice import to_lattice


@given(
    st.lists(st.integers(-60, 60), min_size=1, max_size=40),
    st.integers(1, 90),
    st.floats(1e-6, 1e6),
)
def test_fractions_in_any_unit_become_the_smallest_whole_numbers(numerators, denominator, unit):
    """k/q times any unit gives back the k, divided by their common divisor."""
    numbers = np.array(numerators)
    lattice = to_lattice(numbers / denominator * unit)
    divisor = np.gcd.reduce(np.abs(numbers)) or 1
    assert lattice is not None
    assert np.array_equal(lattice[1], numbers // divisor)
    assert np.allclose(lattice[0] * lattice[1], numbers / denominator * unit, rtol=1e-9)


def test_sums_that_only_rounding_separates_are_the_same_whole_number():
    """0.1 + 0.2 and 0.3 are one value."""
    lattice = to_lattice(np.array([0.1 + 0.2, 0.3, 0.1]))
    assert lattice is not None
    assert lattice[1].tolist() == [3, 3, 1]


def test_scores_without_a_common_denominator_fit_no_lattice():
    """Random reals are refused rather than rounded."""
    assert to_lattice(np.random.default_rng(1).random(50)) is None


def test_too_many_distinct_values_fit_no_lattice():
    """A lattice of ten thousand levels is not looked for among 5,000 distinct values."""
    assert to_lattice(np.arange(1, 5_001) / 9_973.0) is None


def test_denominators_of_a_hundred_thousand_fit():
    """F1 scores whose answers have 7, 9, 11, 13 and 10 words have the denominator 90,090."""
    whole = np.array([90_090, 12_870, 10_010, 8_190, 6_930, 9_009])
    lattice = to_lattice(whole / 90_090)
    assert lattice is not None
    assert lattice[1].tolist() == whole.tolist()


def test_all_zeros_fit():
    """Nothing differs: every number is zero."""
    lattice = to_lattice(np.zeros(3))
    assert lattice is not None
    assert lattice[1].tolist() == [0, 0, 0]
