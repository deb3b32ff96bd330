"""The front door of sequential comparisons: replay, freezing, missing scores, blocks, reports."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standin.sequential_runs import replay

from stats.arrays import EvidenceError
from stats.drop import FlipEvidence, evidence_of, fay_lumbard_interval
from stats.scores import TaskScores
from stats.sequential.boundaries import Stopping, parse_spending
from stats.sequential.looks import SignFlipWalk
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.plan import PlannedTask, SequentialPlan, item_order
from stats.signflip import SignFlipTest
from stats.tasks.combine import combine_scores
from stats.verdict import Verdict


def flips(rng, items, worse, better):
    """Independent items that flip with the given rates."""
    uniform = rng.random(items)
    return np.where(uniform < worse, 1.0, np.where(uniform > 1.0 - better, -1.0, 0.0))


def plan_of(*sizes, comparisons=("variant",), blocks=None, **details):
    tasks = tuple(PlannedTask(str(number), size, blocks) for number, size in enumerate(sizes))
    return SequentialPlan(tasks, comparisons, **{"sign_vectors": 999, **details})


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["degraded", "decided"]), st.data())
def test_portions_and_order_have_no_say(seed, until, data):
    """Three comparisons on two tasks, reported in any portions and order: the courses of a replay."""
    rng = np.random.default_rng(seed)
    plan = plan_of(90, 60, comparisons=("a", "b", "c"), stopping=Stopping(4, until), margin=0.15)
    rates = data.draw(st.permutations([(0.25, 0.05), (0.1, 0.08), (0.03, 0.03)]))
    scores = {
        name: [flips(rng, task.items, *rate) for task in plan.tasks]
        for name, rate in zip(plan.comparisons, rates, strict=True)
    }
    monitor, seen, verdicts = SequentialMonitor(plan), dict.fromkeys(scores, 0.0), {}
    while min(seen.values()) < 1.0:
        name = data.draw(st.sampled_from([name for name, share in seen.items() if share < 1.0]))
        seen[name] = min(1.0, seen[name] + data.draw(st.sampled_from([0.1, 0.3, 0.5])))
        monitor.observe(name, [values[: round(seen[name] * values.size)] for values in scores[name]])
        for decided, end in monitor.decisions().items():
            assert verdicts.setdefault(decided, end.verdict) is end.verdict
    assert monitor.courses() == replay(plan, scores)


def test_a_stopped_sweep_is_judged_from_its_samples_alone():
    """Comparisons that stop asking once decided: a replay of what they asked gives the same courses."""
    rng = np.random.default_rng(8)
    plan = plan_of(2_000, comparisons=("bad", "good"), stopping=Stopping(10, "decided"), margin=0.03)
    scores = {"bad": [flips(rng, 2_000, 0.15, 0.07)], "good": [flips(rng, 2_000, 0.02, 0.03)]}
    monitor, asked = SequentialMonitor(plan), {}
    for look in range(1, 11):
        for name, values in scores.items():
            if name not in monitor.decisions():
                asked[name] = [values[0][: plan.tasks[0].seen_at(look, 10)]]
                monitor.observe(name, asked[name])
    courses = replay(plan, asked)
    assert courses == monitor.courses(closed=True) == replay(plan, scores)
    assert courses["bad"].verdict is Verdict.DEGRADED
    assert courses["good"].verdict is Verdict.CERTIFIED
    assert max(course.share_used for course in courses.values()) < 1.0


def test_scores_that_a_look_has_used_may_not_change():
    """Later items may still come and change; earlier ones are refused by the name of their task."""
    monitor = SequentialMonitor(plan_of(20, stopping=Stopping(2)))
    values = np.zeros(20)
    assert monitor.observe("variant", [values[:12]]) == 1
    changed = values.copy()
    changed[3] = 1.0
    with pytest.raises(EvidenceError, match="task '0' that an earlier look used have changed"):
        monitor.observe("variant", [changed])


@pytest.mark.parametrize("scores", [[np.zeros(21)], [np.full(20, 1.5)], [np.full(20, np.inf)], []])
def test_impossible_scores_are_refused(scores):
    """Too many, outside of the range, infinite, or no task at all."""
    with pytest.raises(EvidenceError):
        SequentialMonitor(plan_of(20)).observe("variant", scores)


@pytest.mark.parametrize(
    "mistake", [{"comparisons": ()}, {"comparisons": ("a", "a")}, {"alpha": 0.0}, {"margin": 1.0}]
)
def test_impossible_plans_are_refused(mistake):
    """No or equal names, a level or margin out of range."""
    with pytest.raises(ValueError, match=r"without duplicates|between 0 and 1"):
        plan_of(20, **mistake)


def test_the_end_without_stopping_is_the_fixed_analysis_but_for_what_was_spent():
    """A single look gives p of the sign-flip test, and the certificate at the end is the fixed one."""
    values = flips(np.random.default_rng(9), 500, 0.04, 0.05)
    once = replay(plan_of(500, stopping=Stopping(1), margin=0.05), {"variant": [values]})["variant"]
    worse, better = int((values > 0).sum()), int((values < 0).sum())
    assert once.p == pytest.approx(SignFlipTest(values).p)
    many = replay(plan_of(500, margin=0.05), {"variant": [values]})["variant"]
    assert many.p_noninferior == pytest.approx(FlipEvidence(worse, better, 500).p_noninferior(0.05))
    assert many.verdict is Verdict.CERTIFIED
    assert not many.stopped


def test_missing_scores_carry_no_sign_and_count_as_losses():
    """Failed on the items that it would get wrong: not degraded for that, and not certified either."""
    values = np.zeros(1_000)
    clean = replay(plan_of(1_000), {"variant": [values]})["variant"]
    values[::10] = np.nan
    holed = replay(plan_of(1_000), {"variant": [values]})["variant"]
    assert clean.verdict is Verdict.CERTIFIED
    assert holed.verdict is Verdict.INCONCLUSIVE
    assert (holed.looks[-1].items, holed.looks[-1].missing) == (900, 100)
    assert holed.p == pytest.approx(1.0)


def test_the_worst_case_can_be_said():
    """An answer that could not have been a loss, or is to be left out, does not stand in the way."""
    values = np.zeros(1_000)
    values[::10] = np.nan
    plan = plan_of(1_000)
    for worst in (np.zeros(1_000), values):
        found = replay(plan, {"variant": [values]}, {"variant": [worst]})["variant"]
        assert found.verdict is Verdict.CERTIFIED
    with pytest.raises(EvidenceError, match="but got an array"):
        SequentialMonitor(plan).observe("variant", [values], [np.zeros(3)])


@pytest.mark.parametrize("kind", ["right or wrong", "means", "clusters"])
def test_the_certificate_is_that_of_the_fixed_analysis(kind):
    """At the end, without stopping for it: the p-value of `stats.drop` for the same scores."""
    rng = np.random.default_rng(17)
    values = flips(rng, 600, 0.05, 0.05) if kind == "right or wrong" else rng.integers(-3, 4, 600) / 10
    blocks = np.repeat(np.arange(60), 10) if kind == "clusters" else None
    course = replay(plan_of(600, blocks=blocks, margin=0.03), {"variant": [values]})["variant"]
    scores = TaskScores("0", np.maximum(values, 0.0), np.maximum(-values, 0.0), clusters=blocks)
    assert course.p_noninferior == pytest.approx(evidence_of([scores]).p_noninferior(0.03))
    assert course.looks[-1].certified_boundary == pytest.approx(1.6449, abs=1e-4)


def test_scores_without_bounds_are_never_certified_with_a_hole():
    """A loss has no size there."""
    task = PlannedTask("bleu", 400, bounded=False)
    plan = SequentialPlan((task,), ("variant",), margin=0.5)
    values = np.random.default_rng(10).normal(0.0, 0.1, 400)
    assert replay(plan, {"variant": [values]})["variant"].verdict is Verdict.CERTIFIED
    values[7] = np.nan
    assert replay(plan, {"variant": [values]})["variant"].verdict is Verdict.INCONCLUSIVE


def test_a_block_counts_when_it_is_whole():
    """Clusters in the order of the items count at their last one; what comes first of them is not used."""
    blocks = np.array([0, 1, 2, 0, 3, 1])
    plan = plan_of(6, blocks=blocks, stopping=Stopping(3))
    looks = replay(plan, {"variant": [np.ones(6)]})["variant"].looks
    assert [look.items for look in looks] == [0, 3, 6]
    whole = replay(plan_of(6, blocks=np.arange(6), stopping=Stopping(3)), {"variant": [np.ones(6)]})[
        "variant"
    ]
    assert [look.items for look in whole.looks] == [2, 4, 6]
    assert whole.p == pytest.approx(2.0**-6)


def test_the_order_is_a_permutation_that_keeps_blocks_together():
    """Every item once; clusters in one piece, and in the same order for tasks that share some of them."""
    assert sorted(item_order(range(50), 1)) == list(range(50))
    assert item_order(range(50), 1).tolist() != item_order(range(50), 2).tolist()
    labels = np.random.default_rng(3).integers(0, 8, 60)
    asked = labels[item_order(labels, 1)]
    runs = asked[np.flatnonzero(np.append(True, np.diff(asked) != 0))]
    assert runs.size == np.unique(labels).size
    some = np.array([7, 2, 5])
    assert some[item_order(some, 1)].tolist() == [label for label in runs if label in some]


def test_the_order_is_the_same_on_every_machine():
    """It is defined by digests: these numbers must never change, or old runs would be judged anew."""
    assert item_order(["a", "b", "c", "d", "e", "f"], 0).tolist() == [5, 3, 0, 4, 1, 2]


def test_a_comparison_may_lack_a_task():
    """It is decided as in a plan without that task; the other comparisons keep all of them."""
    rng = np.random.default_rng(4)
    scores = {name: [flips(rng, 90, 0.2, 0.05), flips(rng, 60, 0.2, 0.05)] for name in ("a", "b")}
    part = {"a": scores["a"], "b": scores["b"][:1]}
    courses = replay(plan_of(90, 60, comparisons=("a", "b"), tasks_of={"b": ("0",)}), part)
    alone = replay(plan_of(90, comparisons=("a", "b")), {"a": scores["a"][:1], "b": part["b"]})
    whole = replay(plan_of(90, 60, comparisons=("a", "b")), scores)
    assert courses["b"].looks[0] == alone["b"].looks[0]
    assert courses["a"].looks[0] == whole["a"].looks[0]
    with pytest.raises(ValueError, match="not planned"):
        plan_of(90, tasks_of={"other": ("0",)})


def test_items_with_one_label_flip_together_in_two_tasks():
    """Both tasks ask the same documents: as many signs as documents, not twice as many."""
    documents = np.arange(30)
    tasks = tuple(PlannedTask(name, 30, documents) for name in ("first", "second"))
    plan = SequentialPlan(tasks, ("variant",), Stopping(1), combine="pooled")
    values = np.repeat([1.0, 0.0, -1.0], [8, 20, 2])
    found = replay(plan, {"variant": [values, values]})["variant"]
    assert found.p == pytest.approx(SignFlipTest(values).p)


def test_the_interval_of_a_look_excludes_zero_where_it_crosses():
    """The lower limit is Fay & Lumbard's at the level of the boundary, on the side of 0 that decides."""
    rng = np.random.default_rng(11)
    for worse in (0.05, 0.07, 0.09, 0.12):
        course = replay(plan_of(800), {"variant": [flips(rng, 800, worse, 0.05)]})["variant"]
        crossed = course.looks[-1].statistic >= course.looks[-1].boundary
        assert (course.interval[0] > 0.0) == crossed
        look = course.looks[-1]
        fixed = fay_lumbard_interval(look.worse, look.better, look.items)
        assert course.interval[0] <= fixed[0] or course.share_used == 1.0
        assert course.interval[0] < look.drop < course.interval[1]


