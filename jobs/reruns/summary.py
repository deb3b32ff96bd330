"""What repeated answers say: per model, task and temperature, against the baseline, by source of variance.

Rates are over pairs of runs (how likely two runs disagree), not over all runs, so that three seeds and ten
give comparable numbers. Numbers "over all tasks" take the tasks that have equally many runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import some
from jobs.formats.samples import Temperature
from jobs.scores.rerun_set import RepeatedAnswers, RerunSet
from stats.arrays import Floats
from stats.flips import (
    Churn,
    Estimate,
    FlipTable,
    Stability,
    VarianceSplit,
    churn,
    flip_table,
    item_flip_rates,
    mean_share,
    rerun_churn,
    stability,
    variance_split,
)
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
class Against:
    """A variant against the baseline, run by run.

    Attributes:
        variant: its name.
        task: name of the task, None for all.
        temperature: None if unknown.
        pairs: pairs of runs, of equal seeds where both have them.
        flips: outcomes added up over the pairs of runs.
        flip_rate: gross flips per item, with an interval over items.
        churn: changed answers, added up likewise; None where only scores are known.
    """

    variant: str
    task: str | None
    temperature: Temperature
    pairs: int
    flips: FlipTable
    flip_rate: Estimate
    churn: Churn | None


@dataclass(frozen=True)
class Sources:
    """Variance of one model's answers by source, over the temperatures with at least two seeds.

    Attributes:
        variant: its name.
        task: name of the task, None for all.
        temperatures: which ones.
        seeds: how many of each were used.
        variance: the split.
    """

    variant: str
    task: str | None
    temperatures: tuple[Temperature, ...]
    seeds: int
    variance: VarianceSplit


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
    warnings = []
    if graded := sorted({cell.info.name for cell in reruns.cells if not cell.binary}):
        warnings.append(f"Skipped because scores are not binary: {some(graded)}.")
    bare = [cell for cell in reruns.cells if cell.binary and not cell.complete.any()]
    if names := sorted({f"{cell.variant} on {cell.info.name}" for cell in bare}):
        warnings.append(f"Skipped because no item has a score in every run: {some(names)}.")
    cells: list[CellSummary] = []
    against: list[Against] = []
    for group in _groups(usable):
        alike = [cell for cell in group if len(cell.runs) == max(len(cell.runs) for cell in group)]
        if fewer := [cell.info.name for cell in group if len(cell.runs) < len(alike[0].runs)]:
            warnings.append(
                f"{group[0].variant} at temperature {group[0].temperature}: the numbers over all tasks "
                f"exclude those with fewer than {len(alike[0].runs)} runs: {some(fewer)}."
            )
        cells += [_summary(alike, None), *(_summary([cell], cell.info.name) for cell in group)]
        if reruns.baseline is not None and group[0].variant != reruns.baseline:
            against += _against_baseline(group, [c for c in usable if c.variant == reruns.baseline])
    return FlipReport(
        cells=tuple(cells),
        against=tuple(against),
        sources=tuple(_variance_sources(usable)),
        curves=tuple(_curves(usable)),
        warnings=tuple(warnings),
    )


def by_temperature(temperature: Temperature) -> float:
    """The place of a temperature in order; an unknown one comes first."""
    return -1.0 if temperature is None else temperature


def _groups(cells: Sequence[RepeatedAnswers]) -> Iterator[list[RepeatedAnswers]]:
    """Cells of one variant and temperature together."""
    order = list(dict.fromkeys(cell.variant for cell in cells))

    def key(cell: RepeatedAnswers) -> tuple[int, float]:
        return order.index(cell.variant), by_temperature(cell.temperature)

    for _, group in groupby(sorted(cells, key=key), key=key):
        yield list(group)


def _curves(cells: Sequence[RepeatedAnswers]) -> Iterator[CellSummary]:
    """Per variant with several temperatures: each of them, over the same tasks all along."""
    for variant in dict.fromkeys(cell.variant for cell in cells):
        groups = list(_groups([cell for cell in cells if cell.variant == variant]))
        common = set.intersection(*({cell.info.name for cell in group} for group in groups))
        for group in groups if len(groups) > 1 and common else ():
            shared = [cell for cell in group if cell.info.name in common]
            most = max(len(cell.runs) for cell in shared)
            yield _summary([cell for cell in shared if len(cell.runs) == most], None)


def _summary(cells: Sequence[RepeatedAnswers], task: str | None) -> CellSummary:
    right = np.concatenate([cell.right for cell in cells])
    answers = np.concatenate([cell.answers[cell.complete] for cell in cells])
    repeated = right.shape[1] > 1
    has_answers = all(cell.has_answers for cell in cells)
    noise = mean_share(item_flip_rates(right)) if repeated else None
    shows = noise is not None and 0.0 < noise.value < 1.0
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
        hidden_drop=Design(right.shape[0], noise.value).detectable_drop() if noise and shows else None,
        churn=rerun_churn(answers, right) if repeated and has_answers else None,
    )


def _against_baseline(
    group: Sequence[RepeatedAnswers], baseline: Sequence[RepeatedAnswers]
) -> Iterator[Against]:
    """All tasks of a variant at a temperature together, then each; nothing where no item is common."""
    known = {(cell.info.name, cell.temperature): cell for cell in baseline}
    both = [(known.get((cell.info.name, cell.temperature)), cell) for cell in group]
    pairs = [(own, cell, _paired(own, cell)) for own, cell in both if own is not None]
    pairs = [pair for pair in pairs if pair[2][0].size]
    by_task = [(cell.info.name, [(own, cell, arrays)]) for own, cell, arrays in pairs]
    for task, parts in ((None, pairs), *by_task) if pairs else ():
        first, second, answers, others = zip(*(arrays for _, _, arrays in parts), strict=True)
        right, right_of_variant = (
            np.concatenate([part.ravel() for part in side]) for side in (first, second)
        )
        texts, texts_of_variant = (
            np.concatenate([part.ravel() for part in side]) for side in (answers, others)
        )
        gross = np.concatenate([(b != v).mean(axis=1) for b, v in zip(first, second, strict=True)])
        has_answers = all(own.has_answers and cell.has_answers for own, cell, _ in parts)
        changes = (texts, texts_of_variant, right.astype(np.float64), right_of_variant.astype(np.float64))
        yield Against(
            variant=group[0].variant,
            task=task,
            temperature=group[0].temperature,
            pairs=max(part.shape[1] for part in first),
            flips=flip_table(right, right_of_variant),
            flip_rate=mean_share(gross),
            churn=churn(*changes) if has_answers else None,
        )


def _paired(
    baseline: RepeatedAnswers, variant: RepeatedAnswers
) -> tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]:
    """Whether both are right, and what they answered, on common items; shape (items, pairs of runs) each."""
    columns = np.array(run_pairs(baseline, variant), dtype=np.int64).reshape(-1, 2).T
    _, first, second = np.intersect1d(baseline.items, variant.items, return_indices=True)
    both = baseline.complete[first] & variant.complete[second]
    sides = [
        (cell, np.ix_(rows[both], chosen), 1.0 if cell.info.higher_is_better else 0.0)
        for cell, rows, chosen in ((baseline, first, columns[0]), (variant, second, columns[1]))
    ]
    right, right_of_variant = (cell.scores[picked] == best for cell, picked, best in sides)
    answers, answers_of_variant = (cell.answers[picked] for cell, picked, _ in sides)
    return right, right_of_variant, answers, answers_of_variant


def run_pairs(baseline: RepeatedAnswers, variant: RepeatedAnswers) -> list[tuple[int, int]]:
    """Runs of equal seeds; where the seeds have nothing in common, one after the other."""
    equal = [
        (i, j)
        for i, seed in enumerate(baseline.seeds)
        for j, other in enumerate(variant.seeds)
        if seed is not None and seed == other
    ]
    return equal or list(zip(range(len(baseline.runs)), range(len(variant.runs)), strict=False))


def _variance_sources(cells: Sequence[RepeatedAnswers]) -> Iterator[Sources]:
    """Split the variance of every model: over all tasks that were run at all its temperatures, then each."""
    repeated = [cell for cell in cells if len(cell.runs) > 1]
    for variant in dict.fromkeys(cell.variant for cell in repeated):
        own = [cell for cell in repeated if cell.variant == variant]
        temperatures = tuple(sorted({cell.temperature for cell in own}, key=by_temperature))
        seeds = min(len(cell.runs) for cell in own)
        blocks: dict[str | None, Floats] = {}
        for task in dict.fromkeys(cell.info.name for cell in own):
            at = {cell.temperature: cell for cell in own if cell.info.name == task}
            if set(at) == set(temperatures):
                ordered = [at[temperature] for temperature in temperatures]
                common = ordered[0].items[ordered[0].complete]
                for cell in ordered[1:]:
                    common = np.intersect1d(common, cell.items[cell.complete])
                scores = [cell.scores[np.searchsorted(cell.items, common), :seeds] for cell in ordered]
                blocks[task] = np.stack(scores, axis=1)  # (items, temperatures, seeds)
        whole = {None: np.concatenate(list(blocks.values()))} if blocks else {}
        for name, block in (whole | blocks).items():
            if block.shape[0] > 2:
                yield Sources(variant, name, temperatures, seeds, variance_split(block))
