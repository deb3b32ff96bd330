"""Certificates that cannot be had by failing, and intervals that agree with the verdict."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.arrays import EvidenceError
from stats.comparison import TaskScores, compare, compare_variants, shrinkage
from stats.results import Settings
from stats.scores import MissingAnswers, from_reruns
from stats.signflip import mcnemar_p
from stats.verdict import Verdict


def lacking_answers(task, *sides, planned=1, **details):
    """What is missing, from a table of runs of each model, shape (items, runs), NaN where one is missing."""
    tables = [np.asarray(scores, dtype=float).reshape(len(scores), -1) for scores in sides]
    answered = np.array([(~np.isnan(table)).sum(axis=1) for table in tables])
    sums = np.array([np.nansum(table, axis=1) for table in tables])
    means = np.divide(sums, answered, out=np.full(sums.shape, np.nan), where=answered > 0)
    return MissingAnswers(task, means, answered, (planned, planned), **details)


def paired(baseline, variant, planned=1, failed=(0, 0), **details):
    """The pairs of two tables of runs, with what is missing."""
    lacking = lacking_answers("t", baseline, variant, planned=planned, failed=failed)
    means = lacking.means[:, lacking.paired]
    return TaskScores("t", *means, lacking=lacking, missing=lacking.items, **details)


def failing_variant():
    """1,000 items; the variant agrees with the baseline but fails on 30 % of what the baseline gets right."""
    rng = np.random.default_rng(1)
    baseline = (rng.random(1_000) < 0.6).astype(float)
    variant = np.where((baseline == 1.0) & (rng.random(1_000) < 0.3), np.nan, baseline)
    return baseline, variant


def test_failing_on_items_is_no_way_to_a_certificate():
    """On the pairs nothing is worse; with the missing answers as losses the drop may be 17 points."""
    found = compare([paired(*failing_variant())])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.p_noninferior_paired <= 0.05 < found.p_noninferior
    assert found.drop_bounds[1] == pytest.approx(found.missing / 1_000)
    assert {"within-margin-pairs-only", "missing-worst-case"} <= set(found.reason_codes)


def test_a_count_of_missing_items_is_enough_to_refuse():
    """Items of which nothing is known count as full losses."""
    found = compare([TaskScores("t", np.ones(1_000), np.ones(1_000), missing=173)])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.drop_bounds == pytest.approx((-173 / 1_173, 173 / 1_173))


def test_errors_on_the_items_it_loses_are_no_certificate():
    """A variant 18 points worse whose losses end in errors looks 7 points better on the pairs."""
    baseline = np.repeat([1.0, 0.0], [600, 400])
    variant = baseline.copy()
    variant[:240], variant[600:660] = np.nan, 1.0
    found = compare([paired(baseline, variant, failed=(0, 240))])
    assert found.drop < -0.05
    assert found.drop_bounds[1] == pytest.approx(0.18)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.failed_answers == (0, 240)
    assert found.missing_answers == (0, 0)


def test_the_old_reading_is_there_for_those_who_ask():
    """`missing="drop"` certifies on the pairs, and says what it leaves out of account."""
    found = compare([paired(*failing_variant())], Settings(missing="drop"))
    assert found.verdict is Verdict.CERTIFIED
    assert "missing-dropped" in found.reason_codes


@pytest.mark.parametrize(
    ("baseline", "variant", "worst", "best"),
    [
        ([1.0, 1.0], [1.0, np.nan], 0.5, 0.0),
        ([1.0, 0.0], [1.0, np.nan], 0.0, -0.5),
        ([1.0, np.nan], [1.0, 0.0], 0.5, 0.0),
        ([1.0, np.nan], [1.0, 1.0], 0.0, -0.5),
        ([1.0, np.nan], [1.0, np.nan], 0.5, -0.5),
    ],
)
def test_bounds_of_the_drop_by_hand(baseline, variant, worst, best):
    """A missing answer of the variant gets the lowest score, one of the baseline the highest."""
    assert compare([paired(baseline, variant)]).drop_bounds == pytest.approx((best, worst))


def test_missing_reruns_count_within_the_mean_of_their_item():
    """Two of four runs of the variant are missing on one item of two: at worst it is right in a quarter."""
    whole, half = [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]
    found = compare([paired([whole, half], [[1.0, 1.0, 1.0, 1.0], [1.0, np.nan, 0.0, np.nan]], planned=4)])
    assert found.missing == 0
    assert found.drop_bounds == pytest.approx((0.125, 0.375))


def test_lower_is_better_turns_the_worst_case_round():
    """A missing error rate of the variant is 1 at worst."""
    lacking = lacking_answers("t", [0.0, 0.0], [0.0, np.nan], higher_is_better=False)
    task = TaskScores("t", np.zeros(1), np.zeros(1), lacking=lacking, higher_is_better=False)
    assert compare([task]).drop_bounds == pytest.approx((0.0, 0.5))


def test_a_task_the_variant_never_answered_is_no_certificate():
    """A planned task without a pair counts in full."""
    absent = {"v": [lacking_answers("other", np.ones(500), np.full(500, np.nan))]}
    tasks = {"v": [TaskScores("t", np.ones(1_000), np.ones(1_000))]}
    assert compare_variants(tasks)["v"].verdict is Verdict.CERTIFIED
    found = compare_variants(tasks, absent=absent)["v"]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.drop_bounds[1] == pytest.approx(1 / 3)
    assert found.tasks[0].verdict is Verdict.CERTIFIED


@pytest.mark.parametrize(("gone", "code"), [(20, "degraded-best-case"), (400, "not-degraded-best-case")])
def test_degraded_says_what_the_missing_answers_could_change(gone, code):
    """With few missing answers it stays degraded at best, with many it might not."""
    baseline = np.ones(1_000)
    variant = np.repeat([0.0, 1.0], [40, 960])
    baseline[-gone:], variant[-gone:] = 0.0, np.nan
    found = compare([paired(baseline, variant)])
    assert found.verdict is Verdict.DEGRADED
    assert code in found.reason_codes
    assert found.p_pooled_bounds[1] <= found.p_pooled <= found.p_pooled_bounds[0]


def test_clusters_of_missing_items_are_the_clusters_of_the_pairs():
    """A cluster of which half is missing remains one cluster in the worst case."""
    rng = np.random.default_rng(2)
    labels, baseline = np.repeat(np.arange(40), 10), (rng.random(400) < 0.7).astype(float)
    variant = np.where(rng.random(400) < 0.1, np.nan, baseline)
    both = ~np.isnan(variant)
    lacking = lacking_answers("t", baseline, variant, clusters=labels)
    task = TaskScores("t", baseline[both], variant[both], clusters=labels[both], lacking=lacking)
    assert lacking.completed(task, "worst").block_sizes.tolist() == [10.0] * 40


# Scores without a range


def perplexity(**details):
    rng = np.random.default_rng(3)
    baseline = rng.lognormal(1.8, 0.3, 500)
    return TaskScores("t", baseline, 1.1 * baseline, higher_is_better=False, bounds=None, **details)


def test_perplexity_needs_a_margin_in_its_own_unit():
    """A margin in shares says nothing about scores without a range; not even a gain is certified by it."""
    found = compare([perplexity()], Settings(margin=0.99))
    assert found.verdict is Verdict.DEGRADED
    assert "unbounded-without-margin" in found.reason_codes
    assert found.p_noninferior == 1.0
    turned = compare(
        [TaskScores("t", np.full(500, 6.6), np.full(500, 6.0), higher_is_better=False, bounds=None)]
    )
    assert turned.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("margin", "within"), [(0.5, False), (1.0, True)])
def test_a_margin_in_the_metrics_unit_decides(margin, within):
    """Perplexity rises by about 0.63: within 1.0, not within 0.5."""
    found = compare([perplexity(margin=margin)])
    assert (found.p_noninferior <= 0.05) == within
    assert (found.margin, found.margin_unit) == (margin, "metric")
    assert (found.drop_interval_decision[1] < margin) == within


def test_missing_scores_without_a_range_have_no_worst_case():
    """One missing perplexity could be anything."""
    found = compare([perplexity(margin=5.0, missing=1)])
    assert found.p_noninferior == 1.0
    assert "unbounded-missing" in found.reason_codes


def test_tasks_of_two_units_are_certified_only_together():
    """Right or wrong within a point, perplexity within its own margin: the larger p-value decides."""
    exact = TaskScores("exact", np.ones(2_000), np.ones(2_000))
    for margin, verdict in ((1.0, True), (0.5, False)):
        found = compare([exact, perplexity(margin=margin)])
        assert (found.p_noninferior <= 0.05) == verdict
        assert found.margin_unit == "mixed"


def test_a_bounded_task_shares_the_margin_of_the_comparison():
    """A margin in the metric's unit beside bounds would be a second one."""
    with pytest.raises(EvidenceError, match="for scores without bounds"):
        TaskScores("t", np.ones(3), np.ones(3), margin=0.1)


