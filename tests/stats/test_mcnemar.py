"""McNemar's exact test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as sp
from statsmodels.stats.contingency_tables import mcnemar

from stats.signflip import mcnemar_p


def two_sided(worse, better):
    """Twice the smaller tail, at most 1."""
    return min(1.0, 2 * min(mcnemar_p(worse, better), mcnemar_p(better, worse)))


PUBLISHED = [
    (163, 168, "6.29e-01"),
    (327, 363, "9.21e-01"),
    (1096, 1107, "6.01e-01"),
    (1241, 1042, "1.69e-05"),
    (1816, 1378, "4.80e-15"),
    (2981, 2325, "1.09e-19"),
]


@pytest.mark.parametrize(("worse", "better", "printed"), PUBLISHED)
def test_published_p_values_to_all_printed_digits(worse, better, printed):
    """Kübler et al. 2026, Llama-3.1-8B-Instruct against six variants."""
    assert f"{mcnemar_p(worse, better):.2e}" == printed


def test_fagerland_example():
    """Fagerland, Lydersen & Laake 2013: b = 1, c = 7."""
    assert round(two_sided(1, 7), 4) == 0.0703


@given(st.integers(0, 400), st.integers(0, 400))
def test_two_sided_agrees_with_statsmodels(worse, better):
    """Statsmodels doubles the binomial tail as well."""
    reference = mcnemar([[5, worse], [better, 5]], exact=True).pvalue
    assert two_sided(worse, better) == pytest.approx(min(1.0, reference), rel=1e-9)


def test_the_exact_test_decides_where_the_chi_square_errs():
    """On 10,042 items a chi-square p of .049 can be an exact one of .054."""
    worse, better = 272, 228
    chi_square = sp.chi2.sf((worse - better) ** 2 / (worse + better), 1)
    assert round(chi_square, 3) == 0.049
    assert round(two_sided(worse, better), 3) == 0.054


def test_no_flips_give_one():
    """M = 0."""
    assert mcnemar_p(0, 0) == 1.0


def test_negative_counts_are_refused():
    """A count cannot be negative."""
    with pytest.raises(ValueError, match="negative"):
        mcnemar_p(-1, 2)
