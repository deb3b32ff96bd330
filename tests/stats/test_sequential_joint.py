"""The joint statistic over looks, from sign vectors."""

import numpy as np
import pytest

from stats.sequential.boundaries import parse_spending
from stats.sequential.looks import SignFlipWalk, SignVectors
from stats.sequential.plan import PlannedTask, SequentialPlan
from stats.tasks.combine import combine_tasks

HSD = parse_spending("hsd-2")


def started(tasks, combine="joint", comparisons=("a",)):
    planned = tuple(PlannedTask(str(task), 1_000) for task in range(tasks))
    return SignVectors(SequentialPlan(planned, comparisons, combine=combine, sign_vectors=19_999, seed=5))


def by_task(*columns):
    """Blocks of several tasks, one task each."""
    rows = [(task, value) for task, values in enumerate(columns) for value in values]
    matrix = np.zeros((len(rows), len(columns)))
    for row, (task, value) in enumerate(rows):
        matrix[row, task] = value
    return matrix


def flips(rng, worse, better):
    return rng.permutation(np.repeat([1.0, -1.0], [worse, better]))


@pytest.mark.parametrize("combine", ["joint", "pooled", "max-drop", "fisher"])
def test_one_look_is_the_fixed_analysis(combine):
    """The p-value of a single look is that of `combine_tasks`, up to the draws."""
    rng = np.random.default_rng(1)
    columns = [flips(rng, 60, 45), flips(rng, 25, 20), rng.integers(-10, 11, 30) / 10]
    law = started(3, combine).look(1.0, by_task(*columns))
    expected = combine_tasks(columns, draws=50_000).p[combine]
    assert law.p_stagewise[0] == pytest.approx(expected, abs=5 * np.sqrt(expected / 20_000))


def test_the_pooled_statistic_has_the_boundaries_of_the_exact_walk():
    """Sums drawn look by look against the law that is computed: boundaries on the normal scale, two looks."""
    rng = np.random.default_rng(2)
    parts = [[rng.integers(-10, 11, size) / 10 for size in sizes] for sizes in ((90, 60), (80, 50))]
    vectors, walk = started(2, "pooled"), SignFlipWalk(np.array([0.05]), HSD)
    for look, columns in enumerate(parts, 1):
        drawn = vectors.look(look / 2, by_task(*columns))
        exact = walk.look(look / 2, np.concatenate(columns))
        assert drawn.nominal(0) == pytest.approx(exact.nominal(0), rel=0.1)
        assert drawn.spent[0] == pytest.approx(exact.spent[0], rel=0.1)


def test_a_shared_block_has_one_sign_in_both_tasks():
    """Two tasks with the same documents: their sums agree in every row."""
    values = np.random.default_rng(3).integers(-3, 4, (40, 1)) / 3
    vectors = started(2)
    vectors.look(1.0, np.repeat(values, 2, axis=1))
    assert (vectors.sums[:, 0] == vectors.sums[:, 1]).all()
    assert np.std(vectors.sums[1:, 0]) == pytest.approx(np.sqrt(vectors.squares[0]), rel=0.03)


def test_what_is_spent_stays_within_the_function():
    """At every look and level, the observed row counted among the others; higher levels spend more."""
    rng, vectors = np.random.default_rng(4), started(2, comparisons=("a", "b", "c"))
    for look in range(1, 6):
        law = vectors.look(look / 5, by_task(flips(rng, 9, 9), flips(rng, 7, 8)))
        assert (law.spent <= [HSD(look / 5, level) + 1e-12 for level in (0.05 / 3, 0.025, 0.05)]).all()
        assert (np.diff(law.boundary) <= 0).all()
        assert (~vectors.crossed[0] | vectors.crossed[1]).all()
        assert (~vectors.crossed[1] | vectors.crossed[2]).all()


def test_the_same_scores_give_the_same_looks():
    """Signs depend on the seed alone."""
    rng = np.random.default_rng(6)
    matrix = by_task(flips(rng, 20, 10), flips(rng, 12, 11))
    first, second = (started(2).look(0.5, matrix) for _ in range(2))
    assert first.statistic == second.statistic
    assert first.boundary == second.boundary


def test_damage_in_one_task_crosses_early():
    """40 of 50 flips to wrong in one of three tasks, half of the items seen."""
    rng = np.random.default_rng(7)
    matrix = by_task(flips(rng, 40, 10), flips(rng, 50, 50), flips(rng, 60, 60))
    assert started(3).look(0.5, matrix).crossed[0]
