"""A baseline and a variant side by side at one temperature, task by task: what pairs, and what does not.

A missing answer is never counted as zero and never silently ignored: the statistics receive every planned
item, so that a certificate holds for any value of the missing answers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from jobs.formats.across_tools import repeats_a_prompt
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.run_files import mixed_writers
from jobs.formats.samples import PairBy, Temperature, temperatures_text
from jobs.scores.score_set import Column, ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import counted
from stats.arrays import Floats, Ints
from stats.scores import MissingAnswers, TaskScores

MOST_ITEMS = 30  # bits of the number of an item that no file lists; those before them tell its task
# Least share of items that pair if two tools have asked the same questions, but for failed answers
FULL_SHARE = 0.95
# Share of answers that makes a warning if they are cut or empty: fewer change the score by less than a point
LEAST_SHARE = 0.01
SIDES = (0, 1)  # baseline and variant


@dataclass(frozen=True)
class PairedTask:
    """One task of a pairing."""

    info: TaskInfo
    sides: tuple[Column, Column]  # what both models answered, as it was read
    scores: TaskScores | None  # the common items; None where there is none
    lacking: MissingAnswers | None  # which answers are missing; None where all are there

    @property
    def common(self) -> NDArray[np.bool_]:
        """Which items both models have answered, shape (items,)."""
        return self.sides[0].answered & self.sides[1].answered

    def marked(self, code: NoticeCode, side: int) -> int:
        """Of how many scored answers of the baseline (0) or the variant (1) a notice holds."""
        return int(np.sum(self.sides[side].marked.get(code, 0)))

    def scored(self, side: int) -> int:
        """All scored answers of the baseline (0) or the variant (1)."""
        return int(self.sides[side].answers.sum())

    def is_silent(self, side: int) -> bool:
        """Whether there are answers, and all of them are empty."""
        return 0 < self.scored(side) == self.marked(NoticeCode.EMPTY_ANSWERS, side)

    @property
    def is_uneven(self) -> bool:
        """Whether one model has fewer reruns than the other, without a plan that says so."""
        first, second = self.sides
        is_planned = first.planned or second.planned
        return self.scores is not None and not is_planned and first.reruns != second.reruns

    @property
    def more_prompt_tokens(self) -> Floats:
        """How many tokens more the variant's prompts have, shape (items that pair,); NaN where unknown.

        That is of other prompts, of some that were cut, and of log-likelihoods, asked in tokens of our own.
        """
        first, second = self.sides
        if not all({"prompt_tokens", "output_tokens"} <= side.measured.keys() for side in self.sides):
            return np.full(int(self.common.sum()), np.nan)
        known = (first.prompts == second.prompts) | (first.prompts == -1) | (second.prompts == -1)
        for side in self.sides:
            known &= np.equal(side.marked.get(NoticeCode.CUT_PROMPTS, 0), 0)
        more = second.measured["prompt_tokens"] - first.measured["prompt_tokens"]
        counted: Floats = np.where(known, more, np.nan)[self.common]
        return counted


@dataclass(frozen=True)
class Pairing:
    """A variant beside its baseline at one temperature."""

    baseline: str
    variant: str
    temperature: Temperature
    tasks: tuple[PairedTask, ...] = field(repr=False)  # those that one of them was asked at this temperature
    warnings: tuple[Notice, ...] = field(default=(), repr=False)  # what does not pair

    @property
    def label(self) -> str:
        """Name and temperature for a sentence."""
        at = "" if self.temperature is None else f" at temperature {self.temperature:g}"
        return f"{self.variant}{at}"

    @property
    def pairs(self) -> list[tuple[TaskInfo, TaskScores]]:
        """The common items of every task that has any."""
        return [(task.info, task.scores) for task in self.tasks if task.scores is not None]

    @property
    def scores(self) -> list[TaskScores]:
        """The same without names of metrics."""
        return [scores for _, scores in self.pairs]

    @property
    def gaps(self) -> list[MissingAnswers]:
        """What is missing or failed, by task, those without a common item included."""
        return [task.lacking for task in self.tasks if task.lacking is not None]

    @property
    def absent(self) -> list[MissingAnswers]:
        """What is missing of the tasks without a common item."""
        return [task.lacking for task in self.tasks if task.lacking is not None and task.scores is None]

    @property
    def missing(self) -> int:
        """Items that do not pair, those of tasks that do not pair at all included."""
        return sum(gap.items for gap in self.gaps)

    @property
    def owed(self) -> int:
        """Samples that were asked for and are not there, of both models."""
        return sum(side.owed for task in self.tasks for side in task.sides)

    @property
    def common(self) -> int:
        """Items that pair, over all tasks."""
        return sum(scores.baseline.size for scores in self.scores)

    @property
    def common_share(self) -> float:
        """Common items as a share of all that should have paired."""
        return self.common / (self.common + self.missing)


def pair_up(
    scores: ScoreSet, baseline: str, variant: str, temperature: Temperature, cluster: str | None
) -> Pairing:
    """Lay the columns of two models side by side, and say what does not pair.

    Clusters are "none", whole tasks ("task"), or, for anything else, those of the input.
    """
    tasks = []
    for table in scores.tasks:
        first, second = (table.columns.get((model, temperature)) for model in (baseline, variant))
        if first is not None or second is not None:
            zeros = np.zeros(len(table.items), dtype=np.int64)
            nothing = Column(np.full(zeros.size, np.nan), zeros, zeros - 1, reruns=0)
            unlisted = max(table.unlisted.get(model, 0) for model in (baseline, variant))
            tasks.append(_paired(table, (first or nothing, second or nothing), cluster, unlisted))
    pairing = Pairing(baseline, variant, temperature, tuple(tasks))
    warnings = [*_of_tasks(pairing, scores), *_of_sides(pairing), *_of_gaps(pairing)]
    warnings += mixed_writers(scores.runs, baseline, variant)
    if scores.paired_by is not None and pairing.pairs:
        warnings += _of_share(pairing, scores.paired_by)
    return replace(pairing, warnings=tuple(warnings))


def _paired(table: TaskTable, sides: tuple[Column, Column], cluster: str | None, unlisted: int) -> PairedTask:
    """One task, with so many items that one of the models was evaluated on and that no file lists."""
    info = table.info
    first, second = heard = (_unless_silent(sides[0]), _unless_silent(sides[1]))
    common, wanted = first.answered & second.answered, np.ones(len(table.items), dtype=np.bool_)
    if not table.planned:  # then the items are all that one model answered
        wanted = first.answered | second.answered
    clusters = np.zeros(wanted.size, dtype=np.int64) if cluster == "task" else table.clusters
    links = None if cluster in {"none", "task"} else table.links
    if cluster == "none":
        clusters = None
    lacking = MissingAnswers(
        info.name,
        np.stack([np.append(side.scores[wanted], np.full(unlisted, np.nan)) for side in heard]),
        np.stack([np.append(side.answers[wanted], np.zeros(unlisted, dtype=np.int64)) for side in heard]),
        planned=_planned_reruns(heard, wanted, unlisted),
        failed=(first.errors, second.errors),
        bounds=info.bounds,
        higher_is_better=info.higher_is_better,
        clusters=_extended(info.name, clusters, wanted, unlisted),
        links=_extended(info.name, links, wanted, unlisted),
    ).unless_complete()
    if not common.any():
        return PairedTask(info, sides, None, lacking)
    answers, runs = (first.answers[common], second.answers[common]), None
    are_unequal = not np.array_equal(*answers)
    if are_unequal and any(column.runs is not None for column in heard):  # else means and numbers say all
        runs = single_scores(first)[common], single_scores(second)[common]
    scores = TaskScores(
        task=info.name,
        baseline=first.scores[common],
        variant=second.scores[common],
        items=table.items[common],
        clusters=None if clusters is None else clusters[common],
        higher_is_better=info.higher_is_better,
        bounds=info.bounds,
        reruns=(first.reruns, second.reruns),
        missing=0 if lacking is None else lacking.items,
        answers=answers if are_unequal else None,
        runs=runs,
        links=None if links is None else links[common],
        lacking=lacking,
        margin=info.margin,
        is_direction_known=info.is_direction_known,
    )
    return PairedTask(info, sides, scores, lacking)


def _planned_reruns(sides: tuple[Column, Column], wanted: NDArray[np.bool_], unlisted: int) -> Ints:
    """Reruns that were to be there of each wanted or unlisted item and model, shape (2, items).

    Those of its plan; without one as many as there are of the item, in all passes over the task or fewer.
    """
    seen = np.max([side.answers if side.failed is None else side.answers + side.failed for side in sides], 0)
    seen = np.append(seen[wanted], np.zeros(unlisted, dtype=np.int64))
    seen[seen == 0] = seen[seen > 0].min(initial=max(side.reruns for side in sides))
    most = (side.planned or np.minimum(seen, max(1, side.reruns)) for side in sides)
    return np.stack([np.broadcast_to(planned, seen.shape) for planned in most])


def _unless_silent(column: Column) -> Column:
    """A column whose answers count as failed if all of them are empty.

    Then something is wrong with the way the model is asked, and two models that say nothing are not alike.
    """
    answers, empty = column.answers, column.marked.get(NoticeCode.EMPTY_ANSWERS, 0)
    if not answers.any() or int(np.sum(empty)) < int(answers.sum()):
        return column
    return replace(
        column,
        scores=np.full(len(answers), np.nan),
        answers=np.zeros_like(answers),
        errors=column.errors + int(answers.sum()),
        failed=answers if column.failed is None else column.failed + answers,
        runs=None,
    )


def _extended(task: str, labels: Ints | None, wanted: NDArray[np.bool_], unlisted: int) -> Ints | None:
    """Labels of the wanted items, and of items that no file lists, each of which is on its own."""
    if labels is None:
        return None
    extended: Ints = np.concatenate(
        [labels[wanted], -1 - (crc32(task.encode()) << MOST_ITEMS) - np.arange(unlisted)]
    )
    return extended


def single_scores(column: Column) -> Floats:
    """Scores of the runs, shape (items, reruns), of a right-or-wrong model from how many are right."""
    if column.runs is not None:
        return column.runs
    right = np.rint(np.where(column.answered, column.scores * column.answers, 0.0))[:, None]
    position = np.arange(column.reruns)
    scores = np.where(position < right, 1.0, 0.0)
    single: Floats = np.where(position < column.answers[:, None], scores, np.nan)
    return single


def _of_tasks(pairing: Pairing, scores: ScoreSet) -> Iterator[Notice]:
    """What tasks have no common item, other prompts, other temperatures, or answers more than once."""
    if not pairing.pairs:
        where = "" if pairing.temperature is None else " at that temperature"
        said = f"{pairing.label}: not compared, because no item was answered by both models{where}."
        yield Notice(NoticeCode.NOT_COMPARED, said)
        return
    sides = (pairing.baseline, pairing.variant)
    is_served = any(run.is_served(name) for run in scores.runs for name in sides)
    may_differ = any(pairing.variant in run.declaring("other_template") for run in scores.runs)
    for task in pairing.tasks:
        name, (first, second) = task.info.name, task.sides
        if task.scores is None:
            said = f"{pairing.label}: task {name} has no item that both models answered."
            yield Notice(NoticeCode.NO_COMMON_ITEM, said)
            continue
        known = first.answered & second.answered & (first.prompts != -1) & (second.prompts != -1)
        if others := int((first.prompts != second.prompts)[known].sum()):
            yield Notice(
                NoticeCode.MIXED_PROMPTS,
                f"{pairing.label}: {others} of {task.scores.baseline.size} items of {name} had other "
                "prompts than in the baseline, so the comparison is not of the models alone.",
            )
        more = np.nan_to_num(task.more_prompt_tokens)
        if (others := more != 0.0).any() and is_served and not may_differ:
            numbers = np.arange(more.size) if task.scores.items is None else task.scores.items
            yield Notice(
                NoticeCode.PROMPT_TOKENS_DIFFER,
                f"{pairing.label}: {others.sum():,} of {more.size:,} items of {name} have "
                f"{tokens_text(more[others])} than in the baseline, although their prompts are equal (items "
                f"{some(numbers[others].tolist())}): chat template, system prompt or tokenizer differ. "
                "If they may, set other_template: true for the variant.",
            )
    asked = {task.info.name for task in pairing.tasks}
    if elsewhere := [table for table in scores.tasks if table.info.name not in asked]:
        where = temperatures_text({t for table in elsewhere for _, t in table.columns})
        now = "" if pairing.temperature is None else f" at {pairing.temperature:g}"
        have, are = ("has", "it is") if len(elsewhere) == 1 else ("have", "they are")
        names = some([table.info.name for table in elsewhere])
        said = f"{names} {have} answers only at {where}, so {are} not compared{now}."
        yield Notice(NoticeCode.OTHER_TEMPERATURE, said)
    for side, who in enumerate(("the baseline", pairing.label)):
        if repeated := _listed((task, task.sides[side].repeated) for task in pairing.tasks):
            said = f"{who} has duplicate samples ({repeated}); only the first of each counts."
            yield Notice(NoticeCode.REPEATED_ANSWERS, said)


def tokens_text(more: Floats) -> str:
    """By how many tokens prompts are longer, for a sentence."""
    least, most = int(more.min()), int(more.max())
    if least != most:
        return "other numbers of prompt tokens"
    return f"{counted(abs(least), 'prompt token')} {'more' if least > 0 else 'fewer'}"


def _of_sides(pairing: Pairing) -> Iterator[Notice]:
    """Which answers of either model failed, were withheld, or are not what they should be."""
    tasks = pairing.tasks
    for side, who in enumerate(("the baseline", pairing.label)):
        if failed := _listed((task, task.lacking.failed[side]) for task in tasks if task.lacking is not None):
            said = f"{who} has failed answers ({failed}), which are treated like missing ones."
            yield Notice(NoticeCode.FAILED_ANSWERS, said)
        if withheld := _listed((task, task.sides[side].withheld) for task in tasks):
            said = (
                f"of {who}, the provider withheld answers ({withheld}); they count as failed, not as wrong."
            )
            yield Notice(NoticeCode.WITHHELD_ANSWERS, said)
        if cut := _shares(tasks, NoticeCode.CUT_ANSWERS, side):
            yield Notice(
                NoticeCode.CUT_ANSWERS,
                f"{who} reached the token limit in answers ({cut}), which are scored as they are: "
                "raise max_gen_toks if they need more room.",
            )
        if silent := [task.info.name for task in tasks if task.is_silent(side)]:
            yield Notice(
                NoticeCode.EMPTY_ANSWERS,
                f"{who} gave only empty answers to {some(silent, 3)}; they count as failed, not as wrong. "
                "The text may be elsewhere (in reasoning_content), or a stop string may have cut all of it.",
            )
        if empty := _shares(tasks, NoticeCode.EMPTY_ANSWERS, side):
            said = f"{who} gave empty answers ({empty}), which are scored as they are."
            yield Notice(NoticeCode.EMPTY_ANSWERS, said)
        same = [
            task.info.name
            for task in tasks
            if task.marked(NoticeCode.EQUAL_ANSWERS, side) > 1
            and not task.marked(NoticeCode.EQUAL_ANSWERS, 1 - side)
            and task.scored(1 - side)
            and not task.is_silent(side)
        ]
        if same:
            said = f"{who} gave the same answer to all items of {some(same, 3)}"
            yield Notice(NoticeCode.EQUAL_ANSWERS, f"{said}; the other model did not.")
        if cut := _listed((task, task.marked(NoticeCode.CUT_PROMPTS, side)) for task in tasks):
            yield Notice(
                NoticeCode.CUT_PROMPTS,
                f"prompts of {who} were too long and lost their beginning ({cut}), maybe even the question: "
                "raise max_model_len or max_length, or lower max_gen_toks or num_fewshot.",
            )


def _of_gaps(pairing: Pairing) -> Iterator[Notice]:
    """What cannot be paired, and what is still to come."""
    lacking = []  # which model lacks how many answers to which tasks
    for side, who in enumerate(("the baseline", pairing.variant)):
        counts = ((task, task.lacking.missing[side]) for task in pairing.tasks if task.lacking is not None)
        if listed := _listed(counts):
            lacking.append(f"{who} lacks {listed}")
    if pairing.pairs and pairing.missing:
        said = f"{pairing.label}: {counted(pairing.missing, 'item')} cannot be paired with the baseline"
        said += f" ({'; '.join(lacking)})." if lacking else "."
        yield Notice(NoticeCode.UNPAIRED_ITEMS, said)
    elif pairing.pairs and lacking:
        said = f"{pairing.label}: reruns are missing ({'; '.join(lacking)})."
        yield Notice(NoticeCode.MISSING_ANSWERS, said)
    if uneven := [task for task in pairing.tasks if task.is_uneven]:
        reruns = [f"{t.sides[0].reruns} and {t.sides[1].reruns} on {t.info.name}" for t in uneven]
        said = f"baseline and variant have unequal numbers of reruns ({some(reruns, 3)})."
        yield Notice(NoticeCode.FEWER_RERUNS, f"{pairing.label}: {said}")
    if pairing.owed:
        owed = f"{pairing.owed} samples of this variant and the baseline have not been run yet"
        yield Notice(NoticeCode.OWED_ANSWERS, f"{pairing.label}: {owed}; the run is incomplete.")


def _of_share(pairing: Pairing, paired_by: PairBy) -> Iterator[Notice]:
    """How many items pair, where that is not a matter of course, and how many of them by their order."""
    if paired_by == "prompt":
        named = [scores.items for scores in pairing.scores if scores.items is not None]
        if repeated := sum(repeats_a_prompt(item) for items in named for item in items):
            yield Notice(
                NoticeCode.REPEATED_PROMPTS,
                f"{pairing.label}: {repeated:,} of {pairing.common:,} items repeat the prompt of another "
                "item, so they pair in the order of their rows, which must be the same for both models.",
            )
    items = pairing.common + pairing.missing
    what = "the text of the prompt" if paired_by == "prompt" else "identifier"
    said = f"{pairing.label}: {pairing.common:,} of {items:,} items pair with the baseline by {what}"
    if pairing.common < FULL_SHARE * items:
        hint = " (--pair-by prompt pairs by the text of the prompt)" if paired_by == "id" else ""
        said = f"{said}, so the verdict is about these only{hint}."
        yield Notice(NoticeCode.LOW_PAIRED_SHARE, said)
    else:
        yield Notice(NoticeCode.PAIRED, f"{said}.")


def _shares(tasks: Sequence[PairedTask], code: NoticeCode, side: int) -> str:
    """Shares of the answers of one model, by task, for a sentence; empty if they are few in all.

    Tasks all of whose answers are empty are spoken of elsewhere.
    """
    is_other = code is not NoticeCode.EMPTY_ANSWERS
    counts = [(t.marked(code, side), t) for t in tasks if is_other or not t.is_silent(side)]
    if not sum(count for count, _ in counts) >= LEAST_SHARE * sum(task.scored(side) for task in tasks) > 0:
        return ""
    shares = sorted(((n / t.scored(side), t.info.name) for n, t in counts if n), reverse=True)
    return some([f"{share:.0%} of {name}" for share, name in shares], 3)


def _listed(counts: Iterable[tuple[PairedTask, int]], limit: int = 3) -> str:
    """Numbers for a sentence: "10 of a, 3 of b and 2 more tasks", the largest first; empty if all are 0."""
    known = sorted(((task.info.name, count) for task, count in counts if count), key=lambda pair: -pair[1])
    shown = ", ".join(f"{count:,} of {name}" for name, count in known[:limit])
    more = len(known) - limit
    return shown if more <= 0 else f"{shown} and {more} more task{'s' if more > 1 else ''}"
