"""Spending functions and the boundaries of Brownian motion."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from stats.sequential.boundaries import (
    bias_adjusted,
    exit_probabilities,
    lan_demets_boundaries,
    parse_spending,
    stagewise_p_value,
)

FIVE = tuple(look / 5 for look in range(1, 6))


@pytest.mark.parametrize("name", ["hsd-2", "hsd-4", "hsd0", "hsd1.5", "obf"])
def test_spending_rises_from_nothing_to_the_level(name):
    """f(0) = 0, f(1) = α, increasing in between."""
    spending = parse_spending(name)
    spent = [spending(t, 0.05) for t in np.linspace(0, 1, 21)]
    assert spent[0] == 0.0
    assert spent[-1] == 0.05
    assert (np.diff(spent) > 0).all()
    assert parse_spending(str(spending)) == spending


@pytest.mark.parametrize("name", ["hsd", "obf2", "pocock", "hsd-x", "hsd-400", ""])
def test_other_names_are_refused(name):
    """The message names what is allowed."""
    with pytest.raises(ValueError, match="use obf, or hsd"):
        parse_spending(name)


def test_obrien_fleming_boundaries_are_the_published_ones():
    """Five looks, one-sided .025: 4.877, 3.357, 2.680, 2.290, 2.031 (Lan & DeMets; R's gsDesign)."""
    found = lan_demets_boundaries(FIVE, parse_spending("obf"), 0.025)
    assert found == pytest.approx([4.8769, 3.3570, 2.6803, 2.2898, 2.0310], abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hsd-4", "hsd1", "obf"])
def test_boundaries_spend_what_they_should(name):
    """P(no crossing by look k) from the joint normal law of Z₁ … Z_k, at irregular fractions."""
    fractions, spending = (0.2, 0.35, 0.7, 1.0), parse_spending(name)
    bounds = np.array(lan_demets_boundaries(fractions, spending, 0.1))
    times = np.array(fractions)
    correlation = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    for looks in range(2, 5):
        cov = correlation[:looks, :looks]
        kept = multivariate_normal.cdf(bounds[:looks], np.zeros(looks), cov, abseps=1e-8, releps=1e-8)
        assert 1 - kept == pytest.approx(spending(fractions[looks - 1], 0.1), abs=2e-5)


def test_a_stagewise_p_value_at_the_last_boundary_is_the_level():
    """And at the first look it is the p-value of one look."""
    bounds = lan_demets_boundaries(FIVE, parse_spending("hsd-4"), 0.05)
    assert stagewise_p_value(FIVE, bounds, bounds[-1]) == pytest.approx(0.05, abs=1e-10)
    assert stagewise_p_value(FIVE[:1], bounds, 2.0) == pytest.approx(norm.sf(2.0))


def test_paths_leave_above_below_or_end_within():
    """Against 200,000 simulated paths with a drift, to three standard errors."""
    fractions, drift = (0.25, 0.5, 0.75, 1.0), 1.5
    lower, upper = np.array([-np.inf, -0.4, -0.2, 0.3]), np.array([1.4, 1.5, 1.6, 1.7])
    below, above = exit_probabilities(fractions, lower, upper, drift)
    steps = np.random.default_rng(3).normal(0.25 * drift, 0.5, (200_000, 4))
    paths, alive = np.cumsum(steps, axis=1), np.ones(200_000, dtype=bool)
    for look in range(4):
        tops, bottoms = alive & (paths[:, look] >= upper[look]), alive & (paths[:, look] < lower[look])
        for share, found in ((tops.mean(), above[look]), (bottoms.mean(), below[look])):
            assert share == pytest.approx(found, abs=3 * np.sqrt(max(found, 1e-5) / 200_000))
        alive &= ~(tops | bottoms)


@pytest.mark.parametrize("drift", [-2.0, 0.0, 1.5, 6.0])
def test_the_drift_is_found_from_what_paths_show_on_average(drift):
    """X(T)/T of 200,000 simulated paths is off by up to .9, and back at the drift without its bias."""
    fractions, ends = (0.25, 0.5, 0.75, 1.0), np.array([0.25, 0.5, 0.75, 1.0])
    bounds = np.array([[-np.inf, -0.4, -0.2, 0.3], [1.4, 1.5, 1.6, 1.7]])
    steps = np.random.default_rng(4).normal(0.25 * drift, 0.5, (200_000, 4))
    paths = np.cumsum(steps, axis=1)
    left = (paths < bounds[0]) | (paths >= bounds[1])
    left[:, -1] = True
    look = left.argmax(axis=1)
    found = paths[np.arange(200_000), look] / ends[look]
    assert abs(found.mean() - drift) > 0.05
    assert bias_adjusted(fractions, bounds, found.mean()) == pytest.approx(drift, abs=0.02)
