"""The pieces of the page: index of flips, axis, curves, histograms."""

import numpy as np
import pytest

from jobs.report.flips import FlippedItems, flips_on_page, select_flips, spread_flips
from jobs.report.plots import axis_over, score_curves, success_histograms


def flips(count, variant="v", task="t", temperature=0.0):
    """That many flips, alternately worse and better."""
    drop = np.where(np.arange(count) % 2, -1.0, 1.0)
    scores = (drop * 0, drop * 0)
    return FlippedItems(("b", variant), temperature, task, "m", np.arange(count), scores, drop)


def test_pages_hold_every_flip_once():
    """Turning pages over several cells shows each flip once and in order."""
    index = [flips(5), flips(0, task="u"), flips(7, task="w")]
    seen = [
        (part.task, item)
        for start in range(0, 15, 5)
        for part in flips_on_page(index, start, 5)
        for item in part.items
    ]
    assert seen == [("t", i) for i in range(5)] + [("w", i) for i in range(7)]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 11),
        ({"variant": "v"}, 6),
        ({"task": "u"}, 5),
        ({"temperature": 0.5}, 5),
        ({"direction": "worse"}, 6),
        ({"item": "5"}, 1),
        ({"variant": "other"}, 0),
    ],
)
def test_filters_narrow(wanted, count):
    """Each filter keeps what it names and nothing else."""
    index = [flips(6), flips(5, variant="w", task="u", temperature=0.5)]
    assert sum(len(part) for part in select_flips(index, **wanted)) == count


def test_room_is_shared_among_cells():
    """A cell with few flips gives its room to the others, and the limit is used up."""
    counts = [len(cell) for cell in spread_flips([flips(100), flips(2, task="u"), flips(100, task="w")], 50)]
    assert counts == [24, 2, 24]


def test_all_flips_are_taken_where_they_fit():
    """A limit beyond the number of flips cuts nothing."""
    assert [len(cell) for cell in spread_flips([flips(3), flips(4, task="u")], 100)] == [3, 4]


@pytest.mark.parametrize("values", [[0.0, 0.01, -0.2, 0.3], [0.0], [1e-9, 2e-9], [0.0, None, -5.0]])
def test_an_axis_holds_its_values(values):
    """Every value lies inside of the axis, and the ticks do."""
    axis = axis_over(values)
    assert all(axis.low < value < axis.high for value in values if value is not None)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert 2 <= len(axis.ticks) <= 12


def test_places_on_an_axis_are_in_proportion():
    """The middle is in the middle, and what is beyond an end is at the end."""
    axis = axis_over([-1.0, 1.0])
    assert (axis.at(0.0), axis.at(99.0), axis.at(-99.0)) == ("50.000%", "100.000%", "0.000%")
    assert axis.up(1.0) == axis.at(-1.0)


def entry(variant, temperature, **tasks):
    """An entry of verdicts.json as far as curves read it; per task (items, baseline score, variant score)."""
    parts = [
        {"task": t, "items": n, "baseline_score": b, "variant_score": v} for t, (n, b, v) in tasks.items()
    ]
    return {"variant": variant, "temperature": temperature, "tasks": parts}


def test_curves_compare_the_same_tasks():
    """A task that stands at one temperature only is left out, so that a curve does not bend for its sake."""
    comparisons = [entry("v", 0.0, a=(10, 0.5, 0.4), b=(90, 1.0, 1.0)), entry("v", 0.7, a=(10, 0.3, 0.2))]
    curves = score_curves({"baseline": "base", "comparisons": comparisons})
    assert curves["tasks"] == ["a"]
    assert {model: points for model, points, _ in curves["models"]} == {
        "base": [(0.0, 0.5), (0.7, 0.3)],
        "v": [(0.0, 0.4), (0.7, 0.2)],
    }


def test_one_temperature_makes_no_curve():
    """Nothing is drawn where there is nothing to compare."""
    assert score_curves({"baseline": "base", "comparisons": [entry("v", 0.0, a=(10, 0.5, 0.4))]}) is None


def test_histograms_count_successes(sampled_run):
    """Items are counted by how many of their reruns succeed; greedy answers have no histogram."""
    from jobs.analysis.analyze import analyze
    from jobs.analysis.request import AnalyzeRequest

    analysis = analyze([str(sampled_run)], AnalyzeRequest())
    found = {(model, temperature): counts for model, temperature, counts in success_histograms(analysis)}
    assert found == {("base", 0.5): [0, 0, 12], ("variant", 0.5): [0, 6, 6]}
