"""Which items flip: between two models, between reruns of one model, and in the text behind the score.

An item that never flips carries no information about a degradation, so a benchmark can be cut to those that
do, provided the runs that chose them are not used again: items chosen because the baseline happened to get
them right in those runs fall back towards their mean, and the fall looks like damage.

What one model does when it is run again: the noise floor of every comparison.

Two runs of the same model under the same settings disagree on some items. Their flip rate, estimated from all
pairs of R runs, is what a lossless variant would show; only what goes beyond it is the variant's doing.

Where the noise comes from: the items, or the answers to them.

More reruns average out the noise of the answers and none of that of the items. Splitting the variance of a
paired difference into ω² + σ²_B/K_B + σ²_V/K_V tells which of the two, reruns or items, is the better buy.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from stats.arrays import Bools, EvidenceError, Floats, Ints
from stats.drop.evidence import ClusterEvidence


@dataclass(frozen=True)
class FlipTable:
    """Right and wrong answers of two models on the same items.

    Attributes:
        both_right: a.
        worse: b, baseline right and variant wrong.
        better: c, baseline wrong and variant right.
        both_wrong: d.
    """

    both_right: int
    worse: int
    better: int
    both_wrong: int

    @property
    def items(self) -> int:
        """All pairs."""
        return self.both_right + self.worse + self.better + self.both_wrong

    @property
    def net(self) -> float:
        """(b − c)/N, the drop."""
        return (self.worse - self.better) / self.items

    @property
    def gross(self) -> float:
        """(b + c)/N, the flip rate."""
        return (self.worse + self.better) / self.items


def flip_table(baseline: ArrayLike, variant: ArrayLike) -> FlipTable:
    """Count the four outcomes.

    Args:
        baseline: whether the baseline is right, shape (n,).
        variant: whether the variant is right, shape (n,).

    Raises:
        EvidenceError: if there are no items or the shapes differ.
    """
    first, second = _paired(np.asarray(baseline, dtype=bool), np.asarray(variant, dtype=bool))
    return FlipTable(
        int((first & second).sum()),
        int((first & ~second).sum()),
        int((~first & second).sum()),
        int((~first & ~second).sum()),
    )


@dataclass(frozen=True)
class Stability:
    """How often one model is right on each item over R runs.

    Attributes:
        histogram: items with 0, 1, … R successes, shape (R + 1,).
        always_right: items right in every run.
        always_wrong: items wrong in every run.
        flipping: all others.
    """

    histogram: Ints
    always_right: int
    always_wrong: int
    flipping: int

    @property
    def never_flip_share(self) -> float:
        """Share of items that are always right or always wrong."""
        return 1.0 - self.flipping / int(self.histogram.sum())


def stability(right: ArrayLike) -> Stability:
    """Count successes per item over the runs of one model.

    Args:
        right: whether the answer is right, shape (n, R).

    Raises:
        EvidenceError: if there are no items or no runs.
    """
    answers = _runs(right)
    runs = answers.shape[1]
    histogram: Ints = np.bincount(answers.sum(axis=1), minlength=runs + 1).astype(np.int64)
    steady = int(histogram[0] + histogram[runs])
    return Stability(histogram, int(histogram[runs]), int(histogram[0]), answers.shape[0] - steady)


def flipping_items(right: ArrayLike) -> Bools:
    """The items of a subset: those that are neither always right nor always wrong.

    Args:
        right: whether the *baseline* is right, shape (n, R).

    Returns:
        Shape (n,).
    """
    successes = _runs(right).sum(axis=1)
    chosen: Bools = (successes > 0) & (successes < np.asarray(right).shape[1])
    return chosen


def refuse_reused_runs(chosen_by: Collection[str], tested: Collection[str]) -> None:
    """Refuse to test on the runs that chose the subset.

    Args:
        chosen_by: names of the runs from which the subset was chosen.
        tested: names of the runs to be tested.

    Raises:
        EvidenceError: if a run is in both.
    """
    both = sorted(set(chosen_by) & set(tested))
    if both:
        raise EvidenceError(
            f"Runs {', '.join(both)} chose this subset and cannot be tested on it: items chosen because they "
            "flipped in them regress to their mean, which looks like a drop; use fresh runs of the baseline."
        )


@dataclass(frozen=True)
class Churn:
    """How many answers changed, regardless of their scores.

    Attributes:
        changed: items whose answer differs.
        changed_same_score: those among them whose score does not.
        wrong_to_different_wrong: those among them that are wrong both times.
        items: all items.
    """

    changed: int
    changed_same_score: int
    wrong_to_different_wrong: int
    items: int


def churn(
    baseline_answers: ArrayLike, variant_answers: ArrayLike, baseline_scores: Floats, variant_scores: Floats
) -> Churn:
    """Count changed answers.

    Args:
        baseline_answers: the answers themselves (text or choice), shape (n,).
        variant_answers: the same for the variant.
        baseline_scores: 1 where right, shape (n,).
        variant_scores: the same for the variant.

    Raises:
        EvidenceError: if there are no items or the shapes differ.
    """
    first, second = _paired(np.asarray(baseline_answers), np.asarray(variant_answers))
    before, after = _paired(baseline_scores, variant_scores)
    _paired(first, before)
    changed = first != second
    same = changed & (before == after)
    wrong = same & (before == 0.0)
    return Churn(int(changed.sum()), int(same.sum()), int(wrong.sum()), first.size)


def _paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if first.shape != second.shape or first.ndim != 1:
        raise EvidenceError(
            f"Pairs need one value per item and side, but the shapes are {first.shape} and {second.shape}."
        )
    if first.size == 0:
        raise EvidenceError("There are no items to pair: without data there is no verdict.")
    return first, second


def _runs(right: ArrayLike) -> Bools:
    answers = np.asarray(right, dtype=bool)
    if answers.ndim != 2 or answers.size == 0:
        raise EvidenceError(f"Answers over runs must have the shape (items, runs), but have {answers.shape}.")
    return answers


@dataclass(frozen=True)
class Estimate:
    """A number with its two-sided interval.

    Attributes:
        value: the estimate.
        low: lower limit.
        high: upper limit.
    """

    value: float
    low: float
    high: float


def item_flip_rates(right: ArrayLike) -> Floats:
    """Chance, per item, that two of its runs disagree: 2k(R − k)/(R(R − 1)) for k successes in R runs.

    Args:
        right: whether the answer is right, shape (n, R) with R ≥ 2.

    Returns:
        Unbiased for 2π(1 − π) whatever R, so that numbers from few and from many runs compare; shape (n,).

    Raises:
        EvidenceError: if there are no items or fewer than two runs.
    """
    answers: Bools = np.asarray(right, dtype=bool)
    if answers.ndim != 2 or answers.shape[0] == 0 or answers.shape[1] < 2:
        raise EvidenceError(
            f"A flip rate of reruns needs items and at least two runs, but the shape is {answers.shape}."
        )
    runs = answers.shape[1]
    successes = answers.sum(axis=1)
    rates: Floats = 2.0 * successes * (runs - successes) / (runs * (runs - 1))
    return rates


def mean_share(values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean of one share per item, with Student's interval over items cut to [0, 1].

    Args:
        values: shape (n,), each in [0, 1].
        alpha: 1 − confidence.
    """
    interval = ClusterEvidence(values, np.ones_like(values)).interval(alpha)
    return Estimate(float(values.mean()), max(interval.low, 0.0), min(interval.high, 1.0))


