"""Means of bounded differences and of clusters, against simulation and matrices written out."""

import numpy as np
import pytest
from scipy import stats as sp

from stats.drop import (
    ClusterEvidence,
    Differences,
    missed_losses,
    tango_score,
)

SIMULATIONS = 1_200


@pytest.mark.parametrize(("losses", "items"), [(0, 300), (2, 120), (7, 1_000)])
def test_losses_alone_are_clopper_pearsons(losses, items):
    """P(Bin(n, M) ≤ k)."""
    sample = Differences(np.array([0.0, 1.0]), np.array([items - losses, losses], dtype=float))
    margin = (losses + 4) / items
    assert sample.p_noninferior(margin) == pytest.approx(sp.binom.cdf(losses, items, margin), rel=1e-6)


@pytest.mark.parametrize(("worse", "better", "items"), [(30, 20, 500), (0, 25, 900), (300, 310, 5_000)])
def test_flips_are_near_tangos(worse, better, items):
    """Differences of −1, 0 and 1 are right or wrong: the same likelihood, nearly normal."""
    counts = np.array([better, items - worse - better, worse], dtype=float)
    margin = worse / items + 0.01
    expected = sp.norm.cdf(tango_score(worse, better, items, margin))
    assert Differences(np.array([-1.0, 0.0, 1.0]), counts).p_noninferior(margin) == pytest.approx(
        expected, rel=0.15, abs=0.003
    )


TWO_POINTS = [
    (30, 0.1, 0.2, 1.0), (100, 0.01, 0.05, 1.0), (100, 0.05, 0.1, 1.0), (300, 0.005, 0.02, 1.0),
    (1_000, 0.01, 0.05, 1.0), (200, 0.2, 0.26, 0.0), (200, 0.2, 0.26, 0.2), (50, 0.02, 0.1, 0.3),
]  # fmt: skip


@pytest.mark.parametrize(("items", "margin", "loss", "gain"), TWO_POINTS)
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_rare_gains_keep_the_level_exactly(items, margin, loss, gain, alpha):
    """A loss on most items, a large gain on few, mean M: enumerated; the normal law gave up to .0999."""
    rare = (loss - margin) / (loss + gain)
    chances, rejected = sp.binom.pmf(np.arange(items + 1), items, rare), 0.0
    for gains in np.flatnonzero(chances > 1e-9):
        sample = Differences.of(np.repeat([loss, -gain], [items - gains, gains]))
        rejected += chances[gains] * (sample.p_noninferior(margin) <= alpha)
    assert rejected <= alpha


def test_scores_without_a_lattice_are_rounded_finely():
    """One part in a thousand of a lattice's p-value, where 200 differences are moved off it by 1e-7 each."""
    rng = np.random.default_rng(5)
    values = rng.normal(0.0, 0.1, 200).round(2)
    moved = Differences.of(values + rng.normal(0.0, 1e-7, 200))
    assert moved.p_noninferior(0.02) == pytest.approx(Differences.of(values).p_noninferior(0.02), rel=0.05)


def test_equal_differences_are_certified_by_their_number_only():
    """(1 − s)ⁿ, and n = 299 for no difference and one point."""
    assert Differences.of(np.zeros(298)).p_noninferior(0.01) > 0.05
    assert Differences.of(np.zeros(299)).p_noninferior(0.01) <= 0.05
    assert missed_losses(0.0, 299, 0.01) == pytest.approx(0.99**299)


@pytest.mark.parametrize("seed", range(6))
def test_the_limit_inverts_the_test(seed):
    """The p-value is α at the limit, above it below and below it above."""
    rng = np.random.default_rng(seed)
    sample = Differences.of(
        np.where(rng.random(150) < 0.03, 0.8, rng.normal(0, 0.1 * (seed % 3), 150)).clip(-1, 1)
    )
    limit = sample.limits(0.05)[1]
    assert sample.p_noninferior(limit) == pytest.approx(0.05, rel=1e-3)
    assert sample.p_noninferior(limit - 1e-4) > 0.05 > sample.p_noninferior(limit + 1e-4)


