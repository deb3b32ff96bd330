"""The joint decision: the smallest of three p-values, calibrated under the null of all three at once.

One sum per task is drawn from its exact law and the three tests are recomputed for every draw (Westfall &
Young 1993). Counting draws cannot resolve a p-value of 1e-15, so where the union bound (at most three times
the smallest) is already below what the draws resolve, that bound is reported: valid, at most a factor of
three too large, and free of simulation.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from stats.arrays import Bools, Floats
from stats.combinations import SMALLEST_OF, STATISTICS, Combine, smallest
from stats.nulls import NullTable, max_drop_p
from stats.task_laws import TaskLaws

RESOLUTION = 20
"""Joint p-values worth fewer draws than this are bounded instead of counted."""


def joint_p_value(laws: TaskLaws, p_values: Mapping[Combine, float], draws: int, seed: int) -> float:
    """P(the smallest of the p-values of pooled, max-drop and Fisher is as small as found).

    Args:
        laws: of the tasks.
        p_values: of the three statistics.
        draws: how many draws.
        seed: of numpy's default generator.

    Returns:
        (r + 1)/(B + 1), at least the smallest of the three; or the union bound where that is tiny.
    """
    least = smallest(p_values)
    bound = len(SMALLEST_OF) * least
    if bound * (draws + 1) <= RESOLUTION:
        return bound
    tails: dict[Combine, tuple[float, Callable[[float], float]]] = {
        "pooled": (laws.pooled.observed, lambda value: float(np.exp(laws.pooled.log_tail(value)))),
        "max-drop": (laws.largest_drop, lambda value: max_drop_p(laws.tables, value)),
        "fisher": (laws.fisher_sum, laws.fisher.tail_in_body),
    }
    drawn = _draw(laws.tables, draws, seed)
    hits = np.zeros(draws, dtype=bool)
    for name, (found, tail) in tails.items():
        hits |= _as_small(drawn[name], tail, least, found if p_values[name] == least else None)
    return max((int(hits.sum()) + 1) / (draws + 1), least)


def _draw(tables: Sequence[NullTable], draws: int, seed: int) -> dict[Combine, Floats]:
    """Draw the three statistics, shape (draws,) each."""
    rng = np.random.default_rng(seed)
    drawn = {name: np.full(draws, STATISTICS[name].start) for name in SMALLEST_OF}
    for table in tables:
        places = table.draw(rng, draws)
        log_tails = partial(table.log_tails, places)
        for name, values in drawn.items():
            STATISTICS[name].add(values, table.support[places], table.scale, log_tails)
    return drawn


def _as_small(drawn: Floats, tail: Callable[[float], float], least: float, found: float | None) -> Bools:
    """Which draws have a p-value of at most `least`; `tail` falls as the statistic rises."""
    limit = found if found is not None else _critical(np.sort(drawn), tail, least)
    hits: Bools = (
        drawn >= limit - 1e-9 * max(1.0, abs(limit)) if np.isfinite(limit) else np.zeros(drawn.shape, bool)
    )
    return hits


def _critical(ordered: Floats, tail: Callable[[float], float], least: float) -> float:
    """The smallest drawn value whose p-value is at most `least`, by bisection; infinite if none."""
    low, high = 0, ordered.size
    while low < high:
        middle = (low + high) // 2
        if tail(float(ordered[middle])) <= least * (1.0 + 1e-9):
            high = middle
        else:
            low = middle + 1
    return float(ordered[low]) if low < ordered.size else np.inf
