"""Adjusting for many variants."""

from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from stats.arrays import EvidenceError
from stats.comparison import TaskScores, compare_variants
from stats.multiplicity import adjust_p_values, benjamini_hochberg, holm, step_down_max_t
from stats.results import Settings

P_VALUES = st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=20)


@given(P_VALUES)
def test_holm_agrees_with_statsmodels(p_values):
    """Step-down Bonferroni."""
    with patch("gc.collect"):  # statsmodels collects all garbage of the process each time
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, rel=1e-12)


@given(P_VALUES)
def test_benjamini_hochberg_agrees_with_statsmodels(p_values):
    """Step-up false discovery rate."""
    assert benjamini_hochberg(p_values) == pytest.approx(
        multipletests(p_values, method="fdr_bh")[1], rel=1e-12
    )


def test_an_unknown_adjustment_is_refused():
    """Max-T cannot be had from p-values alone."""
    with pytest.raises(ValueError, match="holm, bh or none"):
        adjust_p_values(np.array([0.1]), "maxt")


def variants_of(net, copies=1, items=400, seed=0):
    """Variants that flip the same 100 items of two tasks, `net` more to wrong than to right."""
    rng = np.random.default_rng(seed)
    baseline = (rng.random(items) < 0.5).astype(float)
    baseline[:100] = np.arange(100) < 50 + net / 2
    flipped = np.where(np.arange(items) < 100, 1 - baseline, baseline)
    half = items // 2
    order = rng.permutation(items)
    tasks = [
        TaskScores(f"t{k}", baseline[order][s], flipped[order][s])
        for k, s in enumerate((slice(0, half), slice(half, items)))
    ]
    return [tasks] * copies


def adjusted(variants, combine="joint", adjust="maxt"):
    named = {f"v{k}": tasks for k, tasks in enumerate(variants)}
    found = compare_variants(named, Settings(combine=combine, adjust=adjust, sign_vectors=5_000))
    return [c.p_value(combine) for c in found.values()], [c.p_adjusted for c in found.values()]


@pytest.mark.slow
@pytest.mark.parametrize("combine", ["joint", "pooled", "max-drop", "fisher"])
def test_identical_variants_cost_nothing_under_max_t(combine):
    """Five copies of one variant are one test: max-T leaves its p-value, Holm multiplies it by five."""
    raw, found = adjusted(variants_of(16, copies=5), combine)
    _, by_holm = adjusted(variants_of(16, copies=5), combine, "holm")
    assert found == pytest.approx(raw, abs=0.012)
    assert by_holm[0] == pytest.approx(5 * raw[0])


def test_independent_variants_cost_what_sidak_says():
    """Variants that flip different items are independent: the smallest p-value becomes 1 − (1 − p)^4."""
    items, rng = 800, np.random.default_rng(1)
    baseline = (rng.random(items) < 0.5).astype(float)
    variants = []
    for k in range(4):
        block = np.arange(200 * k, 200 * (k + 1))
        baseline[block] = np.arange(200) < (118 if k == 0 else 100)
        variants.append(block)
    tasks = []
    for block in variants:
        scores = baseline.copy()
        scores[block] = 1 - scores[block]
        tasks.append([TaskScores("t", baseline, scores)])
    raw, found = adjusted(tasks, "pooled")
    assert found[0] == pytest.approx(1 - (1 - raw[0]) ** 4, abs=0.012)


def test_max_t_keeps_the_order_and_lies_between_raw_and_one():
    """Adjusted p-values never fall below the raw ones nor change their order."""
    variants = [tasks for net in (30, 16, 6, 0, -8) for tasks in variants_of(net, seed=net + 20)]
    raw, found = adjusted(variants)
    assert all(r <= f <= 1.0 for r, f in zip(raw, found, strict=True))
    assert np.array_equal(np.argsort(raw, kind="stable"), np.argsort(found, kind="stable"))


def test_max_t_falls_back_on_holm_where_signs_cannot_resolve():
    """A p-value of 1e-20 is not stuck at one in five thousand."""
    quiet = [TaskScores("t", np.ones(400), np.ones(400))]
    broken = [TaskScores("t", np.ones(400), (np.arange(400) >= 70).astype(float))]
    _, found = adjusted([broken, quiet], "pooled")
    assert found[0] == pytest.approx(2 * 2.0**-70)


def test_variants_share_signs_by_the_names_of_items():
    """The same items in another order, some missing, are still the same items."""
    rng = np.random.default_rng(2)
    baseline = (rng.random(300) < 0.5).astype(float)
    variant = np.where(rng.random(300) < 0.2, 0.0, baseline)
    order = rng.permutation(300)
    first = [TaskScores("t", baseline, variant, items=np.arange(300))]
    second = [TaskScores("t", baseline[order], variant[order], items=np.arange(300)[order])]
    p_values = np.array([0.02, 0.02])
    found = step_down_max_t([first, second], p_values, "pooled")
    alone = step_down_max_t([first], p_values[:1], "pooled")
    assert found[0] == pytest.approx(alone[0])


