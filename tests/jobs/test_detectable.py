"""What a planned sweep will be able to detect, from a given or a measured flip rate."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from standin.runs import MadeTask, make_run

from jobs.submit import dry_run
from jobs.submit.dry_run import given_flip_rate, measured_flip_rates
from orchestrator.errors import UserError
from orchestrator.rundir.identity import Item, Rerun
from orchestrator.sweep.blocks import Cell
from stats.planning import Design
from stats.sequential.boundaries import Stopping
from stats.sequential.paths import expected_course


def _plan(stopping=None, **tasks):
    """A plan of two variants: by task, (items, reruns)."""
    cells = [
        Cell("base", task, "", tuple(Item(i, "", "") for i in range(items)), reruns, 0, {})
        for task, (items, reruns) in tasks.items()
    ]
    analysis = SimpleNamespace(alpha=0.05)
    config = SimpleNamespace(baseline="base", analysis=analysis)
    sweep = SimpleNamespace(config=config, variants={"base": None, "cheap": None})
    manifest = {"stopping": stopping} if stopping else {}
    return SimpleNamespace(sweep=sweep, baseline_cells=cells, manifest=manifest)


def detection_table(plan, rates):
    """The table of a plan, for rates and their source."""
    designs = dry_run.detectable_designs(plan, rates[0])
    return dry_run.detection_table(plan, designs, rates[1], dry_run.expected_shares(plan, designs))


def _cells(table):
    """The table's columns, row by row."""
    return list(zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True))


GREEDY = (Rerun(0.0),)


def test_each_task_gets_its_share_of_the_level():
    """Two tasks at one temperature: half of the level each, and all of it for the joint test of both."""
    table = detection_table(_plan(sums=(1_000, GREEDY), words=(3_000, GREEDY)), given_flip_rate(0.1))
    drops = [
        100 * Design(n, 0.1, alpha=a, tasks=shares).detectable_drop()
        for n, a, shares in ((1_000, 0.025, (1,)), (3_000, 0.025, (1,)), (4_000, 0.05, (0.25, 0.75)))
    ]
    assert [row[5] for row in _cells(table)] == [f"{drop:.2f} points" for drop in drops]
    assert [row[0] for row in _cells(table)] == ["sums", "words", "all tasks"]


def test_temperatures_are_planned_apart():
    """One rerun at temperature 0, three at 0.7; the level of all together is shared by both temperatures."""
    sampled = (Rerun(0.0), *(Rerun(0.7, seed) for seed in range(3)))
    table = detection_table(_plan(sums=(500, sampled), choice=(500, GREEDY)), given_flip_rate(0.1))
    rows = [(row[0], row[1], row[3]) for row in _cells(table)]
    assert rows == [("sums", "0", "1"), ("choice", "0", "1"), ("all tasks", "0", "1"), ("sums", "0.7", "3")]
    together = 100 * Design(1_000, 0.1, alpha=0.025, tasks=(0.5, 0.5)).detectable_drop()
    assert _cells(table)[2][5] == f"{together:.2f} points"


def test_too_few_items_detect_nothing():
    """Ten items show no drop at all, and the table says so."""
    assert _cells(detection_table(_plan(sums=(10, GREEDY)), given_flip_rate(0.05)))[0][5] == "none"


def test_measured_rates_are_the_largest_of_any_variant(tmp_path):
    """By task, from a run's own answers; the noise is the baseline's."""
    rng = np.random.default_rng(1)
    base = (rng.random((3, 100)) < 0.5).astype(float)
    mild, wild = base.copy(), base.copy()
    mild[:, :5] = 1 - mild[:, :5]
    wild[:, :20] = 1 - wild[:, :20]
    scores = {(name, 0.7): runs.tolist() for name, runs in (("base", base), ("mild", mild), ("wild", wild))}
    rate_of, _ = measured_flip_rates(str(make_run(tmp_path / "run", {"sums": MadeTask(scores)})))
    flips, noise = rate_of("sums", 0.7)
    assert noise == pytest.approx(np.mean([(base[i] != base[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))]))
    assert flips == max(0.2, noise)
    assert rate_of("sums", 0.3) == (flips, noise)
    assert rate_of("unknown", 0.7) == (flips, None)


def test_a_run_without_flips_measures_nothing(tmp_path):
    """The sentence says what to give instead."""
    task = MadeTask({(name, 0.0): [[1, 0]] for name in ("base", "cheap")})
    with pytest.raises(UserError, match="--flip-rate"):
        measured_flip_rates(str(make_run(tmp_path / "run", {"sums": task})))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_is_a_share(rate):
    """Anything else is refused."""
    with pytest.raises(UserError, match="between 0 and 1"):
        given_flip_rate(rate)


def test_the_title_says_what_was_assumed():
    """A reader must know that nothing was measured."""
    console = Console(width=100, file=io.StringIO())
    console.print(detection_table(_plan(sums=(500, GREEDY)), given_flip_rate(None)))
    assert "assuming that 10% of the answers flip" in console.file.getvalue()


STOPPING = {
    "looks": 10,
    "until": "degraded",
    "spending": {"degraded": "hsd-2", "certified": "hsd-4"},
    "alpha": 0.05,
    "margin": 0.01,
    "comparisons": [("cheap", 0.0)],
}


def test_what_stopping_early_saves_is_said():
    """The share of the samples if the drop is 2 points, and without one, as the statistics expect them."""
    table = detection_table(_plan(STOPPING, sums=(2_000, GREEDY)), given_flip_rate(0.1))
    shares = [
        round(100 * expected_course(Design(2_000, 0.1), drop, Stopping(), 0.01)[2]) for drop in (0.02, 0.0)
    ]
    assert [int(share) for share in re.findall(r"(\d+) %", table.caption)] == shares
    assert shares[0] < 80 < shares[1]


def test_a_sweep_that_asks_everything_says_nothing_of_stopping():
    """No caption."""
    assert detection_table(_plan(sums=(2_000, GREEDY)), given_flip_rate(0.1)).caption is None
