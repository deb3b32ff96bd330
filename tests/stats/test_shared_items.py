"""Items and clusters that several tasks have in common flip together, against enumeration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.comparison import Settings, TaskScores, compare, compare_variants
from stats.multiplicity import step_down_max_t
from stats.scores import balanced
from stats.sharing import merged_blocks, merged_labels
from stats.tasks.combine import combine_scores


def task(name, differences, **details):
    values = np.array(differences, dtype=float) / 10
    return TaskScores(name, np.maximum(values, 0), np.maximum(-values, 0), **details)


def enumerated(tasks, links):
    """The three statistics of (tasks of whole numbers) for every sign per link, as observed first."""
    names = sorted({label for part in links for label in part})
    rows = []
    for signs in product([1, -1], repeat=len(names)):
        sign = dict(zip(names, signs, strict=True))
        rows.append(
            [
                sum(sign[k] * d for k, d in zip(part, task, strict=True))
                for part, task in zip(links, tasks, strict=True)
            ]
        )
    sums = np.array(rows, dtype=float)
    shares = np.array([[np.mean(column >= v - 1e-9) for v in column] for column in sums.T]).T
    scales = sums.std(axis=0)
    z = np.where(scales > 0, sums / np.where(scales > 0, scales, 1), -np.inf)
    return sums.sum(axis=1), z.max(axis=1), -np.log(shares).sum(axis=1)


LINKED = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=4),
    min_size=2,
    max_size=3,
)


@settings(max_examples=80)
@given(LINKED)
def test_linked_items_have_one_sign_in_every_statistic(drawn):
    """Pooled, max-drop, Fisher and joint p-values are shares of all sign vectors over the links."""
    links = [[k for _, k in part] for part in drawn]
    tasks = [
        task(str(number), [d for d, _ in part], links=np.array(own))
        for number, (part, own) in enumerate(zip(drawn, links, strict=True))
    ]
    found, expected = combine_scores(tasks), np.zeros(4)
    for version in filter(None, (tasks, balanced(tasks))):  # of unequal blocks the larger p-value counts
        values = enumerated([part.differences * 10 for part in version], links)
        p_values = np.array([[np.mean(v >= one - 1e-9) for one in v] for v in values])
        smallest = p_values.min(axis=0)
        joint = np.mean(smallest <= smallest[0] * (1 + 1e-9))
        expected = np.maximum(expected, [*p_values[:, 0], joint])
    assert found.pooled.p == pytest.approx(expected[0], rel=1e-9)
    spanning = any(set(a) & set(b) for i, a in enumerate(links) for b in links[:i])
    if spanning:
        assert found.method == "exact"
        assert found.p["max-drop"] == pytest.approx(expected[1], rel=1e-9)
        assert found.p["fisher"] == pytest.approx(expected[2], rel=1e-9)
        assert found.p["joint"] == pytest.approx(expected[3], rel=1e-9)


def test_the_same_items_in_two_tasks_are_no_new_evidence():
    """Twelve items asked in two tasks with equal results: the p-value is that of twelve items."""
    differences = [10] * 9 + [-10] * 3
    one = compare([task("a", differences)])
    names = np.array([f"document {k}" for k in range(12)])
    two = compare([task("a", differences, links=names), task("b", differences, links=names)])
    for name in ("p_pooled", "p_max_drop", "p_fisher", "p_joint"):
        assert getattr(two, name) == pytest.approx(one.p_pooled), name
    apart = compare([task("a", differences), task("b", differences)])
    assert apart.p_pooled < two.p_pooled


@pytest.mark.slow
def test_many_shared_items_are_drawn_and_keep_the_level():
    """60 of 80 documents in both tasks, strongly correlated: the joint test rejects at most .05."""
    rng = np.random.default_rng(1)
    rejected = np.zeros(2)
    for number in range(200):
        flips = rng.choice([-10, 0, 10], 100, p=[0.2, 0.6, 0.2])
        places = np.arange(80), np.arange(20, 100)
        linked = [task(str(k), flips[p], links=p) for k, p in enumerate(places)]
        apart = [task(str(k), flips[p]) for k, p in enumerate(places)]
        for place, tasks in enumerate((linked, apart)):
            rejected[place] += combine_scores(tasks, draws=400, seed=number).p["joint"] <= 0.05
    assert rejected[0] / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert rejected[1] / 200 > 0.07


def test_clusters_that_span_tasks_are_joined_through_their_items():
    """Two clusters of one task that a cluster of another task links become one block."""
    first = task("a", [1, 2, 3, 4], clusters=np.array([0, 0, 1, 2]), links=np.array(list("pqrs")))
    second = task("b", [5, 6], clusters=np.array([7, 7]), links=np.array(list("pr")))
    sums, sizes = merged_blocks([first, second])
    assert sorted(np.round(sums * 10).tolist()) == [4, 17]
    assert sorted(sizes.tolist()) == [1, 5]


def test_links_within_a_task_join_its_items():
    """The same document twice in a task is one block; clusters are joined by it."""
    assert task("a", [1, 2, 3], links=np.array(list("xyx"))).block_sums == pytest.approx([0.4, 0.2])
    joined = merged_labels(np.array([0, 1, 2, 2]), np.array(list("xxyz")))
    assert joined.tolist() == [0, 0, 2, 2]


def test_links_that_join_nothing_change_nothing():
    """Tasks without a common document are independent, to the last digit."""
    rng = np.random.default_rng(2)
    flips = [rng.integers(-3, 4, 30) for _ in range(3)]
    plain = [task(str(k), d) for k, d in enumerate(flips)]
    named = [task(str(k), d, links=np.arange(30) + 100 * k) for k, d in enumerate(flips)]
    assert compare(plain) == compare(named)


def test_shared_items_have_one_sign_for_all_variants():
    """Three variants, two tasks with common documents: max-T equals the enumeration of the links' signs."""
    rng = np.random.default_rng(3)
    values, links = rng.integers(-6, 10, (3, 2, 5)), [list("abcde"), list("abxyz")]
    variants = {
        f"v{v}": [task(str(t), values[v, t], links=np.array(links[t])) for t in range(2)] for v in range(3)
    }
    raw = np.array([combine_scores(tasks).pooled.p for tasks in variants.values()])
    rows = np.array([enumerated(values[v], links)[0] for v in range(3)])
    shares = np.array([[np.mean(row >= one - 1e-9) for one in row] for row in rows])
    assert raw == pytest.approx(shares[:, 0])
    order = np.argsort(raw, kind="stable")
    expected = np.empty(3)
    for place, variant in enumerate(order):
        smallest = shares[order[place:]].min(axis=0)
        expected[variant] = np.mean(smallest <= raw[variant] + 1e-12)
    expected[order] = np.maximum.accumulate(expected[order])
    found = step_down_max_t(list(variants.values()), raw, "pooled")
    assert found == pytest.approx(expected)
    by_front_door = compare_variants(variants, Settings(combine="pooled"))
    assert [c.p_adjusted for c in by_front_door.values()] == pytest.approx(expected)


def test_drawn_signs_are_common_to_shared_items():
    """The drawn p-value over two tasks with all items in common is that of one task, up to draws."""
    flips = [10] * 70 + [-10] * 45
    linked = [task(k, flips, links=np.arange(115)) for k in "ab"]
    found = combine_scores(linked)
    alone = combine_scores([task("a", flips)])
    assert found.method == "monte-carlo"
    assert found.p["joint"] == pytest.approx(alone.pooled.p, abs=0.004)
