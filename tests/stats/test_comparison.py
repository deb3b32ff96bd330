"""From paired scores to verdicts."""

import numpy as np
import pytest

from stats.arrays import EvidenceError
from stats.comparison import TaskScores, compare, compare_variants
from stats.drop import ClusterEvidence
from stats.results import Settings
from stats.scores import from_reruns
from stats.signflip import mcnemar_p
from stats.verdict import Verdict


def scores(task, worse, better, items, **details):
    """A task with the given flips, the rest right."""
    baseline = np.ones(items)
    baseline[worse : worse + better] = 0.0
    variant = np.ones(items)
    variant[:worse] = 0.0
    return TaskScores(task, baseline, variant, **details)


@pytest.mark.parametrize(
    ("worse", "better", "drop", "flip_rate", "p"),
    [
        (163, 168, "-0.02", "1.31", "6.29e-01"),
        (327, 363, "-0.14", "2.73", "9.21e-01"),
        (1096, 1107, "-0.04", "8.71", "6.01e-01"),
        (1241, 1042, "0.79", "9.03", "1.69e-05"),
        (1816, 1378, "1.73", "12.63", "4.80e-15"),
        (2981, 2325, "2.59", "20.99", "1.09e-19"),
    ],
)
def test_published_rows(worse, better, drop, flip_rate, p):
    """Kübler et al. 2026: drop, flips and pooled p to all printed digits."""
    found = compare([scores("t", worse, better, 25_282)])
    assert (found.worse, found.better) == (worse, better)
    assert f"{100 * found.drop:.2f}" == drop
    assert f"{100 * found.flip_rate:.2f}" == flip_rate
    assert f"{found.p_pooled:.2e}" == p


def test_total_and_tasks_use_the_same_counts():
    """The tasks' counts add up, micro and macro averages differ where sizes do."""
    found = compare([scores("a", 30, 10, 100), scores("b", 10, 10, 900)])
    assert (found.worse, found.better, found.items) == (40, 20, 1_000)
    assert found.drop == pytest.approx(0.02)
    assert found.drop_macro == pytest.approx(0.1)
    assert [task.task for task in found.tasks] == ["a", "b"]
    assert found.tasks[0].p_pooled == pytest.approx(mcnemar_p(30, 10))


def test_p_values_of_tasks_are_adjusted_for_their_number():
    """Holm over two tasks doubles the smaller p-value."""
    found = compare([scores("a", 14, 5, 100), scores("b", 10, 10, 100)])
    assert found.tasks[0].p_adjusted == pytest.approx(2 * mcnemar_p(14, 5))
    assert found.tasks[0].verdict is Verdict.INCONCLUSIVE


def test_a_metric_where_less_is_better_turns_the_drop_round():
    """A higher error rate is a degradation."""
    baseline, variant = np.zeros(100), (np.arange(100) < 20).astype(float)
    found = compare([TaskScores("t", baseline, variant, higher_is_better=False)])
    assert found.drop == pytest.approx(0.2)
    assert found.verdict is Verdict.DEGRADED
    assert compare([TaskScores("t", baseline, variant)]).verdict is Verdict.CERTIFIED


def test_scores_on_another_scale_are_shares_of_their_range():
    """0 to 100 with a margin of one point reads like 0 to 1."""
    rng = np.random.default_rng(1)
    baseline, variant = rng.integers(0, 11, 300) / 10, rng.integers(0, 11, 300) / 10
    one = compare([TaskScores("t", baseline, variant)])
    other = compare([TaskScores("t", 100 * baseline, 100 * variant, bounds=(0.0, 100.0))])
    assert (other.drop, other.p_pooled, other.p_noninferior) == pytest.approx(
        (one.drop, one.p_pooled, one.p_noninferior)
    )


@pytest.mark.parametrize(
    ("worse", "better", "items", "verdict"),
    [(40, 10, 500, Verdict.DEGRADED), (20, 22, 5_000, Verdict.CERTIFIED), (3, 3, 60, Verdict.INCONCLUSIVE)],
)
def test_verdicts(worse, better, items, verdict):
    """Significant, non-inferior, neither."""
    assert compare([scores("t", worse, better, items)]).verdict is verdict


def test_worse_within_the_margin_says_both():
    """A tiny but certain drop is degraded, and the reasons say that it is acceptable."""
    found = compare([scores("t", 150, 60, 100_000)])
    assert found.verdict is Verdict.DEGRADED
    assert found.reason_codes == ("significant", "within-margin")


def test_an_inconclusive_verdict_says_what_would_decide_it():
    """Minimal detectable effect and items needed are there and larger than what is at hand."""
    found = compare([scores("t", 6, 3, 60)])
    assert found.items_needed is not None
    assert found.items_needed > 60
    assert found.mde > found.drop
    assert found.reason_codes[-1] == "outlook"


