"""Level, power and coverage of the verdict on lengths by the simulation script, on fewer simulations."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "change_rates.py"))
SIMULATIONS = 600
WORLDS = ("100 items", "30 clusters of 5 that shift", "20 clusters of 5 to 30 that shift")


def two_errors(rate):
    """Two standard errors of a simulated rate."""
    return 2 * np.sqrt(rate * (1 - rate) / SIMULATIONS)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("planted", SCRIPT["PLANTED"])
def test_changes_are_found_and_covered_at_nominal_rates(world, planted):
    """Nothing is found in at most 5 %, 30 % mostly; intervals cover 95 %; what is there is not ruled out."""
    found, covered, ruled_out = SCRIPT["rates"](world, planted, SIMULATIONS)
    assert covered >= 0.95 - two_errors(0.95)
    if planted == 0.0:
        assert found <= 0.05 + two_errors(0.05)
        return
    assert ruled_out <= 0.05 + two_errors(0.05)
    assert found >= (0.85 if planted == 0.3 else 0.05)