def test_the_interval_of_a_finished_comparison_is_over_all_items():
    """The certificate's level at the last look is α: its limit is the fixed one, on all items."""
    values, monitor = flips(np.random.default_rng(8), 2_000, 0.15, 0.07), SequentialMonitor(plan_of(2_000))
    monitor.observe("variant", [values])
    (stopped,), (finished,) = (monitor.courses(finished=done).values() for done in (False, True))
    whole = FlipEvidence(int((values > 0).sum()), int((values < 0).sum()), 2_000)
    assert stopped.stopped
    assert stopped.interval[1] == 1.0
    assert finished.interval[1] == whole.limits(0.05)[1]
    assert finished == replace(stopped, interval=finished.interval)
    monitor = SequentialMonitor(plan_of(2_000))
    monitor.observe("variant", [values[:1_800]])
    assert list(monitor.courses(finished=True).values()) == [stopped]


@pytest.mark.parametrize(
    ("looks", "step"), [(5, 15), (10, 15), (20, 15), pytest.param(10, 1, marks=pytest.mark.slow)]
)
def test_a_sum_exactly_on_a_boundary_is_degraded_and_has_limits(looks, step):
    """At the last look, with the better items first, so that no look before it crosses."""
    for flipped in (*range(40, 241, step), 41, 68, 74, 149):
        plan = plan_of(flipped, stopping=Stopping(looks))
        last = replay(plan, {"variant": [-np.ones(flipped)]})["variant"].looks[-1]
        worse = (flipped + round(last.boundary * np.sqrt(flipped))) // 2
        values = np.repeat([-1.0, 1.0], [flipped - worse, worse])
        course = replay(plan, {"variant": [values]})["variant"]
        assert course.looks[-1].statistic == last.boundary
        assert course.verdict is Verdict.DEGRADED
        assert 0.0 < course.interval[0] < course.looks[-1].drop < course.interval[1]


