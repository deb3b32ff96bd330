"""Items with unequal numbers of runs: random splits of their runs, against enumeration and simulation."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.arrays import EvidenceError
from stats.comparison import Settings, TaskScores, compare, compare_variants
from stats.distributions.splits import RunSplits
from stats.scores import from_reruns
from stats.signflip import SignFlipTest
from stats.tasks.combine import combine_scores, combine_tasks


def item_law(first, second):
    """Differences of means under every split of an item's runs, or both signs where numbers are equal."""
    first, second = [np.array(runs, dtype=float) for runs in (first, second)]
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    if first.size == second.size:
        return [first.mean() - second.mean(), second.mean() - first.mean()]
    pooled = np.concatenate([first, second])
    chosen = [list(c) for c in combinations(range(pooled.size), first.size)]
    return [pooled[c].mean() - np.delete(pooled, c).mean() for c in chosen]


def enumerated_p(baseline, variant):
    """P(S ≥ observed) over all signs and splits."""
    sums = np.zeros(1)
    for first, second in zip(baseline, variant, strict=True):
        sums = np.add.outer(sums, item_law(first, second)).ravel()
    observed = np.nanmean(baseline, axis=1).sum() - np.nanmean(variant, axis=1).sum()
    return np.mean(sums >= observed - 1e-9)


def split_p(task):
    """The p-value under the null of exchangeable runs alone."""
    return combine_tasks([task.even_sums], splits=[task.splits]).pooled.p