def rerun_churn(answers: NDArray[np.generic], right: Bools) -> Churn:
    """Changed answers over all pairs of runs of one model.

    Args:
        answers: the answers, or a number for each distinct one, shape (n, R) with R ≥ 2.
        right: whether they are right, shape (n, R).

    Returns:
        Counts over all pairs of runs; its `items` are items × pairs.
    """
    scores = right.astype(np.float64)
    pairs = combinations(range(scores.shape[1]), 2)
    return total_churn([churn(answers[:, i], answers[:, j], scores[:, i], scores[:, j]) for i, j in pairs])


def total_churn(parts: list[Churn]) -> Churn:
    """Counts of several comparisons added up."""
    return Churn(
        changed=sum(part.changed for part in parts),
        changed_same_score=sum(part.changed_same_score for part in parts),
        wrong_to_different_wrong=sum(part.wrong_to_different_wrong for part in parts),
        items=sum(part.items for part in parts),
    )


@dataclass(frozen=True)
class VarianceSplit:
    """Variance of one model's scores by source, each with an interval.

    Attributes:
        item: between items.
        temperature: between temperatures of one item; zero where there is only one.
        seed: between seeds of one item at one temperature.
    """

    item: Estimate
    temperature: Estimate
    seed: Estimate


def variance_split(scores: Floats, alpha: float = 0.05) -> VarianceSplit:
    """`run_variance` with jackknife intervals over items, which are what was drawn at random.

    Args:
        scores: shape (n items, temperatures, seeds), at least three items and two seeds.
        alpha: 1 − confidence.

    Returns:
        Student's intervals of the jackknife's pseudo-values (Tukey 1958), cut at 0.

    Raises:
        EvidenceError: if there are too few items or seeds.
    """
    count = scores.shape[0]
    if count < 3:
        raise EvidenceError("Intervals of variances need at least three items.")
    found = run_variance(scores)
    whole, without = _components(scores)
    pseudo = count * whole - (count - 1) * without
    spread = stdtrit(count - 1, 1.0 - alpha / 2) * pseudo.std(axis=1, ddof=1) / np.sqrt(count)
    low, high = (np.maximum(whole[:, 0] + sign * spread, 0.0).tolist() for sign in (-1, 1))
    temperature = (
        Estimate(found.temperature, low[1], high[1]) if scores.shape[1] > 1 else Estimate(0.0, 0.0, 0.0)
    )
    return VarianceSplit(
        Estimate(found.item, low[0], high[0]), temperature, Estimate(found.seed, low[2], high[2])
    )