def test_levels_above_one_half_have_limits():
    """One-sided limits end there; half of all variants that changed nothing are then found worse."""
    values = flips(np.random.default_rng(2), 300, 0.1, 0.1)
    low, high = replay(plan_of(300, alpha=0.9), {"variant": [values]})["variant"].interval
    assert low < values.mean() < high


def test_a_degraded_comparison_passes_its_level_on():
    """Two comparisons: the level in force rises from α/2 to α in the round of the first rejection."""
    rng = np.random.default_rng(12)
    scores = {"bad": [flips(rng, 1_000, 0.2, 0.05)], "other": [flips(rng, 1_000, 0.06, 0.06)]}
    courses = replay(plan_of(1_000, comparisons=("bad", "other")), scores)
    end = courses["bad"].looks[-1].look
    levels = [look.level for look in courses["other"].looks]
    assert levels == [0.025] * (end - 1) + [0.05] * (10 - end + 1)
    assert courses["bad"].p_adjusted == pytest.approx(min(1.0, 2 * courses["bad"].p))
    assert courses["bad"].p_adjusted <= 0.05


def test_a_level_passed_on_counts_for_looks_already_taken():
    """Seven of seven at look 1 (p = 1/128) cross α but not α/2: decided when the other is, by look 1."""
    early = np.r_[np.ones(7), np.zeros(3), -np.ones(7), np.zeros(3)]
    late = np.r_[np.zeros(10), np.ones(10)]
    plan = plan_of(20, comparisons=("early", "late"), stopping=Stopping(2))
    courses = replay(plan, {"early": [early], "late": [late]})
    assert [course.verdict for course in courses.values()] == [Verdict.DEGRADED] * 2
    assert len(courses["early"].looks) == 2
    assert courses["early"].p == courses["early"].p_adjusted == pytest.approx(1 / 128)
    alone = replay(plan, {"early": [early], "late": [np.zeros(20)]})
    assert alone["early"].verdict is Verdict.INCONCLUSIVE