# One interval, one level


def scores_of(kind, items, seed):
    rng = np.random.default_rng(seed)
    shift = rng.choice([-0.05, 0.0, 0.02, 0.1])
    if kind == "binary":
        baseline = (rng.random(items) < 0.7).astype(float)
        flips = rng.random(items) < rng.choice([0.02, 0.2])
        variant = np.where(flips, rng.random(items) < 0.5 - 2 * shift, baseline)
        return TaskScores("t", baseline, variant.astype(float))
    if kind == "graded":
        baseline = rng.random(items)
        return TaskScores("t", baseline, np.clip(baseline - shift + rng.normal(0, 0.1, items), 0, 1))
    if kind == "reruns":
        ability = rng.random(items)
        first, second = (
            rng.random((items, 3)) < ability[:, None],
            rng.random((items, 3)) < ability[:, None] - shift,
        )
        return from_reruns("t", first, second)
    if kind == "whole clusters":  # of very unequal size, each of which wins, loses or draws as one
        labels = np.sort(np.floor(items * rng.random(items) ** 3))
        change = rng.choice([-1.0, 0.0, 1.0], items)[np.unique(labels, return_inverse=True)[1]]
        return TaskScores("t", np.maximum(change, 0.0), np.maximum(-change, 0.0), clusters=labels)
    labels = rng.integers(0, 15, items)
    baseline = (rng.random(items) < 0.7).astype(float)
    return TaskScores("t", baseline, (rng.random(items) < 0.7 - shift).astype(float), clusters=labels)


