"""From a course and the items that count to a comparison: fields and reasons, without any other test."""

import math

import numpy as np
import pytest
from standin.sequential_runs import replay

from stats.comparison import compare, conclude_course
from stats.results import Settings
from stats.scores import paired_scores
from stats.sequential.boundaries import Stopping
from stats.sequential.plan import PlannedTask, SequentialPlan
from stats.tasks.combinations import COMBINATIONS
from stats.verdict import Verdict

ITEMS = 1_000


def scores(worse, better, missing=0):
    """Items of which some flip, evenly spread; the first ones may lack the variant's answer."""
    baseline, variant = np.tile([1.0, 0.0], ITEMS // 2), np.tile([1.0, 0.0], ITEMS // 2)
    order = np.random.default_rng(1).permutation(ITEMS // 2)
    variant[2 * order[:worse]] = 0.0
    variant[2 * order[:better] + 1] = 1.0
    variant[:missing] = np.nan
    return baseline, variant


def concluded(
    worse, better, missing=0, margin=0.05, seen=ITEMS, finished=False, until="decided", bounded=True
):
    """The comparison of a sequence of such items, as far as the looks go."""
    baseline, variant = scores(worse, better, missing)
    plan = SequentialPlan(
        (PlannedTask("t", ITEMS, bounded=bounded),), ("v",), Stopping(5, until), margin=margin
    )
    differences = (baseline - variant)[:seen]
    without_range = None if bounded else {"v": [np.full(seen, np.inf)]}
    course = replay(plan, {"v": [differences]}, without_range)["v"]
    count = ITEMS if finished else len(course.looks) * ITEMS // 5
    bounds = (0.0, 1.0) if bounded else None
    task = paired_scores("t", baseline[:count], variant[:count], bounds=bounds)
    return course, task, conclude_course([task], (), course, plan, finished=finished)


def test_sizes_are_those_of_the_fixed_analysis():
    """Scores, drop, flips, missing and bounds describe the same items in the same way."""
    _, task, found = concluded(60, 20, missing=7)
    fixed = compare([task], Settings(margin=0.05))
    for name in (
        "items",
        "missing",
        "missing_answers",
        "drop",
        "drop_bounds",
        "worse",
        "better",
        "flip_rate",
    ):
        assert getattr(found, name) == getattr(fixed, name)
    assert (found.baseline_score, found.variant_score) == (fixed.baseline_score, fixed.variant_score)


def test_p_values_are_those_of_the_course():
    """Stagewise, and nothing else: the p-values of tests that are made once are NaN."""
    course, _, found = concluded(150, 20)
    assert (found.p_adjusted, found.p_noninferior) == (course.p_adjusted, course.p_noninferior)
    assert found.drop_interval_decision == course.interval
    once = [combination.field for combination in COMBINATIONS]
    assert all(math.isnan(getattr(part, name)) for part in (found, *found.tasks) for name in once)


@pytest.mark.parametrize(
    ("case", "verdict", "codes"),
    [
        (
            {"worse": 150, "better": 20},
            "degraded",
            ["stopped-degraded", "significant", "estimate-after-stop"],
        ),
        (
            {"worse": 10, "better": 10},
            "certified",
            ["stopped-certified", "not-significant", "within-margin", "estimate-after-stop"],
        ),
        (
            {"worse": 60, "better": 50, "margin": 0.01},
            "inconclusive",
            ["last-look", "not-significant", "not-within-margin"],
        ),
        ({"worse": 60, "better": 50, "margin": 0.01, "seen": 300}, "inconclusive", ["looks-pending"]),
        (
            {"worse": 150, "better": 20, "finished": True},
            "degraded",
            ["stopped-degraded", "significant", "finished-later"],
        ),
        (
            {"worse": 60, "better": 50, "margin": 0.01, "missing": 9},
            "inconclusive",
            ["last-look", "not-significant", "not-within-margin", "missing-worst-case"],
        ),
        (
            {"worse": 60, "better": 50, "bounded": False},
            "inconclusive",
            ["last-look", "not-significant", "unbounded-without-margin"],
        ),
    ],
)
def test_reasons_say_how_it_ended(case, verdict, codes):
    """A code for the end, one for each question, and those for missing answers and estimates."""
    course, _, found = concluded(**case)
    assert (found.verdict, found.reason_codes) == (verdict, tuple(codes))
    assert (course.verdict or Verdict.INCONCLUSIVE) == verdict


def test_damage_below_the_margin_is_said():
    """Found at the last look, where the interval ends below the margin, too."""
    course, _, found = concluded(60, 31, margin=0.2)
    assert course.verdict in {"degraded", "certified"}
    assert "within-margin" in found.reason_codes
    assert found.drop_interval_decision[1] < 0.2


def test_an_undecided_comparison_has_no_p_value():
    """Neither adjusted nor of the certificate; the interval holds at every look."""
    course, _, found = concluded(60, 50, margin=0.01, seen=500)
    assert math.isnan(found.p_adjusted)
    assert math.isnan(found.p_noninferior)
    assert found.drop_interval_decision == course.interval
    assert found.decided_by is None
