"""Lays the columns of a baseline and a variant side by side, and says what of them does not pair."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.gaps import find_gaps, listed, wanted_items
from jobs.inputs.notices import Notice, NoticeCode
from jobs.inputs.score_set import Column, ScoreBook, TaskInfo, TaskTable, Temperature, some
from stats.arrays import Floats, Ints
from stats.missing import MissingAnswers
from stats.scores import TaskScores


@dataclass(frozen=True)
class Pair:
    """One task on which both models have answers.

    Attributes:
        info: name, metric, direction and group of the task.
        scores: the common items.
    """

    info: TaskInfo
    scores: TaskScores


@dataclass
class Pairing:
    """A variant beside its baseline at one temperature, task by task.

    Attributes:
        baseline: name of the baseline.
        variant: its name.
        temperature: the common temperature, None if unknown.
        pairs: tasks with at least one common item.
        absent: what is missing of the tasks without any.
        missing: items that do not pair, those of tasks that do not pair at all included.
        owed: samples that were asked for and are not there, of both models.
        warnings: what does not pair.
        mixed_prompts: sentences about items whose prompts differ; also among the warnings.
        gaps: what is missing, by task.
        fewer_reruns: whether one model has fewer reruns than the other, without a plan that says so.
    """

    baseline: str
    variant: str
    temperature: Temperature
    pairs: list[Pair] = field(default_factory=list)
    absent: list[MissingAnswers] = field(default_factory=list)
    missing: int = 0
    owed: int = 0
    warnings: list[Notice] = field(default_factory=list)
    mixed_prompts: list[str] = field(default_factory=list)
    gaps: list[MissingAnswers] = field(default_factory=list)
    fewer_reruns: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name and temperature for a sentence."""
        return self.variant if self.temperature is None else f"{self.variant}{self.at}"

    @property
    def at(self) -> str:
        """The temperature for a sentence."""
        return "" if self.temperature is None else f" at temperature {self.temperature:g}"

    @property
    def common(self) -> int:
        """Items that pair, over all tasks."""
        return sum(pair.scores.baseline.size for pair in self.pairs)

    @property
    def common_share(self) -> float:
        """Common items as a share of all that should have paired."""
        return self.common / (self.common + self.missing)

    @property
    def has_gaps(self) -> bool:
        """Whether anything that one of the models should have answered is missing or failed."""
        return bool(self.gaps or self.fewer_reruns or not self.pairs)

    def warn(self, code: NoticeCode, text: str) -> None:
        """Add a warning."""
        self.warnings.append(Notice(code, text))


def pair_up(
    book: ScoreBook, baseline: str, variant: str, temperature: Temperature, cluster: str | None
) -> Pairing:
    """Pair a variant with the baseline.

    Args:
        book: all scores.
        baseline: name of the baseline.
        variant: name of the variant.
        temperature: at which both are compared.
        cluster: "none", "task", or anything else for the clusters of the input.
    """
    pairing = Pairing(baseline, variant, temperature)
    elsewhere: list[str] = []
    repeated: dict[str, list[tuple[str, int]]] = {}
    for table in book.tasks:
        first = table.columns.get((baseline, temperature))
        second = table.columns.get((variant, temperature))
        if first is None and second is None:
            elsewhere.append(table.info.name)
            continue
        sides = (first or _nothing(table), second or _nothing(table))
        _add_task(pairing, table, sides, cluster)
        for who, column in zip(("the baseline", pairing.label), sides, strict=True):
            repeated.setdefault(who, []).append((table.info.name, column.repeated))
    if elsewhere:
        pairing.warn(NoticeCode.OTHER_TEMPERATURE, _elsewhere(pairing, elsewhere, book))
    _warn_of_repeats(pairing, repeated)
    _warn_of_gaps(pairing)
    return pairing


def _nothing(table: TaskTable) -> Column:
    items = len(table.items)
    zeros = np.zeros(items, dtype=np.int64)
    return Column(np.full(items, np.nan), zeros, zeros - 1, reruns=0)


def _add_task(
    pairing: Pairing, table: TaskTable, sides: tuple[Column, Column], cluster: str | None
) -> None:
    first, second = sides
    common = first.answered & second.answered
    clusters, links = _clusters(table, cluster), _links(table, cluster)
    lacking = find_gaps(table, (pairing.baseline, pairing.variant), sides, clusters, links)
    missing = int(wanted_items(table, sides).sum() - common.sum()) + _unlisted(pairing, table)
    pairing.missing += missing
    pairing.owed += first.owed + second.owed
    if lacking is not None:
        pairing.gaps.append(lacking)
    if not common.any():
        if lacking is not None:
            pairing.absent.append(lacking)
        said = f"{pairing.label}: task {table.info.name} has no item that both models answered."
        pairing.warn(NoticeCode.NO_COMMON_ITEM, said)
        return
    scores = _paired_scores(table, sides, common, clusters=clusters, links=links)
    scores = replace(scores, lacking=lacking, missing=missing)
    pairing.pairs.append(Pair(table.info, scores))
    _note_prompts(pairing, table, sides, common)
    if not (first.planned or second.planned) and first.reruns != second.reruns:
        pairing.fewer_reruns.append(f"{first.reruns} and {second.reruns} on {table.info.name}")