@st.composite
def few_runs(draw, scores):
    """Up to four items with one to three runs of either model, holes included."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    runs = []
    for columns in shape[1:]:
        cells = st.one_of(scores, st.none())
        rows = [draw(st.lists(cells, min_size=columns - 1, max_size=columns - 1)) for _ in range(shape[0])]
        whole = [[draw(scores), *row] for row in rows]
        runs.append(np.array([[np.nan if cell is None else cell for cell in row] for row in whole]))
    return runs


@pytest.mark.slow
@settings(max_examples=150)
@given(few_runs(st.sampled_from([0.0, 1.0])))
def test_right_or_wrong_runs_equal_enumeration(runs):
    """Hypergeometric laws mixed with signs: the share of all splits and signs, ties and zeros included."""
    assert split_p(from_reruns("t", *runs)) == pytest.approx(enumerated_p(*runs), rel=1e-9)


@settings(max_examples=100)
@given(few_runs(st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0])))
def test_graded_runs_equal_enumeration(runs):
    """The same for graded scores on a lattice."""
    assert split_p(from_reruns("t", *runs)) == pytest.approx(enumerated_p(*runs), rel=1e-9)


def test_tasks_whose_items_all_lack_a_run_are_tested_together():
    """Three runs of the baseline, or five, and no item that has all of them: against enumeration."""
    nan = np.nan
    first = [[0.2, 0.4, nan], [0.9, nan, 0.7]], [[0.6], [0.1]]
    second = [[0.5, nan, 0.3, nan, nan], [1.0, nan, nan, 0.4, nan]], [[0.2], [0.7]]
    tasks = [from_reruns(name, *runs) for name, runs in (("a", first), ("b", second))]
    p = combine_tasks([task.even_sums for task in tasks], splits=[task.splits for task in tasks]).pooled.p
    rows = [[*one, *([nan] * (5 - len(one)))] for one in (*first[0], *second[0])]
    assert p == pytest.approx(enumerated_p(np.array(rows), np.array([*first[1], *second[1]])), rel=1e-9)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_direction_and_range_do_not_matter(higher_is_better):
    """Grades of 1 to 10, and their mirror image where lower is better, have the p-value of the shares."""
    rng = np.random.default_rng(1)
    shares = [rng.integers(0, 4, (5, k)) / 3 for k in (3, 1)]
    grades = [1 + 9 * (s if higher_is_better else 1 - s) for s in shares]
    task = from_reruns("t", *grades, bounds=(1.0, 10.0), higher_is_better=higher_is_better)
    assert split_p(task) == pytest.approx(enumerated_p(*shares), rel=1e-9)


def test_the_table_of_a_task_is_the_law_of_its_tail():
    """Direct convolution and tilted transform agree far into the tail."""
    rng = np.random.default_rng(2)
    task = from_reruns("t", rng.random((400, 5)) < 0.7, rng.random((400, 2)) < 0.7)
    null = SignFlipTest(task.even_sums, splits=task.splits)
    one = combine_tasks([task.even_sums, np.ones(3)], splits=[task.splits, None])
    assert null.method == one.method == "exact"
    from stats.distributions.nulls import NullTable

    table = NullTable(task.even_sums, 10, [0], splits=task.splits)
    for value in np.linspace(-2, 9, 23) * table.scale:
        place = np.searchsorted(table.support, value)
        exact = np.log(table.tails[place])
        assert null.log_tail(float(table.support[place])) == pytest.approx(exact, abs=1e-8)


def test_scores_on_no_lattice_are_drawn():
    """Irrational graded scores: simulated, marked so, and near the enumerated p-value."""
    rng = np.random.default_rng(3)
    runs = [rng.random((6, k)) for k in (3, 2)]
    found = combine_tasks([np.zeros(0)], splits=[from_reruns("t", *runs).splits]).pooled
    assert found.method == "monte-carlo"
    assert abs(found.p - enumerated_p(*runs)) < 5 * found.standard_error


def test_the_law_of_an_item_has_mean_zero_and_the_known_variance():
    """Σ s²(1/K_B + 1/K_V) for right-or-wrong and for graded runs."""
    rng = np.random.default_rng(4)
    for scores in (rng.integers(0, 2, (9, 7)), rng.integers(0, 6, (9, 7)) / 5):
        splits = from_reruns("t", scores[:, :5], scores[:, 5:]).splits
        assert sum(
            part.count * (part.chances @ part.values**2) for part in splits.components
        ) == pytest.approx(splits.variance)
        assert all(part.chances @ part.values == pytest.approx(0, abs=1e-12) for part in splits.components)


def rejection_rates(first, second, simulations, items=30, abilities=(0.4, 0.4), changed=0.0):
    """How often p ≤ .05 where no model is worse: the test as it is, signs alone, splits alone."""
    rng = np.random.default_rng(5)
    counts = np.zeros(3)
    for _ in range(simulations):
        before = rng.beta(*abilities, items)
        after = np.where(rng.random(items) < changed, rng.beta(*abilities, items), before)
        numbers = [np.broadcast_to(rng.permuted(np.resize(k, items)), items) for k in (first, second)]
        runs = [
            np.where(np.arange(k.max()) < k[:, None], rng.random((items, k.max())) < p[:, None], np.nan)
            for p, k in zip((before, after), numbers, strict=True)
        ]
        task = from_reruns("t", *runs)
        found = combine_scores([task]).pooled.p, combine_tasks([task.block_sums]).pooled.p, split_p(task)
        counts += np.array(found) <= 0.05
    return counts / simulations


@pytest.mark.slow
def test_ten_runs_against_one_keep_the_level():
    """30 items that both models get right 5 % of the time: flipping signs rejects far too often."""
    found, signs, _ = rejection_rates([10], [1], 300, abilities=(5.0, 95.0))
    assert signs > 0.15
    assert found <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [([1], [1]), ([3], [3]), ([3, 2], [2, 3, 1])])
def test_other_numbers_of_runs_keep_the_level(first, second):
    """1/1, 3/3 and mixed numbers from item to item."""
    assert rejection_rates(first, second, 300)[0] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.slow
def test_items_that_change_in_both_directions_are_no_drop():
    """A variant that answers 15 % of the items differently, half of them better, in an unfinished sweep."""
    found, _, splits = rejection_rates([10], [9], 300, changed=0.15)
    assert splits > 0.08
    assert found <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_the_larger_of_the_two_p_values_counts():
    """In every combination over tasks."""
    rng = np.random.default_rng(6)
    tasks = [from_reruns(n, rng.random((20, 4)) < 0.8, rng.random((20, 1)) < 0.6) for n in "ab"]
    found = combine_scores(tasks)
    signs = combine_tasks([task.block_sums for task in tasks])
    splits = combine_tasks([t.even_sums for t in tasks], splits=[t.splits for t in tasks])
    for name in ("max-drop", "fisher"):
        assert found.p[name] == max(signs.p[name], splits.p[name])
    assert found.pooled.p == max(signs.pooled.p, splits.pooled.p)
    assert found.p["any"] <= found.p["joint"] <= 3 * found.p["any"]


def test_max_drop_and_fisher_of_split_runs_equal_enumeration():
    """Two tasks of two items, one of them with equal numbers of runs."""
    runs = [
        (np.array([[1.0, 1, 0], [1, 1, 1]]), np.array([[0.0], [1]])),
        (np.array([[1.0, 1], [1, 0]]), np.array([[0.0, np.nan], [0, 0]])),
    ]
    laws, scales, observed = [], [], []
    for first, second in runs:
        parts = [item_law(f, s) for f, s in zip(first, second, strict=True)]
        laws.append(np.array([sum(values) for values in product(*parts)]))
        scales.append(laws[-1].std())
        observed.append(float((np.nanmean(first, axis=1) - np.nanmean(second, axis=1)).sum()))
    tasks = [from_reruns("t", *pair) for pair in runs]
    found = combine_tasks([t.even_sums for t in tasks], splits=[t.splits for t in tasks])
    z = np.maximum.outer(laws[0] / scales[0], laws[1] / scales[1])
    largest = max(s / scale for s, scale in zip(observed, scales, strict=True))
    assert found.p["max-drop"] == pytest.approx(np.mean(z >= largest - 1e-9))
    logs = [np.array([-np.log(np.mean(law >= s - 1e-9)) for s in law]) for law in laws]
    total = sum(-np.log(np.mean(law >= s - 1e-9)) for law, s in zip(laws, observed, strict=True))
    assert found.p["fisher"] == pytest.approx(np.mean(np.add.outer(*logs) >= total - 1e-9))


def test_variants_with_unequal_reruns_are_adjusted():
    """Max-T lies between the raw p-value and Holm's, up to simulation error."""
    rng = np.random.default_rng(7)
    base = rng.random((60, 5)) < 0.8
    variants = {f"v{k}": [from_reruns("t", base, rng.random((60, 2)) < 0.72)] for k in range(3)}
    found = compare_variants(variants, Settings(adjust="maxt"))
    holm = compare_variants(variants, Settings(adjust="holm"))
    for name, one in found.items():
        assert one.p_joint <= one.p_adjusted <= holm[name].p_adjusted + 0.02