@pytest.mark.parametrize(
    "details",
    [({}, {}), ({"items": "named"}, {}), ({"clusters": "halves"}, {})],
)
def test_variants_without_known_common_blocks_get_holm(details):
    """Unnamed items of different number, or clusters for one variant only: Holm, and the reasons say so."""
    variants = {}
    for name, n, chosen in zip("xy", (12, 13), details, strict=True):
        labels = {"named": np.arange(n), "halves": np.arange(n) // 2}
        named = {field: labels[kind] for field, kind in chosen.items()}
        variants[name] = [TaskScores("t", np.ones(n), (np.arange(n) > 6).astype(float), **named)]
    found = compare_variants(variants, Settings(adjust="maxt"))
    by_holm = compare_variants(variants, Settings(adjust="holm"))
    assert found["x"].p_adjusted == by_holm["x"].p_adjusted
    assert "unshared-items" in found["x"].reason_codes
    with pytest.raises(EvidenceError, match="name their items"):
        step_down_max_t(list(variants.values()), np.array([0.5, 0.5]))


def enumerated_step_down(blocks, statistic):
    """Adjusted p-values by going through all sign vectors, for blocks of shape (G, V)."""
    signs = [np.array(row) for row in product((1.0, -1.0), repeat=len(blocks))]
    values = np.array([statistic(row[:, None] * blocks) for row in signs])
    shares = np.array([[np.mean(column >= v - 1e-9) for v in column] for column in values.T]).T
    order = np.argsort(shares[0], kind="stable")
    adjusted = np.empty(order.size)
    for place, variant in enumerate(order):
        smallest = shares[:, order[place:]].min(axis=1)
        adjusted[variant] = np.mean(smallest <= shares[0, variant] + 1e-12)
    adjusted[order] = np.maximum.accumulate(adjusted[order])
    return adjusted


def test_few_blocks_are_adjusted_exactly():
    """Nine blocks in two tasks: the adjusted p-values are those of all 512 common sign vectors."""
    blocks = np.random.default_rng(3).normal(0.35, 0.8, (9, 4)).clip(-1, 1)
    tasks = [
        [TaskScores(name, np.maximum(d, 0), np.maximum(-d, 0)) for name, d in (("a", v[:5]), ("b", v[5:]))]
        for v in blocks.T
    ]
    expected = enumerated_step_down(blocks, lambda signed: signed.sum(axis=0))
    raw, found = adjusted(tasks, "pooled")
    assert found == pytest.approx(expected, rel=1e-12)
    assert max(found) > max(raw)


def test_clusters_of_unequal_size_are_adjusted_by_either_flip():
    """With sums and with sums over size^0.6; of each variant the larger adjusted p-value counts."""
    sizes = np.array([1, 1, 2, 2, 3, 4, 6, 9, 16])
    items = np.round(np.random.default_rng(4).normal(0.3, 0.6, (sizes.sum(), 4)).clip(-1, 1), 1)
    labels = np.repeat(np.arange(sizes.size), sizes)
    variants = [[TaskScores("a", np.maximum(d, 0), np.maximum(-d, 0), clusters=labels)] for d in items.T]
    sums = np.stack([np.bincount(labels, d) for d in items.T], axis=1)
    either = [enumerated_step_down(blocks, lambda signed: signed.sum(axis=0)) for blocks in (
        sums, sums / (sizes**0.6)[:, None]
    )]  # fmt: skip
    assert adjusted(variants, "pooled")[1] == pytest.approx(np.maximum(*either), abs=0.015)
    assert (either[0] > either[1]).any()
    assert (either[0] < either[1]).any()


def test_exact_adjustment_of_the_largest_drop_of_a_task():
    """The same for the largest standardised drop."""
    blocks = np.random.default_rng(4).normal(0.35, 0.8, (8, 3)).clip(-1, 1)
    tasks = [
        [TaskScores(name, np.maximum(d, 0), np.maximum(-d, 0)) for name, d in (("a", v[:5]), ("b", v[5:]))]
        for v in blocks.T
    ]

    def largest(signed):
        parts = [
            signed[s].sum(axis=0) / np.sqrt((signed[s] ** 2).sum(axis=0)) for s in (slice(5), slice(5, 8))
        ]
        return np.maximum(*parts)

    found = adjusted(tasks, "max-drop")[1]
    assert found == pytest.approx(enumerated_step_down(blocks, largest), rel=1e-12)


def test_a_single_variant_is_not_adjusted():
    """One comparison costs nothing, whatever adjustment is asked for."""
    tasks = variants_of(16)[0]
    for adjust in ("maxt", "holm", "bh", "none"):
        found = compare_variants({"v": tasks}, Settings(adjust=adjust))["v"]
        assert found.p_adjusted == found.p_joint


@pytest.mark.slow
def test_a_task_that_one_variant_lacks_is_adjusted_for_where_it_stands():
    """Variants need not have the same tasks: what one lacks adds nothing to it."""
    blocks = np.random.default_rng(5).normal(0.4, 0.6, 8).clip(-1, 1)
    task = TaskScores("a", np.maximum(blocks, 0), np.maximum(-blocks, 0))
    other = TaskScores("b", np.ones(6), np.array([0, 0, 0, 0, 1, 1.0]))
    _, found = adjusted([[task, other], [task]], "pooled")
    both = np.concatenate([blocks, other.differences])
    expected = enumerated_step_down(
        np.column_stack([both, np.append(blocks, np.zeros(6))]), lambda s: s.sum(axis=0)
    )
    assert found == pytest.approx(expected, rel=1e-12)
