"""What one model does when asked again."""

import numpy as np
import pytest

from stats.arrays import EvidenceError
from stats.flips import (
    item_flip_rates,
    mean_share,
    rerun_churn,
    variance_components,
    variance_split,
)


def test_flip_rate_of_an_item_is_the_share_of_its_disagreeing_pairs():
    """Counted pair by pair over all items with up to five runs."""
    rng = np.random.default_rng(1)
    right = rng.random((50, 5)) < rng.random((50, 1))
    pairs = [(i, j) for i in range(5) for j in range(i)]
    counted = np.mean([right[:, i] != right[:, j] for i, j in pairs], axis=0)
    assert item_flip_rates(right) == pytest.approx(counted)


def test_flip_rate_does_not_depend_on_the_number_of_runs():
    """Two runs and ten estimate the same 2π(1 − π), where the share of flipping items would grow."""
    rng = np.random.default_rng(2)
    ability = rng.beta(0.5, 0.5, 100_000)
    truth = float(np.mean(2 * ability * (1 - ability)))
    for runs in (2, 10):
        right = rng.random((ability.size, runs)) < ability[:, None]
        assert item_flip_rates(right).mean() == pytest.approx(truth, abs=0.003)


def test_flip_rate_needs_two_runs():
    """One run says nothing about noise."""
    with pytest.raises(EvidenceError, match="2 runs"):
        item_flip_rates(np.ones((3, 1), dtype=bool))


def test_interval_of_a_share_stays_a_share():
    """A rate near 0 has no negative lower limit."""
    found = mean_share(np.array([0.0] * 30 + [0.5]))
    assert found["low"] == 0.0 < found["value"] < found["high"] < 1.0


def test_interval_of_a_flip_rate_covers_the_truth():
    """At least 93 of 100 intervals at 95 % hold it, over 2,000 simulated models."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2_000):
        ability = rng.beta(0.5, 0.5, 200)
        rates = mean_share(item_flip_rates(rng.random((200, 3)) < ability[:, None]))
        hits += rates["low"] <= 0.25 <= rates["high"]  # E[2π(1 − π)] of Beta(½, ½)
    assert 0.93 <= hits / 2_000 <= 0.975


def test_churn_counts_every_pair_of_runs():
    """Three runs of one item: a right answer in two wordings, then a wrong one."""
    found = rerun_churn(np.array([[1, 2, 3]]), np.array([[True, True, False]]))
    assert (found["items"], found["changed"], found["changed_same_score"]) == (3, 3, 1)
    assert found["wrong_to_different_wrong"] == 0


def _nested(rng, items, temperatures=3, seeds=2):
    """Scores with variances .25 (items), .09 (temperatures), .16 (seeds)."""
    scores = rng.normal(0, 0.5, (items, 1, 1)) + rng.normal(0, 0.3, (items, temperatures, 1))
    return scores + rng.normal(0, 0.4, (items, temperatures, seeds))


def test_variance_components_are_unbiased():
    """The mean over 2,000 small studies hits the simulated variances within three standard errors."""
    rng = np.random.default_rng(4)
    found = np.array([variance_components(_nested(rng, 60)) for _ in range(2_000)])
    errors = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - [0.25, 0.09, 0.16]) < 3 * errors).all()


def test_variance_intervals_cover_the_truth():
    """Each of the three holds its variance in at least 93 of 100 studies of 100 items."""
    rng = np.random.default_rng(5)
    hits = np.zeros(3)
    for _ in range(1_500):
        split = variance_split(_nested(rng, 100))
        truths = {"item": 0.25, "temperature": 0.09, "seed": 0.16}
        hits += [split[name]["low"] <= truth <= split[name]["high"] for name, truth in truths.items()]
    assert (hits / 1_500 > 0.93).all()


def test_jackknife_equals_leaving_items_out_one_by_one():
    """The closed form of the pseudo-values against recomputation without each item."""
    from scipy.stats import t

    scores = _nested(np.random.default_rng(6), 12)
    whole = variance_components(scores)[0]
    without = np.array([variance_components(np.delete(scores, i, axis=0))[0] for i in range(12)])
    pseudo = 12 * whole - 11 * without
    width = t.isf(0.025, 11) * pseudo.std(ddof=1) / np.sqrt(12)
    assert variance_split(scores)["item"]["high"] == pytest.approx(whole + width)


def test_one_temperature_has_no_temperature_variance():
    """With a single temperature its component and both limits are 0."""
    split = variance_split(_nested(np.random.default_rng(7), 40, temperatures=1))
    assert set(split["temperature"].values()) == {0.0}


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 1, 1)])
def test_one_item_or_one_seed_cannot_be_split(shape):
    """There is no variance in a single value."""
    with pytest.raises(EvidenceError):
        variance_components(np.zeros(shape))
