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
from jobs.scores.rerun_set import RepeatedAnswers, RerunSet
from stats.arrays import Bools, Floats, Ints
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
    pairs = {
        cell.info.name: _paired(known[cell.info.name, cell.temperature], cell)
        for cell in group
        if (cell.info.name, cell.temperature) in known
    }
    pairs = {task: pair for task, pair in pairs.items() if pair[0].size}
    for task, parts in ((None, list(pairs.values())), *((t, [pair]) for t, pair in pairs.items())):
        if not parts:
            return
        right = np.concatenate([part.reshape(2, -1) for part, _ in parts], axis=1)
        flipped = np.concatenate([(part[0] != part[1]).mean(axis=1) for part, _ in parts])
        answers = [part.reshape(2, -1) for _, part in parts if part is not None]
        changed = len(answers) == len(parts)
        yield Against(
            variant=group[0].variant,
            task=task,
            temperature=group[0].temperature,
            pairs=max(part.shape[2] for part, _ in parts),
            flips=flip_table(*right),
            flip_rate=mean_share(flipped),
            churn=churn(*np.concatenate(answers, axis=1), *right.astype(np.float64)) if changed else None,
        )


def _paired(baseline: RepeatedAnswers, variant: RepeatedAnswers) -> tuple[Bools, Ints | None]:
    """Answers of both to their common items: whether they are right, and which they are, if that is known.

    Returns:
        Arrays of shape (2, items, pairs of runs), the baseline first.
    """
    columns = np.array(run_pairs(baseline, variant), dtype=np.int64).T
    _, *rows = np.intersect1d(baseline.items, variant.items, return_indices=True)
    both = baseline.complete[rows[0]] & variant.complete[rows[1]]
    right, answers = [], []
    for cell, own, chosen in zip((baseline, variant), rows, columns, strict=True):
        picked = np.ix_(own[both], chosen)
        right.append(cell.scores[picked] == (1.0 if cell.info.higher_is_better else 0.0))
        answers.append(cell.answers[picked])
    has_answers = baseline.has_answers and variant.has_answers
    return np.stack(right), np.stack(answers) if has_answers else None


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
