"""Testing on a chosen subset: fresh runs keep the level, the runs that chose do not."""

import numpy as np
import pytest
from scipy.stats import norm

from stats.arrays import EvidenceError
from stats.flips import flipping_items, refuse_reused_runs

ITEMS, RUNS, STUDIES = 400, 5, 2_000


def _z(baseline, variant):
    """Sign-flip statistic of averaged scores; its normal law is close enough with hundreds of items."""
    differences = baseline.mean(axis=1) - variant.mean(axis=1)
    return differences.sum() / np.sqrt((differences**2).sum())


def _rejections(draw_ability):
    """Share of studies without any damage that reject at .05: (fresh runs, the runs that chose)."""
    rng = np.random.default_rng(1)
    rejected = np.zeros(2)
    for _ in range(STUDIES):
        ability = draw_ability(rng)[:, None]
        choosing, fresh, variant = (rng.random((ITEMS, RUNS)) < ability for _ in range(3))
        chosen = flipping_items(choosing)
        for place, baseline in enumerate((fresh, choosing)):
            rejected[place] += _z(baseline[chosen], variant[chosen]) > norm.isf(0.05)
    return rejected / STUDIES


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(0.4, 2.0), (1.0, 1.0), (2.0, 0.4)])
def test_fresh_runs_keep_the_level_on_a_subset(shape):
    """Hard, mixed and easy items: at most .05, three standard errors of simulation apart."""
    fresh, _ = _rejections(lambda rng: rng.beta(*shape, ITEMS))
    assert fresh <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.slow
def test_the_runs_that_chose_are_biased():
    """On hard items the choosing runs look better than any later run: with five times the alarms."""
    fresh, reused = _rejections(lambda rng: rng.beta(0.4, 2.0, ITEMS))
    assert reused > 5 * 0.05 > fresh


def test_the_runs_that_chose_are_refused():
    """The refusal names them and says why."""
    with pytest.raises(EvidenceError, match=r"seed 1.*regress to their mean"):
        refuse_reused_runs(["seed 0", "seed 1"], ["seed 1", "seed 2"])
    refuse_reused_runs(["seed 0"], ["seed 2"])