def test_too_few_clusters_are_explained():
    """Four clusters cannot reach .05 and the reasons say so."""
    found = compare([scores("t", 100, 0, 400, clusters=np.arange(400) % 4)])
    assert found.clusters == 4
    assert found.p_pooled == pytest.approx(1 / 16)
    assert "smallest-p" in found.reason_codes


def test_tasks_as_clusters():
    """With one cluster per task the pooled test has as many blocks as there are tasks."""
    tasks = [scores(f"t{k}", 30, 10, 100, clusters=np.zeros(100)) for k in range(8)]
    found = compare(tasks)
    assert found.clusters == 8
    assert found.p_pooled == pytest.approx(2.0**-8)


def test_clustered_and_averaged_scores_get_the_t_interval():
    """Cluster sums over cluster sizes."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 30, 600)
    baseline, variant = rng.random(600).round(1), rng.random(600).round(1)
    found = compare([TaskScores("t", baseline, variant, clusters=labels)])
    sums = np.bincount(labels, baseline - variant)
    expected = ClusterEvidence(sums, np.bincount(labels).astype(float)).interval(0.05)
    assert found.drop_interval == pytest.approx(expected)


def test_no_flips_are_certified_by_enough_items_only():
    """No flips: p = 1, a finite interval, and a certificate only where the items suffice."""
    few, many = compare([scores("t", 0, 0, 50)]), compare([scores("t", 0, 0, 5_000)])
    assert few.p_joint == many.p_joint == 1.0
    assert np.isfinite(few.drop_interval).all()
    assert (few.verdict, many.verdict) == (Verdict.INCONCLUSIVE, Verdict.CERTIFIED)


@pytest.mark.slow
def test_two_hundred_tasks_one_comparison():
    """Every task stands inside, and the whole has one p-value."""
    found = compare([scores(f"t{k}", 3, 3, 20) for k in range(200)])
    assert len(found.tasks) == 200
    assert 0.0 < found.p_joint <= 1.0


@pytest.mark.parametrize("combine", ["joint", "pooled", "max-drop", "fisher", "any"])
def test_the_chosen_combination_goes_into_the_adjustment(combine):
    """Holm over two copies doubles the p-value of the choice."""
    tasks = [scores("a", 30, 15, 100), scores("b", 12, 10, 100)]
    found = compare_variants({"x": tasks, "y": tasks}, Settings(combine=combine, adjust="holm"))
    assert found["x"].p_adjusted == pytest.approx(2 * found["x"].p_value(combine))


def test_reruns_are_averaged_first_and_holes_left_out():
    """A missing rerun shrinks its item's mean only."""
    found = from_reruns("t", [[1.0, 0.0, np.nan], [1.0, 1.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]])
    assert found.baseline.tolist() == [0.5, 1.0]
    assert found.reruns == (3, 2)


def test_same_input_same_output():
    """Simulated parts included."""
    rng = np.random.default_rng(3)
    tasks = [TaskScores(f"t{k}", rng.random(60), rng.random(60)) for k in range(3)]
    assert compare(tasks) == compare(tasks)


def test_rounding_of_unbounded_scores_is_no_difference():
    """Log-probabilities that differ by 2e-16 of themselves are ties: no flips and p = 1."""
    scores = np.random.default_rng(4).uniform(-900, -1, 40)
    found = compare([TaskScores("t", scores, scores * (1 - 2.0**-52), bounds=None)])
    assert (found.worse, found.better, found.p_pooled) == (0, 0, 1.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: compare([]), "no task"),
        (lambda: compare_variants({}), "no variant"),
        (lambda: TaskScores("t", np.zeros(0), np.zeros(0)), "empty"),
        (lambda: TaskScores("t", np.zeros(3), np.zeros(4)), "3 baseline scores, but variant has 4"),
        (lambda: TaskScores("t", np.array([0.0, np.nan]), np.zeros(2)), "not finite"),
        (lambda: TaskScores("t", np.array([0.0, 7.0]), np.zeros(2)), "outside"),
        (lambda: TaskScores("t", np.zeros(2), np.zeros(2), items=np.array([4, 4])), "more than once"),
        (lambda: from_reruns("t", [[np.nan], [1.0]], [[1.0], [1.0]]), "no score"),
    ],
)
def test_no_evidence_is_an_error(build, message):
    """Nothing to compare never passes silently."""
    with pytest.raises(EvidenceError, match=message):
        build()


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"margin": 1.0}, {"power": -1.0}])
def test_settings_out_of_range_are_refused(bad):
    """Levels and margins are shares."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        Settings(**bad)


def test_what_decides_is_named_as_the_test_has_it():
    """The largest drop is the largest S/√Σd², not the smallest p; "pooled" decides only where it is asked."""
    tasks = [scores("few", 8, 0, 100), scores("many", 174, 126, 400)]
    found = compare(tasks, Settings(combine="max-drop"))
    assert (found.verdict, found.decided_by, found.deciding_task) == (Verdict.DEGRADED, "max-drop", "few")
