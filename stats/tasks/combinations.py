"""The tests over tasks, in order: names, options, fields and columns all come from this one list.

A test is either a statistic, put together from what each task contributes, or made of the p-values of the
first three statistics. `stats.tasks.combine` computes the p-values of a variant, also under signs that
variants or tasks share, `stats.sequential.looks` those at looks; neither knows a statistic by name unless it
needs its exact distribution.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from stats.arrays import Floats, Ints

Combine: TypeAlias = Literal["pooled", "max-drop", "fisher", "joint", "any"]
"""The tests over all tasks: all items together; the largest standardised drop of a task; Fisher's sum; the
smallest of these three p-values, calibrated, or as it is (its level is up to three times α)."""

Rows: TypeAlias = Floats | Ints
"""A number in every row, shape (rows,): whole where it counts steps of a lattice."""


@dataclass(frozen=True)
class Statistic:
    """A number over all tasks that is large where the variant is worse."""

    # what a task contributes in each of some rows, shape (rows,), from its sums S in them, their standard
    # deviation, and a function that gives ln P(S ≥ ·) of every row
    term: Callable[[Rows, float, Callable[[], Floats]], Rows]
    join: np.ufunc  # how contributions come together: np.add or np.maximum
    start: float  # what is joined to the first one

    def add(self, values: Floats, sums: Floats, scale: float, log_tails: Callable[[], Floats]) -> None:
        """Join what a task contributes to the values of all rows, in place."""
        self.join(values, self.term(sums, scale, log_tails), out=values)


@dataclass(frozen=True)
class Combination:
    """A test over tasks."""

    name: Combine  # what `--combine` calls it
    title: str  # what people call it in the head of a table
    statistic: Statistic | None = None  # None where it is made of the p-values of other tests
    # whether it rejects no more often than α says; verdicts.json has only those that do
    keeps_level: bool = True

    @property
    def field(self) -> str:
        """Its field of a comparison, and its column in tables."""
        return f"p_{self.name.replace('-', '_')}"


COMBINATIONS = (
    Combination("pooled", "pooled", Statistic(lambda sums, _scale, _logs: sums, np.add, 0.0)),
    Combination(
        "max-drop", "max drop", Statistic(lambda sums, scale, _logs: sums / scale, np.maximum, -np.inf)
    ),
    Combination("fisher", "Fisher", Statistic(lambda _sums, _scale, logs: -logs(), np.add, 0.0)),
    Combination("joint", "joint"),
    Combination("any", "any", keeps_level=False),
)
"""All of them, statistics before what is made of their p-values."""

BY_NAME = {combination.name: combination for combination in COMBINATIONS}
STATISTICS = {c.name: c.statistic for c in COMBINATIONS if c.statistic is not None}
SMALLEST_OF: tuple[Combine, ...] = ("pooled", "max-drop", "fisher")
"""The tests whose smallest p-value "joint" calibrates and "any" takes as it is."""


def default_first(default: Combine) -> list[Combination]:
    """The order for people: the test that decides unless another is chosen, then the rest."""
    return sorted(COMBINATIONS, key=lambda combination: combination.name != default)


def parts_of(combine: Combine) -> tuple[Combine, ...]:
    """The statistics that a test is made of: itself, or those of which the smallest p-value counts."""
    return (combine,) if combine in STATISTICS else SMALLEST_OF


def smallest(p_values: Mapping[Combine, float]) -> float:
    """The smallest p-value of the tests that "joint" and "any" are made of."""
    return min(p_values[name] for name in SMALLEST_OF)
