"""The pieces of the page: index of flips, axis, curves, histograms."""

import numpy as np
import pytest

from jobs.report.flips import Flips, select_flips, spread_flips
from jobs.report.plots import axis_over, score_curves, success_histograms, trade_off


def flips(*parts):
    """So many flips of each place (variant, temperature, task), alternately worse and better."""
    counts, places = zip(*parts, strict=True)
    items = np.concatenate([np.arange(count) for count in counts])
    drop = np.where(items % 2, -1.0, 1.0)
    part = np.repeat(np.arange(len(counts)), counts)
    return Flips("b", tuple((*place, "m") for place in places), part, items, (drop * 0, drop * 0), drop)


T, U, W = (("v", 0.0, task) for task in "tuw")


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
    assert len(select_flips(flips((6, T), (5, ("w", 0.5, "u"))), **wanted)) == count


def test_room_is_shared_among_tasks():
    """A task with few flips gives its room to the others, and the limit is used up."""
    assert np.bincount(spread_flips(flips((100, T), (2, U), (100, W)), 50).part).tolist() == [24, 2, 24]


def test_all_flips_are_taken_where_they_fit():
    """A limit beyond the number of flips cuts nothing."""
    assert len(spread_flips(flips((3, T), (4, U)), 100)) == 7


def test_few_flips_come_from_the_first_tasks():
    """With less room than tasks, each has one flip at most."""
    assert spread_flips(flips((3, T), (4, U), (5, W)), 2).part.tolist() == [0, 1]


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


def beside(variant, margin=0.01, **changes):
    """An entry of verdicts.json with a drop of two points, and by measurement a change with its ends."""
    known = [
        {"measurement": name, "change": change, "change_interval": list(ends)}
        for name, (change, *ends) in changes.items()
    ]
    drop = {"drop": 0.02, "drop_interval_simultaneous": [0.01, 0.03]}
    return {"variant": variant, **drop, "margin": margin, "margin_unit": "share", "changes": known}


def test_drops_are_drawn_against_speed_or_cost():
    """As multiples of the baseline's; cost where any variant has one, and to the side that is worth it."""
    fast = {"samples_per_second": (0.5, 0.4, 0.6)}
    plot = trade_off(
        {"comparisons": [beside("a", **fast), beside("b", samples_per_second=(0.0, None, None))]}
    )
    assert [(point[1], *point[3:]) for point in plot["points"]] == [(1, 1.5, 1.4, 1.6), (2, 1.0, None, None)]
    assert (plot["cheaper"], plot["margin"], plot["worth"]) == (False, 0.01, (1.0, plot["x"].high))
    plot = trade_off(
        {"comparisons": [beside("a", **fast, cost=(-0.4, -0.5, -0.3)), beside("b", 0.02, **fast)]}
    )
    assert [point[3:] for point in plot["points"]] == [(0.6, 0.5, 0.7)]
    assert (plot["cheaper"], plot["worth"]) == (True, (plot["x"].low, 1.0))


def test_nothing_is_drawn_where_neither_speed_nor_cost_is_known():
    """Nor a region where margins differ."""
    assert trade_off({"comparisons": [beside("a"), beside("b", cost=(None, None, None))]}) is None
    entries = [beside("a", cost=(0.0, -0.1, 0.1)), beside("b", 0.02, cost=(0.0, -0.1, 0.1))]
    assert trade_off({"comparisons": entries})["margin"] is None
