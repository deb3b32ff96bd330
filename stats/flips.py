"""Which items flip: between two models, between reruns of one model, and in the text behind the score.

An item that never flips carries no information about a degradation, so a benchmark can be cut to those that
do, provided the runs that chose them are not used again: items chosen because the baseline happened to get
them right in those runs fall back towards their mean, and the fall looks like damage.

Two runs of the same model under the same settings disagree on some items. Their flip rate, estimated from all
pairs of R runs, is the noise floor of every comparison: what a lossless variant would show.
"""

from collections.abc import Collection
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from stats.arrays import Bools, EvidenceError, Floats, Ints
from stats.drop import ClusterEvidence

Estimate: TypeAlias = dict[str, float]  # a number with the limits of its two-sided interval: value, low, high


def flip_table(baseline: ArrayLike, variant: ArrayLike) -> dict[str, float]:
    """Count the four outcomes of whether two models are right on the same items, shape (n,) each.

    Returns:
        both_right, worse (b), better (c), both_wrong; the drop net (b − c)/n and flip rate gross (b + c)/n.

    Raises EvidenceError if there are no items or the shapes differ.
    """
    first, second = _paired(np.asarray(baseline, dtype=bool), np.asarray(variant, dtype=bool))
    worse, better = int((first & ~second).sum()), int((~first & second).sum())
    return {
        "both_right": int((first & second).sum()),
        "worse": worse,
        "better": better,
        "both_wrong": int((~first & ~second).sum()),
        "net": (worse - better) / first.size,
        "gross": (worse + better) / first.size,
    }


def success_histogram(right: ArrayLike) -> Ints:
    """Items with 0, 1, … R right answers, shape (R + 1,), of R runs, shape (n, R); all but the ends flip.

    Raises EvidenceError if there are no items or no runs.
    """
    answers = _runs(right)
    return np.bincount(answers.sum(axis=1), minlength=answers.shape[1] + 1).astype(np.int64)


def flipping_items(right: ArrayLike) -> Bools:
    """The items, shape (n,), that the *baseline* has neither always right nor always wrong, shape (n, R)."""
    answers = _runs(right)
    return np.asarray(answers.any(axis=1) & ~answers.all(axis=1))


def refuse_reused_runs(chosen_by: Collection[str], tested: Collection[str]) -> None:
    """Refuse to test on the runs that chose the subset.

    Raises EvidenceError if a run is in both.
    """
    both = sorted(set(chosen_by) & set(tested))
    if both:
        raise EvidenceError(
            f"Runs {', '.join(both)} chose this subset and cannot be tested on it: items chosen because they "
            "flipped in them regress to their mean, which looks like a drop; use fresh runs of the baseline."
        )


def churn(
    baseline_answers: ArrayLike, variant_answers: ArrayLike, baseline_scores: Floats, variant_scores: Floats
) -> dict[str, int]:
    """Count changed answers (text or choice), regardless of their scores (1 where right), shape (n,) each.

    Returns:
        changed, items whose answer differs; changed_same_score, those among them whose score does not;
        wrong_to_different_wrong, those of the latter that are wrong both times; and all items.

    Raises EvidenceError if there are no items or the shapes differ.
    """
    first, second = _paired(np.asarray(baseline_answers), np.asarray(variant_answers))
    before, after = _paired(baseline_scores, variant_scores)
    _paired(first, before)
    changed = first != second
    same = changed & (before == after)
    wrong = same & (before == 0.0)
    return {
        "changed": int(changed.sum()),
        "changed_same_score": int(same.sum()),
        "wrong_to_different_wrong": int(wrong.sum()),
        "items": first.size,
    }


def rerun_churn(answers: NDArray[np.generic], right: Bools) -> dict[str, int]:
    """`churn` over all pairs of runs of one model; its items are items × pairs.

    Args:
        answers: the answers, or a number for each distinct one, shape (n, R) with R ≥ 2.
        right: whether they are right, shape (n, R).
    """
    scores = right.astype(np.float64)
    pairs = combinations(range(scores.shape[1]), 2)
    parts = [churn(answers[:, i], answers[:, j], scores[:, i], scores[:, j]) for i, j in pairs]
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def _paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if first.shape != second.shape or first.ndim != 1:
        raise EvidenceError(
            f"Pairs need one value per item and side, but the shapes are {first.shape} and {second.shape}."
        )
    if first.size == 0:
        raise EvidenceError("There are no items to pair: without data there is no verdict.")
    return first, second


def _runs(right: ArrayLike, least: int = 1) -> Bools:
    answers = np.asarray(right, dtype=bool)
    if answers.ndim != 2 or answers.size == 0 or answers.shape[1] < least:
        raise EvidenceError(
            f"Answers must have the shape (items, runs) with {least} runs or more, but have {answers.shape}."
        )
    return answers