@pytest.mark.slow
@settings(max_examples=80)
@given(
    st.sampled_from(["binary", "graded", "reruns", "clusters", "whole clusters"]),
    st.integers(1, 400),
    st.integers(0, 10_000),
    st.sampled_from([0.01, 0.05, 0.1, 0.9]),
    st.integers(0, 12),
    st.sampled_from(["default", "proven"]),
)
def test_the_deciding_interval_is_the_verdict(kind, items, seed, margin, missing, certificate):
    """Left of the margin exactly where it is certified, right of 0 exactly where the pooled test rejects."""
    task = scores_of(kind, items, seed)
    found = compare([replace(task, missing=missing)], Settings(margin=margin, certificate=certificate))
    low, high = found.drop_interval_decision
    assert (high < margin) == (found.p_noninferior <= 0.05)
    assert (low > 0.0) == (found.p_pooled <= 0.05)
    assert low <= found.drop <= high


def test_degraded_beside_an_interval_across_zero_names_the_task():
    """One of eight tasks loses; the pooled test sees nothing, and the row says which task decides."""
    tasks = [TaskScores(f"t{k}", *_flips(30, 30, 400)) for k in range(7)]
    tasks.append(TaskScores("bad", *_flips(40, 6, 400)))
    found = compare(tasks)
    assert found.verdict is Verdict.DEGRADED
    assert found.p_pooled > 0.05
    assert found.drop_interval_decision[0] <= 0.0
    assert (found.decided_by, found.deciding_task) == ("max-drop", "bad")
    assert found.reason_codes[0] == "one-task-decides"


@pytest.mark.parametrize("kind", ["binary", "graded", "clusters"])
def test_the_interval_of_a_task_allows_for_its_choice(kind):
    """At α over the number of tasks: right of 0 exactly where a task's p-value times that number is ≤ α."""
    tasks = [replace(scores_of(kind, 100 + 20 * k, k), task=str(k)) for k in range(5)]
    tasks[4] = replace(tasks[4], variant=np.where(np.arange(180) % 3, tasks[4].variant, 0.0))
    found = compare(tasks, Settings(draws=999)).tasks
    for task, scores in zip(found, tasks, strict=True):
        alone = compare([scores], Settings(draws=999, alpha=0.05 / 5))
        assert task.drop_interval_simultaneous == alone.drop_interval_decision
        assert (task.drop_interval_simultaneous[0] > 0.0) == (5 * task.p_pooled <= 0.05)
        assert alone.drop_interval_simultaneous == alone.drop_interval_decision
    assert len({task.drop_interval_simultaneous[0] > 0.0 for task in found}) == 2


