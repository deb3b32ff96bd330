"""Flips between models, between runs, and in the text."""

import numpy as np
import pytest

from stats.arrays import EvidenceError
from stats.flips import churn, flip_table, flipping_items, refuse_reused_runs, success_histogram


def test_flip_table_counts_the_four_outcomes():
    """a, b, c, d and the two rates."""
    found = flip_table([1, 1, 0, 0, 1], [1, 0, 1, 0, 0])
    counts = {"both_right": 1, "worse": 2, "better": 1, "both_wrong": 1}
    assert found == pytest.approx(counts | {"net": 0.2, "gross": 0.6})


def test_successes_are_counted_over_runs():
    """Histogram over 0…R, steady items at its ends."""
    right = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    assert success_histogram(right).tolist() == [1, 1, 1, 2]
    assert flipping_items(right).tolist() == [False, False, True, True, False]


def test_churn_tells_text_from_score():
    """A changed answer may keep its score, right or wrong."""
    answers = (["4", "5", "6", "7"], ["4", "9", "6.0", "7"])
    found = churn(*answers, np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0, 0.0]))
    assert (found["changed"], found["changed_same_score"], found["wrong_to_different_wrong"]) == (2, 2, 1)


def test_runs_that_chose_a_subset_are_refused_for_its_test():
    """The error names them and says why."""
    with pytest.raises(EvidenceError, match=r"seed-1 .*regress to their mean"):
        refuse_reused_runs({"seed-0", "seed-1"}, {"seed-1", "seed-2"})
    refuse_reused_runs({"seed-0"}, {"seed-2"})


def test_reusing_the_choosing_runs_would_look_like_a_drop():
    """Identical models: items chosen for the run tested fall by a tenth, on a fresh run by nothing."""
    rng = np.random.default_rng(1)
    ability = rng.beta(0.3, 0.3, 20_000)
    runs = rng.random((20_000, 12)) < ability[:, None]
    chosen = flipping_items(runs[:, :2])
    variant = runs[:, 11]
    weighted = chosen & runs[:, 0]
    assert flip_table(runs[weighted, 0], variant[weighted])["net"] > 0.1
    assert abs(flip_table(runs[chosen, 10], variant[chosen])["net"]) < 0.03


def test_no_items_are_refused():
    """An empty comparison has no table."""
    with pytest.raises(EvidenceError, match="no verdict"):
        flip_table([], [])