def test_equal_numbers_of_runs_are_flipped_as_before():
    """Numbers of runs that agree on every item change nothing, holes on both sides included."""
    rng = np.random.default_rng(8)
    first, second = rng.integers(0, 2, (40, 3)).astype(float), rng.integers(0, 2, (40, 3)).astype(float)
    first[:5, 1] = second[:5, 2] = np.nan
    means = np.nanmean(first, axis=1), np.nanmean(second, axis=1)
    assert compare([from_reruns("t", first, second)]) == compare([TaskScores("t", *means, reruns=(3, 3))])


def test_numbers_of_runs_without_scores_are_refused_where_they_do_not_suffice():
    """A mean of .35 over two runs is no number of successes; with the runs it is fine."""
    means, numbers = (np.array([0.35]), np.array([1.0])), (np.array([2]), np.array([1]))
    with pytest.raises(EvidenceError, match="pass the score of every run"):
        TaskScores("t", *means, answers=numbers)
    runs = (np.array([[0.3, 0.4]]), np.array([[1.0]]))
    assert isinstance(TaskScores("t", *means, answers=numbers, runs=runs).splits, RunSplits)
    with pytest.raises(EvidenceError, match="do not match its numbers of runs"):
        TaskScores("t", *means, answers=(np.array([3]), np.array([1])), runs=runs)
    with pytest.raises(EvidenceError, match="at least 1"):
        TaskScores("t", *means, answers=(np.array([0]), np.array([1])))