def _unlisted(pairing: Pairing, table: TaskTable) -> int:
    return max(table.unlisted.get(model, 0) for model in (pairing.baseline, pairing.variant))


def _clusters(table: TaskTable, cluster: str | None) -> Ints | None:
    if cluster == "task":
        return np.zeros(len(table.items), dtype=np.int64)
    return None if cluster == "none" else table.clusters


def _links(table: TaskTable, cluster: str | None) -> Ints | None:
    return None if cluster in {"none", "task"} else table.links


def _paired_scores(
    table: TaskTable,
    sides: tuple[Column, Column],
    common: NDArray[np.bool_],
    *,
    clusters: Ints | None,
    links: Ints | None,
) -> TaskScores:
    first, second = sides
    answers = (first.answers[common], second.answers[common])
    are_unequal = not np.array_equal(*answers)
    return TaskScores(
        task=table.info.name,
        baseline=first.scores[common],
        variant=second.scores[common],
        items=table.items[common],
        clusters=None if clusters is None else clusters[common],
        higher_is_better=table.info.higher_is_better,
        bounds=table.info.bounds,
        reruns=(first.reruns, second.reruns),
        answers=answers if are_unequal else None,
        runs=_runs(sides, common) if are_unequal else None,
        links=None if links is None else links[common],
        margin=table.info.margin,
    )


def _runs(sides: tuple[Column, Column], common: NDArray[np.bool_]) -> tuple[Floats, Floats] | None:
    """The single scores of both models, None where means and numbers say all."""
    if all(column.runs is None for column in sides):
        return None
    first, second = (_single_scores(column)[common] for column in sides)
    return first, second


def _single_scores(column: Column) -> Floats:
    """Scores of the runs, shape (items, reruns); of a right-or-wrong model only how many are right is known."""
    if column.runs is not None:
        return column.runs
    right = np.rint(np.where(column.answered, column.scores * column.answers, 0.0))[:, None]
    position = np.arange(column.reruns)
    scores = np.where(position < right, 1.0, 0.0)
    single: Floats = np.where(position < column.answers[:, None], scores, np.nan)
    return single


def _note_prompts(
    pairing: Pairing, table: TaskTable, sides: tuple[Column, Column], common: NDArray[np.bool_]
) -> None:
    first, second = sides
    known = common & (first.prompts != -1) & (second.prompts != -1)
    different = int((first.prompts != second.prompts)[known].sum())
    if different:
        sentence = (
            f"{pairing.label}: {different} of {int(common.sum())} items of {table.info.name} were asked with "
            "another prompt than the baseline's, so the comparison is not of the models alone."
        )
        pairing.mixed_prompts.append(sentence)
        pairing.warn(NoticeCode.MIXED_PROMPTS, sentence)


def _warn_of_repeats(pairing: Pairing, repeated: dict[str, list[tuple[str, int]]]) -> None:
    for who, counts in repeated.items():
        if any(count for _, count in counts):
            said = f"{who} has answers twice ({listed(counts)}); the first of each counts."
            pairing.warn(NoticeCode.REPEATED_ANSWERS, said)


def _elsewhere(pairing: Pairing, tasks: Sequence[str], book: ScoreBook) -> str:
    found = {t for table in book.tasks if table.info.name in tasks for (_, t) in table.columns}
    where = some(sorted(f"{t:g}" for t in found if t is not None)) or "that is not known"
    have = "has" if len(tasks) == 1 else "have"
    now = "" if pairing.temperature is None else f" at {pairing.temperature:g}"
    are = "is" if len(tasks) == 1 else "are"
    return f"{some(tasks)} {have} answers only at temperature {where}, so {'it' if are == 'is' else 'they'} {are} not compared{now}."


def _warn_of_gaps(pairing: Pairing) -> None:
    if not pairing.pairs:
        said = f"{pairing.label}: not compared, because no item was answered by both models."
        pairing.warnings = [Notice(NoticeCode.NOT_COMPARED, said)]
    for who, side in (("the baseline", 0), (pairing.label, 1)):
        failed = [(gap.task, gap.failed[side]) for gap in pairing.gaps]
        if any(count for _, count in failed):
            said = f"{who} failed on answers that were not asked again ({listed(failed)}); they count as missing."
            pairing.warn(NoticeCode.FAILED_ANSWERS, said)
    if pairing.pairs and pairing.missing:
        pairing.warn(NoticeCode.UNPAIRED_ITEMS, _unpaired(pairing))
    if pairing.fewer_reruns:
        said = f"{pairing.label}: baseline and variant have unequal numbers of reruns ({some(pairing.fewer_reruns, 3)})."
        pairing.warn(NoticeCode.FEWER_RERUNS, said)
    if pairing.owed:
        owed = f"{pairing.owed} samples of it and the baseline are still owed"
        pairing.warn(NoticeCode.OWED_ANSWERS, f"{pairing.label}: {owed}; the run is incomplete.")


def _unpaired(pairing: Pairing) -> str:
    sides = [
        f"{who} lacks {listed(counts)}"
        for who, side in (("the baseline", 0), (pairing.variant, 1))
        if any(count for _, count in (counts := [(gap.task, gap.missing[side]) for gap in pairing.gaps]))
    ]
    lacking = f" ({'; '.join(sides)})" if sides else ""
    return f"{pairing.label}: {pairing.missing:,} items do not pair with the baseline{lacking}."