def rare_losses(rng, items):
    """One item in a hundred loses everything, 30 % change by a tenth: the drop is one point."""
    steps = np.where(rng.random(items) < 0.3, rng.choice([-0.1, 0.1], items), 0.0)
    return np.where(rng.random(items) < 0.01, 1.0, steps)


@pytest.mark.slow
def test_rare_total_losses_at_the_margin_are_not_certified():
    """N = 500: Student's t certifies more than .07, the bound at most .05 and simulation error."""
    rng, found = np.random.default_rng(2), np.zeros(2)
    for _ in range(SIMULATIONS):
        differences = rare_losses(rng, 500)
        p = sp.ttest_1samp(differences, 0.01, alternative="less").pvalue
        found += [Differences.of(differences).p_noninferior(0.01) <= 0.05, p <= 0.05]
    bound, student = found / SIMULATIONS
    assert bound <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATIONS)
    assert student > 0.07


@pytest.mark.parametrize("loss", [1.0, 0.85, 0.5])
@pytest.mark.parametrize(("items", "margin"), [(50, 0.05), (100, 0.05), (300, 0.02)])
def test_losses_alone_keep_the_level_exactly(items, margin, loss):
    """Nothing but losses of one size, by the binomial law of their number."""
    chances = sp.binom.pmf(np.arange(items + 1), items, margin / loss)
    rejected = 0.0
    for losses in np.flatnonzero(chances > 1e-9):
        values = np.repeat([0.0, loss], [items - losses, losses])
        rejected += chances[losses] * (Differences.of(values).p_noninferior(margin) <= 0.05)
    assert rejected <= 0.05


@pytest.mark.slow
def test_where_students_t_holds_its_level_no_power_is_lost():
    """Symmetric changes, N = 500, one point: within two points of t."""
    rng, found = np.random.default_rng(3), np.zeros(2)
    for _ in range(SIMULATIONS):
        differences = rng.normal(0.0, 0.1, 500).clip(-1, 1)
        p = sp.ttest_1samp(differences, 0.01, alternative="less").pvalue
        found += [Differences.of(differences).p_noninferior(0.01) <= 0.05, p <= 0.05]
    assert found[0] >= found[1] - 0.02 * SIMULATIONS


def test_clustered_errors_are_cr2_with_satterthwaites_degrees():
    """Against the matrices, for both working models."""
    rng = np.random.default_rng(4)
    sizes = rng.lognormal(2, 1.5, 12)
    sums = rng.normal(size=12) * sizes
    found, shares = ClusterEvidence(sums, sizes), sizes / sizes.sum()
    projector = np.eye(12) - np.outer(shares, np.ones(12))
    weights = np.diag(1 / np.sqrt(1 - shares))
    freedoms = []
    for variances in (shares, shares**2):
        quadratic = weights @ projector @ np.diag(variances) @ projector.T @ weights
        freedoms.append(np.trace(quadratic) ** 2 / np.trace(quadratic @ quadratic))
    assert found.freedom == pytest.approx(min(freedoms))
    residuals = weights @ (sums - sizes * found.mean)
    assert found.standard_error == pytest.approx(np.sqrt(residuals @ residuals) / sizes.sum())


def test_equal_clusters_have_all_degrees_but_one():
    """Student's t."""
    sums = np.random.default_rng(5).normal(size=14)
    found = ClusterEvidence(sums, np.full(14, 20.0))
    assert found.freedom == pytest.approx(13)
    assert found.standard_error == pytest.approx(sums.std(ddof=1) / np.sqrt(14) / 20)


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [15, 20, 30])
@pytest.mark.parametrize("alike", [False, True])
def test_clusters_of_very_unequal_size_keep_the_level(clusters, alike):
    """Lognormal sizes with σ = 1.5; independent items, or clusters that differ as wholes."""
    rng, certified = np.random.default_rng(6), 0
    for _ in range(SIMULATIONS):
        sizes = np.ceil(rng.lognormal(3.0, 1.5, clusters))
        spread = 0.05 * sizes if alike else 0.3 * np.sqrt(sizes)
        certified += ClusterEvidence(rng.normal(0.03 * sizes, spread), sizes).p_noninferior(0.03) <= 0.05
    assert certified / SIMULATIONS <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATIONS)