def item_flip_rates(right: ArrayLike) -> Floats:
    """Chance, per item, that two of its runs disagree: 2k(R − k)/(R(R − 1)) for k successes in R ≥ 2 runs.

    Unbiased for 2π(1 − π) whatever R, so that numbers from few and from many runs compare; (n,) of (n, R).

    Raises EvidenceError if there are no items or fewer than two runs.
    """
    answers = _runs(right, least=2)
    runs, successes = answers.shape[1], answers.sum(axis=1)
    return 2.0 * successes * (runs - successes) / (runs * (runs - 1))


def excess_over_reruns(first: Floats, second: Floats) -> Floats:
    """How much more two models differ on an item than reruns of either do: d² − s²/K − s'²/K', shape (n,).

    For independent runs it is unbiased for the square of the true difference, and less where the same seeds
    give the same answers. Of scores of every run, shape (n, K) and (n, K'), NaN where one is missing; NaN for
    an item with fewer than two of one model.
    """
    excess, counts = np.full(len(first), np.nan), [(~np.isnan(runs)).sum(axis=1) for runs in (first, second)]
    known = np.minimum(*counts) > 1
    gaps = np.nanmean(first[known], axis=1) - np.nanmean(second[known], axis=1)
    noise = [
        np.nanvar(runs[known], axis=1, ddof=1) / count[known]
        for runs, count in zip((first, second), counts, strict=True)
    ]
    excess[known] = gaps**2 - sum(noise)
    return excess


def mean_share(values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean of one share in [0, 1] per item, shape (n,), with Student's interval at 1 − α, cut to [0, 1]."""
    low, high = ClusterEvidence(values, np.ones_like(values)).interval(alpha)
    return {"value": float(values.mean()), "low": max(low, 0.0), "high": min(high, 1.0)}


def variance_split(scores: Floats, alpha: float = 0.05) -> dict[str, Estimate]:
    """`variance_components` with jackknife intervals at 1 − α over items, which were drawn at random.

    Returns:
        Variance by source, "item", "temperature" and "seed", with Student's intervals of the jackknife's
        pseudo-values (Tukey 1958), cut at 0.

    Raises EvidenceError if there are fewer than three items or two seeds.
    """
    count, temperatures, seeds = scores.shape
    if count < 3:
        raise EvidenceError("Intervals of variances need at least three items.")
    values = variance_components(scores)
    cells = scores.mean(axis=2)
    noise = scores.var(axis=2, ddof=1).mean(axis=1)
    spread = cells.var(axis=1, ddof=1) if temperatures > 1 else noise / seeds
    means = cells.mean(axis=1)
    between = float(means.var(ddof=1))
    fewer = ((count - 1) * between - count / (count - 1) * (means - means.mean()) ** 2) / (count - 2)

    def split(item: Floats, cell: Floats, seed: Floats) -> Floats:
        return np.stack([item - cell / temperatures, cell - seed / seeds, seed])

    whole = split(np.array([between]), spread.mean(keepdims=True), noise.mean(keepdims=True))
    left_out = [(part.sum() - part) / (count - 1) for part in (spread, noise)]
    pseudo = count * whole - (count - 1) * split(fewer, *left_out)
    half = stdtrit(count - 1, 1.0 - alpha / 2) * pseudo.std(axis=1, ddof=1) / np.sqrt(count)
    lows, highs = (np.maximum(whole[:, 0] + sign * half, 0.0) for sign in (-1, 1))
    numbers = np.stack([values, lows, highs], axis=1)
    if temperatures == 1:
        numbers[1] = 0.0
    names = ("item", "temperature", "seed")
    return {
        name: dict(zip(("value", "low", "high"), row, strict=True))
        for name, row in zip(names, numbers.tolist(), strict=True)
    }


def variance_components(scores: Floats) -> tuple[float, float, float]:
    """Split the variance of one model's scores, shape (items, temperatures, seeds) (nested, by moments).

    Returns:
        Variance between items, between temperatures of one item, and between seeds of one item at one
        temperature: unbiased estimates, cut at 0; with one temperature its share is 0.

    Raises EvidenceError if there are fewer than two items or two seeds.
    """
    items, temperatures, seeds = scores.shape
    if items < 2 or seeds < 2:
        raise EvidenceError("Splitting the variance needs at least two items and two seeds.")
    seed = float(scores.var(axis=2, ddof=1).mean())
    cells = scores.mean(axis=2)
    spread = float(cells.var(axis=1, ddof=1).mean()) if temperatures > 1 else seed / seeds
    item = float(cells.mean(axis=1).var(ddof=1)) - spread / temperatures
    return max(item, 0.0), max(spread - seed / seeds, 0.0), seed
