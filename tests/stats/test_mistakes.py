"""Mistakes seen in other tools, each with a test that would catch it here."""

import numpy as np
import pytest
from scipy import stats as sp

from stats.arrays import EvidenceError
from stats.comparison import Settings, TaskScores, Verdict, compare
from stats.drop import ClusterEvidence
from stats.scores import from_reruns
from stats.signflip import SignFlipTest


def test_repeats_are_not_rounded_to_right_or_wrong():
    """Baseline right 9 of 10, variant 3 of 10 on every item: a drop of 60 points, not identical."""
    runs = np.arange(10)
    found = compare([from_reruns("t", np.tile(runs < 9, (20, 1)), np.tile(runs < 3, (20, 1)))])
    assert found.drop == pytest.approx(0.6)
    assert found.verdict is Verdict.DEGRADED


def test_drop_margin_and_detectable_effect_share_one_unit():
    """All are points over all pairs: padding with items that never flip shrinks each tenfold together."""
    flips = np.zeros(100)
    flips[:30], flips[30:40] = 1.0, -1.0
    small = compare([TaskScores("t", np.maximum(flips, 0), np.maximum(-flips, 0))])
    padded = np.concatenate([flips, np.zeros(900)])
    large = compare([TaskScores("t", np.maximum(padded, 0), np.maximum(-padded, 0))])
    assert large.drop == pytest.approx(small.drop / 10)
    assert large.mde == pytest.approx(small.mde / 10, rel=0.02)
    assert large.p_pooled == small.p_pooled
    within = compare([TaskScores("t", np.maximum(padded, 0), np.maximum(-padded, 0))], Settings(margin=0.05))
    assert within.p_noninferior < 0.05 < large.p_noninferior


@pytest.mark.parametrize("factor", [1.0, 10.0, 0.1])
def test_ties_do_not_depend_on_the_scale(factor):
    """The same data times ten have the same p-value, ties counted in full."""
    differences = np.array([0.1, 0.2, -0.3, 0.3, -0.3, 0.1, -0.1, 0.2]) * factor
    whole = np.array([1, 2, -3, 3, -3, 1, -1, 2])
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    assert SignFlipTest(differences).p == pytest.approx(np.mean(signs @ whole >= whole.sum()), rel=1e-12)


def test_small_p_values_are_not_rounded_away():
    """4.8e-15 stays 4.8e-15."""
    found = compare(
        [TaskScores("t", np.repeat([1.0, 0.0], [1816, 1378]), np.repeat([0.0, 1.0], [1816, 1378]))]
    )
    assert found.p_pooled == pytest.approx(4.804e-15, rel=1e-3)
    assert 0.0 < found.p_adjusted < 1e-13


def test_no_items_do_not_pass():
    """An empty folder ends in an error, not in a certificate."""
    with pytest.raises(EvidenceError):
        compare([])
    with pytest.raises(EvidenceError):
        TaskScores("t", np.zeros(0), np.zeros(0))


def test_the_standard_error_is_not_divided_once_more():
    """The interval has the width of n items, whatever the number of simulated draws."""
    differences = np.random.default_rng(1).normal(0.0, 0.3, 400)
    half = sp.t.isf(0.025, 399) * differences.std(ddof=1) / np.sqrt(400)
    found = ClusterEvidence(differences, np.ones_like(differences)).interval(0.05)
    assert (found[1] - found[0]) / 2 == pytest.approx(half, rel=1e-12)


def test_pairs_are_tested_as_pairs():
    """30 flips to wrong and 10 back among 2,000 items: found paired, missed by the unpaired z-test."""
    baseline = (np.arange(2_000) < 1_000).astype(float)
    variant = baseline.copy()
    variant[:30], variant[1_000:1_010] = 0.0, 1.0
    unpaired = sp.ttest_ind(baseline, variant, alternative="greater").pvalue
    assert compare([TaskScores("t", baseline, variant)]).verdict is Verdict.DEGRADED
    assert unpaired > 0.05


@pytest.mark.parametrize("graded", [False, True])
def test_agreement_is_no_certainty(graded):
    """Where all items agree the interval still has a width and the p-value of a certificate is not 0."""
    scores = np.full(30, 0.5 if graded else 1.0)
    found = compare([TaskScores("t", scores, scores)])
    assert found.drop_interval[0] < 0.0 < found.drop_interval[1]
    assert found.p_noninferior > 0.05


def test_an_item_listed_twice_is_refused():
    """One row per filter or a duplicated id is never merged or counted as two items."""
    with pytest.raises(EvidenceError, match="more than once"):
        TaskScores("t", np.ones(2), np.ones(2), items=np.array(["q1", "q1"]))


def test_reruns_are_not_independent_items():
    """8 of 12 items fall from 15 to 5 of 20 reruns and 4 rise: no evidence, though 240 rows would say so."""
    often, seldom = np.arange(20) < 15, np.arange(20) < 5
    baseline = np.array([often] * 8 + [seldom] * 4, dtype=float)
    variant = np.array([seldom] * 8 + [often] * 4, dtype=float)
    found = compare([from_reruns("t", baseline, variant)])
    assert found.items == 12
    assert found.p_pooled == pytest.approx(sp.binom.sf(7, 12, 0.5))
    assert SignFlipTest((baseline - variant).ravel()).p < 0.001 < found.p_pooled
