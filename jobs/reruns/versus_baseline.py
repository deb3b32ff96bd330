"""A variant against the baseline, run by run: which answers flip, and which change without flipping."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.formats.samples import Temperature
from jobs.scores.rerun_set import RepeatedAnswers
from stats.arrays import Bools, Floats, Ints
from stats.flips import Churn, Estimate, FlipTable, churn, flip_table, mean_share, total_churn


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
class _Paired:
    """A variant's and the baseline's answers to the same items; right and answers have shape (n, pairs)."""

    right: tuple[Bools, Bools]
    answers: tuple[Ints, Ints]
    has_answers: bool


def against_baseline(
    group: Sequence[RepeatedAnswers], baseline: Sequence[RepeatedAnswers]
) -> Iterator[Against]:
    """Compare the cells of one variant and temperature with those of the baseline.

    Args:
        group: the variant's tasks.
        baseline: all cells of the baseline.

    Yields:
        All tasks together, then each; nothing where no item is common.
    """
    known = {(cell.info.name, cell.temperature): cell for cell in baseline}
    pairs = {
        cell.info.name: _pair(known[cell.info.name, cell.temperature], cell)
        for cell in group
        if (cell.info.name, cell.temperature) in known
    }
    found = {task: pair for task, pair in pairs.items() if pair.right[0].size}
    if found:
        first = group[0]
        yield _against(first, None, list(found.values()))
        yield from (_against(first, task, [pair]) for task, pair in found.items())


def _pair(baseline: RepeatedAnswers, variant: RepeatedAnswers) -> _Paired:
    columns = run_pairs(baseline, variant)
    _, first, second = np.intersect1d(baseline.items, variant.items, return_indices=True)
    both = baseline.complete[first] & variant.complete[second]
    rights, answers = [], []
    for cell, rows, chosen in ((baseline, first[both], 0), (variant, second[both], 1)):
        best = 1.0 if cell.info.higher_is_better else 0.0
        picked = np.ix_(rows, np.array([pair[chosen] for pair in columns], dtype=np.int64))
        rights.append(cell.scores[picked] == best)
        answers.append(cell.answers[picked])
    has_answers = baseline.has_answers and variant.has_answers
    return _Paired((rights[0], rights[1]), (answers[0], answers[1]), has_answers)


def run_pairs(baseline: RepeatedAnswers, variant: RepeatedAnswers) -> list[tuple[int, int]]:
    """Runs of equal seeds; where the seeds have nothing in common, one after the other."""
    equal = [
        (i, j)
        for i, seed in enumerate(baseline.seeds)
        for j, other in enumerate(variant.seeds)
        if seed is not None and seed == other
    ]
    return equal or list(zip(range(len(baseline.runs)), range(len(variant.runs)), strict=False))


def _against(cell: RepeatedAnswers, task: str | None, pairs: Sequence[_Paired]) -> Against:
    outcomes = [flip_table(b[:, k], v[:, k]) for b, v in (p.right for p in pairs) for k in range(b.shape[1])]
    changes = [
        churn(p.answers[0][:, k], p.answers[1][:, k], _ones(p.right[0][:, k]), _ones(p.right[1][:, k]))
        for p in pairs
        for k in range(p.right[0].shape[1])
    ]
    gross = np.concatenate([(p.right[0] != p.right[1]).mean(axis=1) for p in pairs])
    counts = np.array([[t.both_right, t.worse, t.better, t.both_wrong] for t in outcomes]).sum(axis=0)
    return Against(
        variant=cell.variant,
        task=task,
        temperature=cell.temperature,
        pairs=max(p.right[0].shape[1] for p in pairs),
        flips=FlipTable(*counts.tolist()),
        flip_rate=mean_share(gross),
        churn=total_churn(changes) if all(p.has_answers for p in pairs) else None,
    )


def _ones(right: Bools) -> Floats:
    return right.astype(np.float64)
