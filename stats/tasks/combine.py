"""Many tasks, one decision.

Damage is sometimes spread over all tasks and sometimes sits in one. The pooled test sees the first, the
largest standardised drop the second, Fisher's combination what lies between. The smallest of the three is
calibrated under the null of all three at once: one sum per task is drawn from its exact distribution and
the three tests are recomputed for every draw (Westfall & Young 1993). Where the union bound (at most three
times the smallest) is already below what the draws resolve, that bound is reported: valid, at most a factor
of three too large, and free of simulation.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
from scipy.fft import irfft, rfft
from scipy.optimize import brentq
from scipy.special import gammaincc, gammainccinv

from stats.arrays import SMALLEST_P, Floats
from stats.distributions import nulls
from stats.distributions.lattice import to_lattice
from stats.distributions.nulls import DRAWS, TIE_TOLERANCE, NullTable
from stats.distributions.splits import RunSplits, join_splits
from stats.distributions.sums import TiltedAtoms
from stats.scores import TaskScores, balanced
from stats.sharing import Columns, Sharing, links_tasks, merged_blocks
from stats.signflip import Method, SignFlipTest
from stats.tasks.combinations import COMBINATIONS, SMALLEST_OF, STATISTICS, Combine, parts_of, smallest

MAX_HALF = 1 << 16
GRID = 1 << 14

Term: TypeAlias = tuple[Floats, Floats]
"""One summand −ln p: its values and their log-probabilities, shape (k,) each."""

EXACT_IN_SINGLE = 1 << 24  # whole numbers up to this are exact in single precision

MAX_CELLS = 1 << 23
"""Sign vectors × variants beyond which signs are drawn: three arrays of this size are kept."""

ROW_FLOOR = 1e-30
"""Sums less likely than this count as no less likely: only the observed one can be, for Holm to judge."""

SHARED_STREAM = 1 << 20  # in place of a task's number in the seed of signs that tasks share
RESOLUTION = 20  # p-values worth fewer rows or draws than this are bounded instead of counted


@dataclass(frozen=True)
class Combined:
    """The p-values of one variant over all its tasks."""

    pooled: SignFlipTest  # sign-flip test on all items together
    p: Mapping[Combine, float]  # of every combination, by name
    p_fisher_chi2: float  # of Fisher's sum under χ² with 2T degrees of freedom, conservative
    method: Method  # "monte-carlo" where a distribution had to be simulated


def combine_scores(tasks: Sequence[TaskScores], draws: int = DRAWS, seed: int = 0) -> Combined:
    """Test all tasks of one variant together.

    Items with unequal numbers of runs can be random in two ways: the two models are exchangeable (signs
    flip), or the runs are (they are split at random). The first is off where a mean over few runs meets one
    over many, the second where a variant differs on single items in both directions without being worse.
    Where clusters are of unequal size, signs flip for the sums and for the sums over size^0.6: a few large
    clusters that did worse say too little if one cluster in ten does much better. Of each p-value the largest
    counts. The same seed gives the same p-values.
    """
    nulls = [_combined(tasks, draws, seed, split=False)]
    if any(task.splits is not None for task in tasks):
        nulls.append(_combined(tasks, draws, seed, split=True))
    if (even := balanced(tasks)) is not None:
        nulls.append(_combined(even, draws, seed, split=False))
    if len(nulls) == 1:
        return nulls[0]
    pooled = max((null.pooled for null in nulls), key=lambda test: test.log_p)
    p = {name: max(null.p[name] for null in nulls) for name in nulls[0].p} | {"pooled": pooled.p}
    p["any"] = smallest(p)
    p["joint"] = max(p["joint"], p["any"])
    exact = all(null.method == "exact" for null in nulls)
    chi_square = max(null.p_fisher_chi2 for null in nulls)
    return Combined(pooled, p, chi_square, "exact" if exact else "monte-carlo")


def _combined(tasks: Sequence[TaskScores], draws: int, seed: int, *, split: bool) -> Combined:
    """The combination under one null; where tasks share blocks, under common signs."""
    splits = [task.splits if split else None for task in tasks]
    if not links_tasks(tasks):
        sums = [task.even_sums if split else task.block_sums for task in tasks]
        return combine_tasks(sums, draws, seed, splits)
    pooled = SignFlipTest(merged_blocks(tasks, split=split)[0], draws, seed, join_splits(splits))
    rows = StatisticRows([[task] for task in tasks], draws, seed, split=split)
    p = {name: float(rows.p_values(name)[0, 0]) for name in STATISTICS} | {"pooled": pooled.p}
    least = smallest(p)
    bound = len(SMALLEST_OF) * least
    resolved = rows.exact or bound * rows.rows > RESOLUTION
    p |= {"joint": max(float(rows.p_values("joint")[0, 0]), least) if resolved else bound, "any": least}
    return Combined(pooled, p, p["fisher"], pooled.method if rows.exact else "monte-carlo")


def combine_tasks(
    sums: Sequence[Floats],
    draws: int = DRAWS,
    seed: int = 0,
    splits: Sequence[RunSplits | None] | None = None,
) -> Combined:
    """Test all tasks of one variant together, tasks that share nothing, under one null.

    Where at most one task differs, all p-values are the pooled one.

    Args:
        sums: per task the differences (baseline − variant) of its items or clusters, shape (G_t,) each.
        draws: of the joint null, and of distributions that have to be simulated.
        seed: of those draws; the same input gives the same p-values.
        splits: per task its items whose runs are split; None where signs are all that is random.
    """
    split = list(splits or [None] * len(sums))
    pooled = SignFlipTest(np.concatenate(list(sums)), draws, seed, join_splits(split))
    moving = [
        task for task, part in enumerate(split) if sums[task].any() or (part is not None and part.variance)
    ]
    if len(moving) <= 1:
        alike = {combination.name: pooled.p for combination in COMBINATIONS}
        return Combined(pooled, alike, chi_square_p(-pooled.log_p, len(sums)), pooled.method)
    tables = [NullTable(sums[task], draws, [seed, task], splits=split[task]) for task in moving]
    fisher = FisherSum([term_of(table.tails, table.chances) for table in tables])
    fisher_sum = -float(np.log([table.p for table in tables]).sum())
    drop, drop_tail = max(table.observed / table.scale for table in tables), partial(_max_drop_tail, tables)
    p: dict[Combine, float] = {
        "pooled": pooled.p,
        "max-drop": drop_tail(drop),
        "fisher": fisher.tail(fisher_sum),
    }
    found: dict[Combine, tuple[float, Callable[[float], float]]] = {
        "pooled": (pooled.statistic, lambda value: float(np.exp(pooled.log_tail(value)))),
        "max-drop": (drop, drop_tail),
        "fisher": (fisher_sum, fisher.tail_in_body),
    }
    p |= {"joint": _joint_p_value(tables, found, p, draws, seed), "any": smallest(p)}
    exact = pooled.method == "exact" and all(table.exact for table in tables)
    return Combined(pooled, p, chi_square_p(fisher_sum, len(sums)), "exact" if exact else "monte-carlo")


def _max_drop_tail(tables: Sequence[NullTable], largest: float) -> float:
    """P(max_t Z_t ≥ largest) = 1 − Π_t P(Z_t < largest), with Z_t = S_t/√Σd²."""
    with np.errstate(divide="ignore"):
        below = [np.log1p(-min(1.0, table.tail(largest * table.scale))) for table in tables]
    return max(float(-np.expm1(sum(map(float, below)))), SMALLEST_P)


def _joint_p_value(
    tables: Sequence[NullTable],
    found: Mapping[Combine, tuple[float, Callable[[float], float]]],
    p_values: Mapping[Combine, float],
    draws: int,
    seed: int,
) -> float:
    """P(the smallest of the p-values of pooled, max-drop and Fisher is as small as found).

    (r + 1)/(B + 1), at least the smallest of the three; or the union bound where that is tiny. Of each test
    there is the statistic found, and the p-value of any other.
    """
    least = smallest(p_values)
    bound = len(SMALLEST_OF) * least
    if bound * (draws + 1) <= RESOLUTION:
        return bound
    rng = np.random.default_rng(seed)
    drawn = {name: np.full(draws, STATISTICS[name].start) for name in SMALLEST_OF}
    for table in tables:
        places = table.draw(rng, draws)
        log_tails = partial(table.log_tails, places)
        for name, values in drawn.items():
            STATISTICS[name].add(values, table.support[places], table.scale, log_tails)
    hits = np.zeros(draws, dtype=bool)
    for name, (observed, tail) in found.items():
        limit = observed if p_values[name] == least else _critical(drawn[name], tail, least)
        if np.isfinite(limit):
            hits |= drawn[name] >= limit - 1e-9 * max(1.0, abs(limit))
    return max((int(hits.sum()) + 1) / (draws + 1), least)


def _critical(drawn: Floats, tail: Callable[[float], float], least: float) -> float:
    """The smallest drawn value whose p-value is at most `least`; infinite if none."""
    ordered, enough = np.sort(drawn), least * (1.0 + 1e-9)
    first = bisect_left(ordered, True, key=lambda value: tail(float(value)) <= enough)
    return float(ordered[first]) if first < ordered.size else np.inf


def term_of(tails: Floats, chances: Floats) -> Term:
    """The summand of a task from the tails P(S ≥ s) and probabilities P(S = s) over its support."""
    kept = chances > 0.0
    return -np.log(np.maximum(tails[kept], SMALLEST_P)), np.log(chances[kept])


def chi_square_p(total: float, tasks: int) -> float:
    """P(χ²_{2T} ≥ 2·total) of T tasks with total Σ −ln p_t: conservative for discrete tests."""
    return max(float(gammaincc(tasks, total)), SMALLEST_P) if tasks else 1.0


class FisherSum:
    """Null distribution of Σ −ln p_t over independent tasks, for Fisher's combination.

    X = −2Σ ln p_t is χ² with 2T degrees of freedom only for continuous p-values, and conservative for
    discrete ones. Each term is discrete with known atoms, so the distribution of the sum can be computed: by
    enumeration of two halves where they are small, else on a grid, tilted to the observed value so that small
    tails keep their digits.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = [term for term in terms if term[0].size > 1]
        self._halves = _halves(self.terms)

    def tail(self, total: float) -> float:
        """P(Σ ≥ total), ties counted, at least 1e-300.

        Exact where the support could be enumerated; on the grid the relative error is below 1e-3.
        """
        if not self.terms:
            return 1.0
        total -= TIE_TOLERANCE * max(total, 1.0)
        if self._halves is None:
            return max(self._tilted_tail(total), SMALLEST_P)
        (left, left_logs), (right, right_logs) = self._halves
        tails = np.append(np.cumsum(np.exp(right_logs)[::-1])[::-1], 0.0)
        places = np.searchsorted(right, total - left)
        return max(min(1.0, float(np.exp(left_logs) @ tails[places])), SMALLEST_P)

    def tail_in_body(self, total: float) -> float:
        """The same with an absolute error of about 1e-4 of itself down to 1e-10, for many quick look-ups."""
        if self._halves is not None or not self.terms:
            return self.tail(total)
        step, tails = self._body
        return float(np.interp(total / step + 0.5, np.arange(tails.size), tails))

    @cached_property
    def _body(self) -> tuple[float, Floats]:
        """Grid step and P(Σ ≥ (i − ½) steps); the sum is stochastically at most Gamma(T)."""
        step = float(gammainccinv(len(self.terms), 1e-17)) / (GRID - 1)
        chances = _gridded([(values, np.exp(logs)) for values, logs in self.terms], step)
        return step, np.cumsum(chances[::-1])[::-1]

    def _tilted_tail(self, total: float) -> float:
        """P(Σ ≥ total) by a grid around `total` under the exponential tilt that makes `total` the mean."""
        atoms, tilt = TiltedAtoms(self.terms), 0.0

        def excess(tilt: float) -> float:
            return float(atoms.means(atoms.at(tilt)[0]).sum()) - total

        if excess(0.0) < 0.0:
            tilt = 1.0
            while excess(tilt) < 0.0 and tilt <= 64.0:
                tilt *= 2.0
            if excess(tilt) >= 0.0:
                tilt = float(brentq(excess, 0.0, tilt, xtol=1e-6))
        chances, log_moments = atoms.at(tilt)
        means = atoms.means(chances)
        squares = float((chances * atoms.values * atoms.values).sum())
        mean, variance = float(means.sum()), max(squares - float((means * means).sum()), 0.0)
        half = 10.0 * np.sqrt(variance) + 45.0 * max(mean, 1.0) / len(self.terms) + abs(total - mean)
        step = 2.0 * half / GRID
        pieces = np.split(chances, atoms.starts[1:])
        grid = _gridded([(term[0], piece) for term, piece in zip(self.terms, pieces, strict=True)], step)
        start = total / step
        cells = int(np.ceil(start)) + np.arange(GRID // 2)
        weights = np.exp(-tilt * (cells * step - total))
        weights[0] *= 0.5 + (cells[0] - start)
        above = float(grid[cells % GRID] @ weights)
        return min(1.0, float(np.exp(float(log_moments.sum()) - tilt * total)) * above)


def _halves(terms: list[Term]) -> tuple[Term, Term] | None:
    """Enumerate the sums of two groups of terms, or None where one group has too many."""
    left = right = (np.zeros(1), np.zeros(1))
    for values, logs in sorted(terms, key=lambda term: -term[0].size):
        left, right = sorted((left, right), key=lambda term: term[0].size)
        if left[0].size * values.size > 4 * MAX_HALF:
            return None
        sums = np.add.outer(left[0], values).ravel()
        order = np.argsort(sums, kind="stable")
        sums, sum_logs = sums[order], np.add.outer(left[1], logs).ravel()[order]
        firsts = np.flatnonzero(np.append(True, np.diff(sums) > 1e-12 * np.maximum(sums[1:], 1.0)))
        left = sums[firsts], np.logaddexp.reduceat(sum_logs, firsts)  # equal sums merged
        if firsts.size > MAX_HALF:
            return None
    return left, right


def _gridded(terms: Sequence[Term], step: float) -> Floats:
    """Cyclic distribution of the sum from values and chances; an atom between two cells keeps its mean."""
    transform = np.ones(GRID // 2 + 1, dtype=np.complex128)
    for values, chances in terms:
        place = values / step
        cell = np.floor(place).astype(np.int64)
        part = place - cell
        shared = np.bincount(cell % GRID, chances * (1.0 - part), GRID)
        shared += np.bincount((cell + 1) % GRID, chances * part, GRID)
        transform *= rfft(shared)
    return irfft(transform, GRID)


class StatisticRows:
    """All statistics of every variant, in row 0 as observed and in the others under common signs.

    Where blocks of items are shared, by several variants or by several tasks, the statistics are not
    independent, and their joint distribution is obtained by recomputing all of them for the same signs. With
    few blocks all sign vectors are enumerated; otherwise signs are drawn, the observed scores being row 0, so
    that the shares of rows are valid p-values for any number of rows. Splits of runs are drawn for each
    variant on its own.

    Args:
        tasks: those of `stats.sharing`.
        sign_vectors: how many are drawn where there are too many to enumerate them.
        seed: of numpy's default generator.
        split: whether items with unequal numbers of runs are split rather than flipped.

    Attributes:
        rows: how many there are.
        exact: whether they are all the sign vectors there are.
    """

    def __init__(
        self, tasks: Sequence[Columns], sign_vectors: int, seed: int, *, split: bool = False
    ) -> None:
        sharing = Sharing(tasks, split=split)
        few = None if split else _few_blocks(sharing, len(tasks))
        self.exact = few is not None
        self.rows = sign_vectors + 1 if few is None else 1 << (sum(map(len, few)) + sharing.count)
        shape = (sharing.variants, self.rows)
        self._values = {name: np.full(shape, statistic.start) for name, statistic in STATISTICS.items()}
        used = 0
        for number, columns in enumerate(tasks):
            private, shared = sharing.blocks(number)
            if few is None:
                sums = _drawn_sums(_moving(private), self.rows, [seed, number])
                if sharing.count:
                    sums += _drawn_sums(shared, self.rows, [seed, SHARED_STREAM], may_round=False)
            else:
                sums = _enumerated_sums(few[number], self.rows, used)
                used += len(few[number])
                if sharing.count:
                    sums += _enumerated_sums(shared, self.rows, sum(map(len, few)))
            for variant, column in enumerate(columns):
                if column is not None:
                    own = np.concatenate([private[:, variant], shared[:, variant]])
                    if not sharing.count:
                        own = column.even_sums if split else column.block_sums
                    splits = column.splits if split else None
                    self._add(variant, own, splits, sums[:, variant], [seed, number, variant])

    def _add(
        self, variant: int, blocks: Floats, splits: RunSplits | None, sums: Floats, seed: list[int]
    ) -> None:
        """Count in what one variant has on one task, whose sums are without the splits so far."""
        if splits is None and not blocks.any():
            return
        table = NullTable(blocks, self.rows, seed, ROW_FLOOR, splits)
        if table.scale == 0.0:
            return
        if splits is not None:  # as observed in row 0, then drawn; from their table where there is one
            stream, known = [*seed, nulls.SPLIT_STREAM], splits.components is not None
            of_splits = NullTable(np.zeros(0), 0, stream, ROW_FLOOR, splits) if known else None
            if of_splits is not None and of_splits.exact:
                places = of_splits.draw(np.random.default_rng(stream), self.rows - 1)
                drawn = of_splits.support[places]
            else:
                drawn = splits.draw(self.rows - 1, stream)
            sums = sums + np.append(splits.observed, drawn)
        log_tails = partial(table.log_tails, np.searchsorted(table.support, sums - table.tolerance))
        for name, values in self._values.items():
            STATISTICS[name].add(values[variant], sums, table.scale, log_tails)

    def p_values(self, combine: Combine) -> Floats:
        """The p-value of every row within its variant, shape (V, rows)."""
        p_values = [_row_p_values(self._values[name]) for name in parts_of(combine)]
        return p_values[0] if len(p_values) == 1 else _row_p_values(-np.minimum.reduce(p_values))


def _few_blocks(sharing: Sharing, tasks: int) -> list[Floats] | None:
    """The moving blocks of every task alone, or None where all signs together are too many."""
    blocks: list[Floats] = []
    total = sharing.count
    for number in range(tasks):
        blocks.append(_moving(sharing.blocks(number)[0]))
        total += len(blocks[-1])
        if total > nulls.MAX_ENUMERATED or sharing.variants << total > MAX_CELLS:
            return None
    return blocks


def _moving(blocks: Floats) -> Floats:
    """The blocks that differ for any variant."""
    return blocks[np.any(blocks != 0.0, axis=1)]


def _enumerated_sums(blocks: Floats, rows: int, used: int) -> Floats:
    """Σ signs × blocks, shape (rows, V), where `used` blocks of other tasks take the faster-turning signs."""
    own = 1 << len(blocks)
    return np.tile(np.repeat(nulls.all_signed_sums(blocks), 1 << used, axis=0), (rows // own >> used, 1))


def _drawn_sums(blocks: Floats, rows: int, seed: list[int], *, may_round: bool = True) -> Floats:
    """Σ signs × blocks for common random signs, shape (rows, V); row 0 has every sign as it is.

    On a lattice the products are whole numbers, which single precision adds without error and twice as fast.
    The signs depend on the precision, so that signs which several calls share want `may_round` to be off.
    """
    lattice = to_lattice(blocks.ravel()) if may_round else None
    step, matrix = 1.0, blocks
    if lattice is not None:
        whole = lattice[1].reshape(blocks.shape)
        if np.abs(whole).sum(axis=0).max(initial=0) < EXACT_IN_SINGLE:
            step, matrix = lattice[0], whole.astype(np.float32)
    total = matrix.sum(axis=0, keepdims=True)
    flipped = [flips @ matrix for flips in nulls.flip_slices(matrix.shape[0], rows - 1, seed, matrix.dtype)]
    sums: Floats = np.concatenate([total, *(total - 2.0 * part for part in flipped)]).astype(np.float64)
    return sums * step


def _row_p_values(statistic: Floats) -> Floats:
    """Share of the rows that are at least as large, ties counted, shape (V, rows)."""
    shares = np.empty_like(statistic)
    for variant, values in enumerate(statistic):
        tolerance = TIE_TOLERANCE * float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        below = np.searchsorted(np.sort(values), values - tolerance)
        shares[variant] = (values.size - below) / values.size
    return shares
