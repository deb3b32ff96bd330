"""The e-process."""

import numpy as np
import pytest
from scipy import stats as sp
from scipy.integrate import quad

from stats.watch import log_e_value


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (7, 2), (60, 40), (10, 30), (520, 480), (300, 2_000)])
def test_e_value_is_the_integral_it_stands_for(worse, better):
    """2^m ∫ q^b (1 − q)^c over Beta(50, 50) cut to (½, 1]."""

    def integrand(q):
        return (
            np.exp((worse + better) * np.log(2.0) + worse * np.log(q) + better * np.log1p(-q))
            * 2
            * sp.beta.pdf(q, 50, 50)
        )

    expected = quad(integrand, 0.5, 1.0, points=[0.5005, 0.51, 0.55, 0.7], limit=500)[0]
    assert log_e_value(worse, better) == pytest.approx(np.log(expected), abs=1e-8)


def test_a_much_better_variant_is_no_evidence_of_degradation():
    """Where the probability underflows the e-value stays below 1."""
    assert -20.0 < float(log_e_value(0, 50_000)) < 0.0


def test_the_expectation_under_the_null_is_one():
    """E[E_m] = 1 for every m, summed exactly over the binomial."""
    worse = np.arange(301)
    assert sp.binom.pmf(worse, 300, 0.5) @ np.exp(log_e_value(worse, 300 - worse)) == pytest.approx(
        1.0, rel=1e-9
    )


def test_one_flip_to_wrong_after_another_is_more_and_more_evidence():
    """Within 60 of them it reaches ln 20."""
    log_e = log_e_value(np.arange(61), 0)
    assert (np.diff(log_e) > 0.0).all()
    assert log_e[0] < np.log(20.0) < log_e[60]


def test_fair_flips_in_turn_are_no_evidence():
    """Wrong, right, wrong, right: 2,000 of them never reach ln 20."""
    flips = np.arange(2_001)
    assert log_e_value((flips + 1) // 2, flips // 2).max() < np.log(20.0)