def test_unadjusted_comparisons_keep_the_whole_level():
    """`adjust="none"`: each is decided as if it were alone."""
    rng = np.random.default_rng(13)
    scores = {name: [flips(rng, 300, 0.1, 0.05)] for name in ("a", "b", "c")}
    together = replay(plan_of(300, comparisons=("a", "b", "c"), adjust="none"), scores)
    for name, values in scores.items():
        assert together[name] == replay(plan_of(300, comparisons=(name,)), {name: values})[name]


def test_a_certificate_is_held_back_while_damage_may_still_be_found():
    """Significant, nearly, and well within a wide margin: the looks before the last do not certify."""
    values = np.tile(np.r_[np.ones(6), -np.ones(3), np.zeros(91)], 10)
    plan = plan_of(1_000, stopping=Stopping(5, "decided"), margin=0.2)
    course = replay(plan, {"variant": [values]})["variant"]
    assert course.looks[0].certified_statistic >= course.looks[0].certified_boundary
    assert course.verdict is Verdict.DEGRADED


def test_until_degraded_tests_the_certificate_once():
    """No boundary before the last look, the whole level there."""
    course = replay(plan_of(300, stopping=Stopping(3)), {"variant": [np.zeros(300)]})["variant"]
    assert [look.certified_spent for look in course.looks] == [0.0, 0.0, 0.05]
    assert np.isinf([look.certified_boundary for look in course.looks[:2]]).all()