def _components(scores: Floats) -> tuple[Floats, Floats]:
    """The three components uncut, shape (3, 1), and again without each item in turn, shape (3, n)."""
    count, temperatures, seeds = scores.shape
    cells = scores.mean(axis=2)
    noise = scores.var(axis=2, ddof=1).mean(axis=1)
    spread = cells.var(axis=1, ddof=1) if temperatures > 1 else noise / seeds
    means = cells.mean(axis=1)
    between = float(means.var(ddof=1))
    fewer = ((count - 1) * between - count / (count - 1) * (means - means.mean()) ** 2) / (count - 2)

    def split(item: Floats, cell: Floats, seed: Floats) -> Floats:
        return np.stack([item - cell / temperatures, cell - seed / seeds, seed])

    whole = split(np.array([between]), spread.mean(keepdims=True), noise.mean(keepdims=True))
    return whole, split(fewer, _leave_one_out(spread), _leave_one_out(noise))


def _leave_one_out(values: Floats) -> Floats:
    means: Floats = (values.sum() - values) / (values.size - 1)
    return means


@dataclass(frozen=True)
class PairedVariance:
    """Variance of one item's difference, split by source (Miller 2024, arXiv 2411.00640).

    Attributes:
        data: ω², variance of the true differences between items.
        baseline_noise: σ²_B, variance of one answer of the baseline to one item.
        variant_noise: σ²_V, the same for the variant.
    """

    data: float
    baseline_noise: float
    variant_noise: float

    def per_item(self, baseline_reruns: int = 1, variant_reruns: int = 1) -> float:
        """ω² + σ²_B/K_B + σ²_V/K_V."""
        return self.data + self.baseline_noise / baseline_reruns + self.variant_noise / variant_reruns

    def standard_error(self, items: int, baseline_reruns: int = 1, variant_reruns: int = 1) -> float:
        """Standard error of the mean difference that this many items and reruns would give."""
        return float(np.sqrt(self.per_item(baseline_reruns, variant_reruns) / items))

    def items_needed(
        self,
        drop: float,
        reruns: tuple[int, int] = (1, 1),
        alpha: float = 0.05,
        power: float = 0.8,
        *,
        two_sided: bool = False,
    ) -> float:
        """Items with which a drop is detected: (z_α + z_β)²·variance/δ², not rounded.

        Args:
            drop: δ > 0.
            reruns: (K_B, K_V).
            alpha: level.
            power: chance of detection.
            two_sided: whether the level is split over both sides.

        Raises:
            ValueError: if the drop is not positive.
        """
        if drop <= 0.0:
            raise ValueError(f"A drop of {drop} cannot be detected: it must be positive.")
        level = alpha / 2 if two_sided else alpha
        return float((ndtri(level) + ndtri(1 - power)) ** 2 * self.per_item(*reruns) / drop**2)


def paired_variance(baseline: Floats, variant: Floats) -> PairedVariance:
    """Estimate the sources of variance from reruns of both models.

    Args:
        baseline: shape (n, K_B) with K_B ≥ 2.
        variant: shape (n, K_V) with K_V ≥ 2, items in the same order.

    Returns:
        Unbiased estimates by moments; ω² is cut at 0.

    Raises:
        EvidenceError: if there are fewer than two items or reruns, or the items differ in number.
    """
    if baseline.shape[0] != variant.shape[0] or baseline.shape[0] < 2:
        raise EvidenceError("Splitting the variance needs at least two items, the same for both models.")
    if min(baseline.shape[1], variant.shape[1]) < 2:
        raise EvidenceError("Splitting the variance needs at least two reruns of both models.")
    noise = (_mean_variance(baseline), _mean_variance(variant))
    means = baseline.mean(axis=1) - variant.mean(axis=1)
    data = float(means.var(ddof=1)) - noise[0] / baseline.shape[1] - noise[1] / variant.shape[1]
    return PairedVariance(max(data, 0.0), *noise)


@dataclass(frozen=True)
class RunVariance:
    """Variance of one score of one model, split by source; the three add up to it.

    Attributes:
        item: between items.
        temperature: between temperatures of one item.
        seed: between seeds of one item at one temperature.
    """

    item: float
    temperature: float
    seed: float


def run_variance(scores: Floats) -> RunVariance:
    """Split the variance of one model's scores over items, temperatures and seeds (nested, by moments).

    Args:
        scores: shape (n items, temperatures, seeds), at least two items and two seeds.

    Returns:
        Unbiased estimates, cut at 0; with one temperature its share is 0.

    Raises:
        EvidenceError: if there are too few items or seeds.
    """
    items, temperatures, seeds = scores.shape
    if items < 2 or seeds < 2:
        raise EvidenceError("Splitting the variance needs at least two items and two seeds.")
    seed = float(scores.var(axis=2, ddof=1).mean())
    cells = scores.mean(axis=2)
    spread = float(cells.var(axis=1, ddof=1).mean()) if temperatures > 1 else seed / seeds
    temperature = max(spread - seed / seeds, 0.0)
    item = float(cells.mean(axis=1).var(ddof=1)) - spread / temperatures
    return RunVariance(max(item, 0.0), temperature, seed)


def _mean_variance(scores: Floats) -> float:
    return float(scores.var(axis=1, ddof=1).mean())
