"""Watching a model over dates: an alarm that stays valid however long one watches.

A process that starts at date j follows the flips from then on, an e-process: under the null hypothesis it
ever reaches 1/a with a probability of at most a (Ville's inequality). In each process an item counts once,
when it is first asked, so that its sign is a fair coin under the null whether answers are noise, the same
every day, or compared with one old answer of the reference. It is one only if the two sides are exchangeable,
so both need as many runs of the item (`matched_runs`). A process starts at every date, at level a·w_j
with w_j = 1/(j(j + 1)); levels add up to a, so that some alarm is ever raised with a probability of at most
a. Series share the level of every date: one of a date on which m of them have begun has w_j/m. A series
that comes later takes nothing from processes that run.

The same processes watch any number of an answer for a change in either direction: the e-value is then that of
the whole mixture, the mean of those of the two directions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaln, xlogy

from stats.arrays import ROUNDING, EvidenceError, Floats, Ints

DateFlips: TypeAlias = tuple[NDArray[np.generic], Ints]
"""What was asked on one date, shape (n,) each: items, or clusters of dependent items, each once and with the
same label on any date; and their signs, 1 where the model did worse than its reference, −1 better, else 0."""

CONCENTRATION = 50.0  # parameter a of the Beta(a, a) mixture; 50 suits shares of flips to wrong near .5 to .6

EITHER = 5.0  # the same where both directions count: where answers grow, nearly all of them are longer

SERIES_TERMS = 400


@dataclass(frozen=True)
class Watched:
    """The evidence that the model does worse than the reference (or otherwise), after each of T dates."""

    log_evidence: Floats  # over the processes so far, the largest ln E + ln w_j, shape (T,)
    starts: Ints  # the date at which that process started, shape (T,)
    # flips that count in it, shape (T,) each
    worse: Ints
    better: Ints
    threshold: float  # ln(1/α); an alarm is raised once the evidence reaches it
    alarm: int | None  # the date of the alarm, None if there is none

    @property
    def since(self) -> int | None:
        """The date from which on the evidence behind the alarm counts."""
        return None if self.alarm is None else int(self.starts[self.alarm])


def matched_runs(
    runs: tuple[Floats, Floats], seeds: tuple[Sequence[int], Sequence[int]], draw: int
) -> tuple[Floats, Floats]:
    """Single scores of two models, of every item as many of the one as of the other.

    A mean over ten runs is 0 or 1 less often than one run is, so the sign of a difference of means over
    unequal numbers is no fair coin under the null. Of the model with more runs of an item, those under seeds
    that the other one has, too, are kept first, then others at random; scores play no part.

    Args:
        runs: shapes (n, K_B) and (n, K_V); NaN where a run is missing.
        seeds: of the columns; negative where none is known.
        draw: seed of the random choice.

    Returns:
        The same, NaN where a run does not count; all runs of an item count where their numbers are equal.
    """
    first, second = (~np.isnan(scores) for scores in runs)
    fewest = np.minimum(first.sum(axis=1), second.sum(axis=1))[:, None]
    same = np.equal.outer(*seeds) & (np.array(seeds[1]) >= 0)
    rng, kept = np.random.default_rng(draw), list[Floats]()
    for scores, present, shared in zip(runs, (first, second), (second @ same.T, first @ same), strict=True):
        order = rng.random(scores.shape) + ~shared + 2 * ~present
        kept.append(np.where(order.argsort(axis=1).argsort(axis=1) < fewest, scores, np.nan))
    return kept[0], kept[1]


def process_weights(series: Sequence[Iterable[int]], dates: int) -> list[Floats]:
    """The share of the level that the processes of several series have.

    Args:
        series: of each one the numbers of its dates in the history, from 0 on, in order.
        dates: how many dates the history has.

    Returns:
        For each series the weights of the processes that start on its dates; over all series they add up to
        at most 1.
    """
    asked = [np.array(list(own), dtype=np.int64) for own in series]
    begun = np.zeros(dates, dtype=np.int64)
    for own in asked:
        begun[own[0] :] += 1
    return [1.0 / ((own + 1.0) * (own + 2.0) * begun[own]) for own in asked]


def watch(
    dates: Sequence[DateFlips],
    alpha: float = 0.05,
    weights: Floats | None = None,
    *,
    either: bool = False,
) -> Watched:
    """Follow a model over dates, one look after each.

    Args:
        dates: in order, at least one.
        alpha: probability of ever raising an alarm if the model never does worse than the reference.
        weights: share of the level for the process that starts on each date, shape (T,); by default those of
            a single series that has all dates.
        either: whether better counts like worse, for what is neither.

    Raises EvidenceError if there is no date, or one lists a unit twice or not one sign for each.
    """
    if not dates:
        raise EvidenceError("There is no date to look at.")
    counts = np.zeros((len(dates), 2), dtype=np.int64)
    last_asked: dict[object, int] = {}
    log_weights = np.log(process_weights([range(len(dates))], len(dates))[0] if weights is None else weights)
    evidence, strongest = np.zeros(len(dates)), np.zeros((len(dates), 3), dtype=np.int64)
    for now, (units, signs) in enumerate(dates):
        if units.shape != signs.shape or np.unique(units).size != units.size:
            raise EvidenceError("A date needs one sign for every unit, and every unit once.")
        firsts = np.zeros((now + 2, 2), dtype=np.int64)  # flips by the first process in which they count
        for unit, sign in zip(units.tolist(), signs.tolist(), strict=True):
            start = last_asked.get(unit, -1) + 1
            last_asked[unit] = now
            if sign:
                firsts[start, int(sign < 0)] += 1
        counts[: now + 1] += np.cumsum(firsts[: now + 1], axis=0)
        worse, better = counts[: now + 1].T
        best, evidence[now] = _strongest(worse, better, log_weights[: now + 1], either)
        strongest[now] = best, worse[best], better[best]
    threshold = float(-np.log(alpha))
    reached = np.flatnonzero(evidence >= threshold)
    starts, worse, better = strongest.T
    alarm = int(reached[0]) if reached.size else None
    return Watched(evidence, starts, worse, better, threshold, alarm)


def _strongest(worse: Ints, better: Ints, log_weights: Floats, either: bool) -> tuple[int, float]:
    """The process with the largest ln E + ln w, and that value.

    No mixture exceeds the largest likelihood ratio, so only processes whose ratio could win are worked out.
    """
    flips = np.maximum(worse + better, 1)
    ratio = flips * np.log(2.0) + xlogy(worse, worse / flips) + xlogy(better, better / flips)
    bounds = np.where((worse > better) | either, ratio, 0.0) + log_weights
    value = partial(log_e_value, concentration=EITHER if either else CONCENTRATION, either=either)
    first = int(np.argmax(bounds))
    least = float(value(worse[first], better[first])) + log_weights[first]
    chosen = np.flatnonzero(bounds >= least - ROUNDING)
    logs = value(worse[chosen], better[chosen]) + log_weights[chosen]
    best = int(np.argmax(logs))
    return int(chosen[best]), float(logs[best])


def log_e_value(
    worse: ArrayLike, better: ArrayLike, concentration: float = CONCENTRATION, *, either: bool = False
) -> Floats:
    """Ln E = m ln 2 + ln B(b + a, c + a) − ln B(a, a) + ln 2 + ln P[Beta(b + a, c + a) > ½].

    The likelihood ratio of b flips to wrong and c to right, any shape each, under a share q ~ Beta(a, a) cut
    to (½, 1], against q = ½; a is the concentration. With `either` q is not cut, and the last two terms are
    left out.
    """
    first = np.asarray(worse, dtype=np.float64) + concentration
    second = np.asarray(better, dtype=np.float64) + concentration
    flips = first + second - 2.0 * concentration
    prior = betaln(concentration, concentration)
    if either:
        return flips * np.log(2.0) + betaln(first, second) - prior
    chance = np.asarray(betainc(second, first, 0.5))
    with np.errstate(divide="ignore"):
        upper: Floats = np.log(chance)
    if (tiny := chance <= 1e-200).any():  # a series of positive terms where the probability underflows
        upper = np.where(tiny, _log_lower_half(second, first), upper)
    return (flips + 1.0) * np.log(2.0) + betaln(first, second) - prior + upper


def _log_lower_half(first: Floats, second: Floats) -> Floats:
    """Ln P[Beta(first, second) < ½] for first ≫ second: 2^−(A+B)/(A·B(A, B))·₂F₁(A + B, 1; A + 1; ½)."""
    total, term = np.ones_like(first), np.ones_like(first)
    for step in range(SERIES_TERMS):
        term = np.where(first > second, term * 0.5 * (first + second + step) / (first + 1.0 + step), 0.0)
        total = total + term
    lead = -(first + second) * np.log(2.0) - np.log(first) - betaln(first, second)
    return lead + np.log(total)