def test_more_looks_than_items_are_taken_as_they_come():
    """Three items, ten looks: some looks see nothing new, and nothing breaks."""
    course = replay(plan_of(3), {"variant": [np.ones(3)]})["variant"]
    assert len(course.looks) == 10
    assert course.verdict is Verdict.INCONCLUSIVE


def test_obrien_fleming_stops_later():
    """The same clear damage: at a later look than under Hwang–Shih–DeCani."""
    values = flips(np.random.default_rng(14), 2_000, 0.12, 0.06)
    ends = [
        replay(plan_of(2_000, stopping=Stopping(10, degraded=parse_spending(name))), {"variant": [values]})
        for name in ("hsd-2", "obf")
    ]
    assert ends[0]["variant"].share_used < ends[1]["variant"].share_used < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_clusters_of_unequal_size_are_tested_by_both_flips(seed):
    """One look is the fixed analysis; of many, damage is found when sums and balanced sums have crossed."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 60)
    blocks = np.repeat(np.arange(60), sizes)
    values = rng.choice([-1.0, 0.0, 1.0], blocks.size, p=[0.05, 0.75, 0.2])
    scores = TaskScores("0", np.maximum(values, 0.0), np.maximum(-values, 0.0), clusters=blocks)
    once = replay(plan_of(values.size, blocks=blocks, stopping=Stopping(1)), {"variant": [values]})
    assert once["variant"].p == pytest.approx(combine_scores([scores]).pooled.p, rel=0.15)
    plan = plan_of(values.size, blocks=blocks)
    course = replay(plan, {"variant": [values]})["variant"]
    alone = [SignFlipWalk(plan.levels, plan.stopping.degraded) for _ in range(2)]
    crossed = [0, 0]
    for look, (items, cells) in enumerate(plan.layout, 1):
        sums, seen = (np.bincount(cells, weights) for weights in (values[items], np.ones(items.size)))
        for side, own in enumerate((sums, sums / seen**0.6)):
            if alone[side].look(look / 10, own).crossed[0]:
                crossed[side] = crossed[side] or look
    assert course.verdict is Verdict.DEGRADED
    assert len(course.looks) == max(crossed)
    assert course.p <= 0.05
