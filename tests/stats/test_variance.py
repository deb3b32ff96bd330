"""Splitting the variance."""

import numpy as np
import pytest

from stats.arrays import EvidenceError
from stats.flips import PairedVariance, paired_variance, run_variance


def test_millers_example():
    """ω² = 1/9, 3 points, two-sided .05, power .8: 969 items."""
    assert round(PairedVariance(1 / 9, 0.0, 0.0).items_needed(0.03, two_sided=True)) == 969


def test_paired_variance_recovers_the_simulated_sources():
    """Gaussian items and answers with known variances."""
    rng = np.random.default_rng(1)
    items = rng.normal(0, 0.3, 40_000)
    baseline = rng.normal(0, 0.2, (40_000, 3))
    variant = items[:, None] + rng.normal(0, 0.4, (40_000, 5))
    found = paired_variance(baseline, variant)
    sources = (found.data, found.baseline_noise, found.variant_noise)
    assert sources == pytest.approx((0.09, 0.04, 0.16), rel=0.05)


def test_standard_error_is_the_one_of_the_means():
    """The predicted standard error matches that of the averaged differences."""
    rng = np.random.default_rng(2)
    ability = rng.random(5_000)
    baseline = (rng.random((5_000, 4)) < ability[:, None]).astype(float)
    variant = (rng.random((5_000, 8)) < ability[:, None]).astype(float)
    means = baseline.mean(axis=1) - variant.mean(axis=1)
    found = paired_variance(baseline, variant).standard_error(5_000, 4, 8)
    assert found == pytest.approx(means.std(ddof=1) / np.sqrt(5_000), rel=0.02)


def test_run_variance_recovers_the_simulated_sources():
    """Items, temperatures within items, seeds within both."""
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 0.5, (20_000, 1, 1)) + rng.normal(0, 0.3, (20_000, 3, 1))
    found = run_variance(scores + rng.normal(0, 0.2, (20_000, 3, 4)))
    assert (found.item, found.temperature, found.seed) == pytest.approx((0.25, 0.09, 0.04), rel=0.06)


@pytest.mark.parametrize("shape", [(1, 3), (5, 1)])
def test_one_item_or_one_rerun_cannot_be_split(shape):
    """There is no variance in a single value."""
    with pytest.raises(EvidenceError):
        paired_variance(np.zeros(shape), np.zeros(shape))
