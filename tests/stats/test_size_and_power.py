"""Level, coverage and power by the simulation script, on a smaller number of simulations."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "size_and_power.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("size_and_power", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def at_most(rate, nominal, simulations):
    return rate <= nominal + 3 * np.sqrt(nominal * (1 - nominal) / simulations)


@pytest.fixture(scope="module", params=["PLENTIFUL", "FEW"])
def null_rates(script, request):
    return request.param, script.rejections(getattr(script, request.param), (0.5,) * 6, 600, seed=11)


def test_every_test_keeps_its_level(null_rates):
    """All but the uncalibrated "any of the three", which exceeds it."""
    rates = null_rates[1]
    for name in ("pooled", "max-drop", "fisher", "fisher-chi2", "joint", "bonferroni"):
        assert at_most(rates[name], 0.05, 600), name
    assert rates["any"] > 0.06


def test_the_joint_decision_uses_its_level(null_rates):
    """At least .04 of the .05 where flips are plentiful, .03 where they are few, up to simulation error."""
    least = 0.04 if null_rates[0] == "PLENTIFUL" else 0.03
    assert null_rates[1]["joint"] >= least - 3 * np.sqrt(least * (1 - least) / 600)


@pytest.mark.parametrize("shares", [(0.54,) * 6, (0.58, 0.5, 0.5, 0.5, 0.5, 0.5)])
def test_the_joint_decision_beats_bonferroni(script, shares):
    """By at least two points of power, for even damage and for one damaged task."""
    rates = script.rejections(script.PLENTIFUL, shares, 400, seed=13)
    assert rates["joint"] >= rates["bonferroni"] + 0.02


def test_averaged_and_continuous_scores_keep_the_level(script):
    """Unequal reruns by the exact law, continuous scores by simulation."""
    for name, rate in script.graded_rejections(2_000, seed=14).items():
        assert at_most(rate, 0.05, 2_000), name


def test_clusters_need_to_be_flipped_as_blocks(script):
    """Items taken as independent reject too often; clusters keep the level."""
    rates = script.cluster_rejections(1_500, seed=15)
    assert rates["items as if independent"] > 0.08
    assert at_most(rates["clusters flipped as blocks"], 0.05, 1_500)


def test_the_e_process_may_be_watched(script):
    """Continuous looks stay below .05, peeking at the fixed test does not."""
    rates = script.peeking_rejections(500, seed=16, flips=1_500)
    assert rates["fixed test every 50 flips"] > 0.12
    assert at_most(rates["e-process after each flip"], 0.05, 500)


@pytest.mark.parametrize(("items", "flip_rate", "share"), [(50, 0.1, 0.8), (200, 0.02, 0.6), (400, 0.2, 0.5)])
def test_intervals_cover(script, items, flip_rate, share):
    """At least nominal minus one point, up to simulation error."""
    rates = script.binary_coverage(items, flip_rate, share, 1_500, seed=17)
    for name in ("fay-lumbard", "tango", "bounded"):
        assert at_most(1 - rates[name], 0.06, 1_500), name


def test_averages_are_covered(script):
    """Student's t and the distribution-free bound for means over reruns."""
    for name, rate in script.averaged_coverage(100, 3, 0.05, 1_500, seed=18).items():
        assert at_most(1 - rate, 0.06, 1_500), name


def test_bounded_interval_is_never_wider_than_hoeffdings(script):
    """Anderson's bound uses the spread of the data, Hoeffding's only the range."""
    rng = np.random.default_rng(3)
    for items in (5, 40, 700):
        values = np.clip(rng.normal(0.1, 0.3, items), -1, 1)
        found = script.bounded_interval(values)
        half = 2 * np.sqrt(np.log(2 / 0.05) / (2 * items))
        assert values.mean() - found[0] <= half + 1e-12
        assert found[1] - values.mean() <= half + 1e-12


def test_bounded_interval_is_the_extreme_mean_within_the_band(script):
    """Anderson's bound, from the definition: the integral over the lowered distribution function."""
    values = np.array([-0.5, 0.0, 0.0, 0.2, 0.3, 0.4, 0.5, 0.9])
    band = np.sqrt(np.log(1 / 0.025) / (2 * values.size))
    grid = (np.arange(400_000) + 0.5) / 200_000 - 1.0
    lowered = np.maximum(np.searchsorted(np.sort(values), grid, side="right") / values.size - band, 0.0)
    assert script.bounded_interval(values)[1] == pytest.approx(1.0 - lowered.sum() / 200_000, abs=1e-4)