def test_a_chosen_drop_is_shrunken_by_its_evidence():
    """Chance among many tasks loses most, damage beyond doubt next to nothing, a single task nothing."""
    luck, damage = (shrinkage(np.append(np.linspace(-1.0, 1.0, 19), z)) for z in (2.0, 9.0))
    assert luck[-1] < 0.4 < 0.95 < damage[-1] < 1.0
    assert np.all(luck[:-1] < luck[-1])
    assert shrinkage(np.array([2.0])) == 1.0
    assert np.all(shrinkage(np.zeros(3)) < 1.0)


def test_the_drop_of_the_worst_of_many_tasks_is_too_large():
    """One of twenty tasks loses three standard errors: where one is significant, it overstates that by .9."""
    rng, truth = np.random.default_rng(0), np.append(3.0, np.zeros(19))
    draws = truth + rng.normal(size=(1_000, 20))
    draws = draws[draws.max(axis=1) > 3.0]
    worst = draws.argmax(axis=1)
    kept = np.array([shrinkage(row)[task] for row, task in zip(draws, worst, strict=True)])
    found = draws.max(axis=1)
    errors = np.array([found - truth[worst], kept * found - truth[worst]])
    assert errors[0].mean() > 0.75
    assert abs(errors[1].mean()) < 0.25
    assert np.sqrt((errors**2).mean(axis=1)).argmin() == 1


def _flips(worse, better, items):
    baseline, variant = np.ones(items), np.ones(items)
    baseline[worse : worse + better] = 0.0
    variant[:worse] = 0.0
    return baseline, variant


def test_the_pooled_test_is_named_where_it_decides():
    """And non-inferiority where the certificate does."""
    assert compare([TaskScores("t", *_flips(40, 10, 500))]).decided_by == "pooled"
    assert compare([TaskScores("t", *_flips(20, 22, 5_000))]).decided_by == "noninferiority"
    assert compare([TaskScores("t", *_flips(3, 3, 60))]).decided_by is None


def test_every_reason_is_given_once():
    """No code is there twice."""
    found = compare([paired(*failing_variant())])
    assert 0 < len(found.reason_codes) == len(set(found.reason_codes))


# Several certificates


def test_all_certificates_together_are_adjusted_by_holm():
    """Five equal variants with p = .02 are certified each, and not together."""
    tasks = [TaskScores("t", *_flips(300, 300, 5_000))]
    variants = {f"v{k}": tasks for k in range(5)}
    each = compare_variants(variants)
    p = each["v0"].p_noninferior
    assert 0.01 < p <= 0.05
    assert {found.verdict for found in each.values()} == {Verdict.CERTIFIED}
    together = compare_variants(variants, Settings(certify="all"))["v0"]
    assert together.p_noninferior_adjusted == pytest.approx(5 * p)
    assert together.verdict is Verdict.INCONCLUSIVE
    assert "within-margin-unadjusted" in together.reason_codes


# What would decide it


@pytest.mark.parametrize(("worse", "better", "items"), [(0, 1, 207), (2, 2, 300), (12, 12, 800), (6, 3, 60)])
def test_as_many_items_as_were_named_decide_it(worse, better, items):
    """With the same flips, multiplied, there is a verdict; below half of them there is none."""
    found = compare([TaskScores("t", *_flips(worse, better, items))])
    factor = found.items_needed / items

    def times(scale):
        counts = [int(np.ceil(scale * n)) for n in (worse, better, items)]
        return compare([TaskScores("t", *_flips(*counts))]).verdict

    assert factor > 1.0
    assert times(factor) is not Verdict.INCONCLUSIVE


def test_too_few_clusters_detect_no_drop():
    """Four clusters cannot reach .05, so no effect is promised to be detectable."""
    found = compare([TaskScores("t", *_flips(100, 0, 400), clusters=np.arange(400) % 4)])
    assert found.mde == float("inf")


def test_without_a_flip_the_detectable_effect_is_not_zero():
    """Five items must flip for p ≤ .05: the drop that makes them is what 1,000 items detect."""
    found = compare([TaskScores("t", np.ones(1_000), np.ones(1_000))])
    assert mcnemar_p(5, 0) <= 0.05 < mcnemar_p(4, 0)
    flips = np.random.default_rng(4).binomial(1_000, found.mde, 20_000)
    assert (flips >= 5).mean() == pytest.approx(0.8, abs=0.01)


def test_what_many_comparisons_detect_is_less():
    """The detectable effect is that of the adjusted test."""
    tasks = [TaskScores("t", *_flips(30, 30, 2_000))]
    alone, among = compare(tasks), compare_variants({f"v{k}": tasks for k in range(10)})["v0"]
    assert among.mde > 1.2 * alone.mde
