"""What repeated answers say: per model, task and temperature, against the baseline, by source of variance.

Rates are over pairs of runs (how likely two runs disagree), not over all runs, so that three seeds and ten
give comparable numbers. Numbers "over all tasks" take the tasks that have equally many runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from jobs.formats.notices import some
from jobs.formats.samples import Temperature
from jobs.reruns.variance_components import Sources, variance_sources
from jobs.reruns.versus_baseline import Against, against_baseline
from jobs.scores.rerun_set import RepeatedAnswers, RerunSet
from stats.flips import Churn, Estimate, Stability, item_flip_rates, mean_share, rerun_churn, stability
from stats.planning import Design


@dataclass(frozen=True)
class CellSummary:
    """One model at one temperature, on one task or on all.

    Attributes:
        variant: its name.
        task: name of the task, None for all.
        temperature: None if unknown.
        runs: R.
        items: items with a score in every run.
        missing: items without.
        accuracy: share of right answers.
        stability: histogram of successes, always right, always wrong, flipping.
        flip_rate: chance that two runs disagree, the A/A noise floor; None with one run.
        hidden_drop: smallest drop that one run each would show above that noise (level .05, power .8).
        churn: changed answers over all pairs of runs; None with one run, or where only scores are known.
    """

    variant: str
    task: str | None
    temperature: Temperature
    runs: int
    items: int
    missing: int
    accuracy: Estimate
    stability: Stability
    flip_rate: Estimate | None
    hidden_drop: float | None
    churn: Churn | None


@dataclass(frozen=True)
class FlipReport:
    """Everything `lldeg flips` says.

    Attributes:
        cells: per variant and temperature: all tasks first, then each.
        against: the same for variants against the baseline; empty without one.
        sources: per variant: all tasks first, then each.
        curves: per variant and temperature, over the tasks that were run at all of its temperatures.
        warnings: what was left out, and why.
    """

    cells: tuple[CellSummary, ...]
    against: tuple[Against, ...]
    sources: tuple[Sources, ...]
    curves: tuple[CellSummary, ...]
    warnings: tuple[str, ...]


def summarize(reruns: RerunSet) -> FlipReport:
    """Summarize repeated answers; tasks whose scores are not binary are left out with a warning."""
    usable = [cell for cell in reruns.cells if cell.binary and cell.complete.any()]
    warnings = [*_left_out(reruns.cells)]
    cells: list[CellSummary] = []
    against: list[Against] = []
    for group in _groups(usable):
        alike = _equal_runs(group, warnings)
        cells += [_summary(alike, None), *(_summary([cell], cell.info.name) for cell in group)]
        if reruns.baseline is not None and group[0].variant != reruns.baseline:
            against += against_baseline(group, [c for c in usable if c.variant == reruns.baseline])
    return FlipReport(
        cells=tuple(cells),
        against=tuple(against),
        sources=tuple(variance_sources(usable)),
        curves=tuple(_curves(usable)),
        warnings=tuple(warnings),
    )


def _left_out(cells: Sequence[RepeatedAnswers]) -> Iterator[str]:
    graded = sorted({cell.info.name for cell in cells if not cell.binary})
    if graded:
        yield f"Skipped because scores are not binary: {some(graded)}."
    bare = sorted({f"{c.variant} on {c.info.name}" for c in cells if c.binary and not c.complete.any()})
    if bare:
        yield f"Skipped because no item has a score in every run: {some(bare)}."


def _groups(cells: Sequence[RepeatedAnswers]) -> Iterator[list[RepeatedAnswers]]:
    """Cells of one variant and temperature together."""
    order = list(dict.fromkeys(cell.variant for cell in cells))

    def key(cell: RepeatedAnswers) -> tuple[int, float]:
        return order.index(cell.variant), -1.0 if cell.temperature is None else cell.temperature

    for _, group in groupby(sorted(cells, key=key), key=key):
        yield list(group)


def _equal_runs(group: list[RepeatedAnswers], warnings: list[str]) -> list[RepeatedAnswers]:
    most = max(len(cell.runs) for cell in group)
    fewer = [cell.info.name for cell in group if len(cell.runs) < most]
    if fewer:
        warnings.append(
            f"{group[0].variant} at temperature {group[0].temperature}: the numbers over all tasks exclude "
            f"those with fewer than {most} runs: {some(fewer)}."
        )
    return [cell for cell in group if len(cell.runs) == most]


def _curves(cells: Sequence[RepeatedAnswers]) -> Iterator[CellSummary]:
    """Per variant with several temperatures: each of them, over the same tasks all along."""
    for variant in dict.fromkeys(cell.variant for cell in cells):
        groups = list(_groups([cell for cell in cells if cell.variant == variant]))
        common = set.intersection(*({cell.info.name for cell in group} for group in groups))
        for group in groups if len(groups) > 1 and common else ():
            yield _summary(_equal_runs([cell for cell in group if cell.info.name in common], []), None)


def _summary(cells: Sequence[RepeatedAnswers], task: str | None) -> CellSummary:
    right = np.concatenate([cell.right for cell in cells])
    answers = np.concatenate([cell.answers[cell.complete] for cell in cells])
    repeated = right.shape[1] > 1
    has_answers = all(cell.has_answers for cell in cells)
    noise = mean_share(item_flip_rates(right)) if repeated else None
    return CellSummary(
        variant=cells[0].variant,
        task=task,
        temperature=cells[0].temperature,
        runs=right.shape[1],
        items=right.shape[0],
        missing=sum(cell.items.size for cell in cells) - right.shape[0],
        accuracy=mean_share(right.mean(axis=1)),
        stability=stability(right),
        flip_rate=noise,
        hidden_drop=_hidden_drop(right.shape[0], noise),
        churn=rerun_churn(answers, right) if repeated and has_answers else None,
    )


def _hidden_drop(items: int, noise: Estimate | None) -> float | None:
    if noise is None or not 0.0 < noise.value < 1.0:
        return None
    return Design(items, noise.value).detectable_drop()
