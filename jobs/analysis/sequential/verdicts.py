"""The verdicts of a run that stops early: those of its looks, recomputed from the samples.

No test of the fixed analysis is run: at a stop that the scores have chosen it would not hold its level. What
describes a comparison counts the items of its deciding look; if the rest was asked for later, all items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.analysis.compare import (
    Analysis,
    Request,
    VariantResult,
    choose_baseline,
    cut_short,
    missing_temperatures,
    usable_pairings,
)
from jobs.analysis.pair_up import pair_up
from jobs.analysis.pairing import Pairing
from jobs.analysis.sequential.counted import blanked, counted
from jobs.analysis.sequential.followed import Followed, follow
from jobs.analysis.sequential.recorded_looks import note_looks
from jobs.analysis.sequential.run_plan import Place
from jobs.formats.notices import Notice, NoticeCode, once
from jobs.formats.samples import Temperature
from jobs.scores.score_set import ScoreSet, TaskTable
from orchestrator.errors import UserError
from stats.arrays import Ints
from stats.sequential.monitor import Course
from stats.sequential_conclusion import conclude_course


@dataclass(frozen=True)
class _Paired:
    """A comparison of the plan: its looks, and the pairs that count."""

    place: Place
    course: Course
    pairing: Pairing
    owed: int

    @property
    def is_open(self) -> bool:
        """Whether samples are owed: for a verdict, or of those asked for after it."""
        return self.course.verdict is None or bool(self.owed) or not self.pairing.pairs


def analyze_by_looks(book: ScoreSet, request: Request) -> tuple[ScoreSet, Analysis]:
    """Compare every variant of a run that stops early.

    Args:
        book: the scores of that run alone.
        request: what to compare; its settings are those of the plan.

    Returns:
        The scores that count, and what was found.

    Raises:
        UserError: if the run contradicts its plan, nothing pairs, too little pairs, or a strict request finds
            a record of looks that the samples do not give.
    """
    baseline, followed = choose_baseline(book, request.baseline), follow(book.runs[0])
    noted = note_looks(book.runs[0], followed)
    if request.strict and noted:
        raise UserError(f"{noted[0].text} --strict refuses that.")
    paired = [
        _pair(book, baseline, place, followed)
        for place in followed.courses
        if place[0] in book.models and request.temperature in {None, place[1]}
    ]
    for found in paired:
        if found.pairing.is_silent:  # the looks took these answers for wrong ones
            found.pairing.pairs.clear()
            why = f"{found.pairing.label}: not compared, because one of the models answered with nothing."
            found.pairing.warn(NoticeCode.NOT_COMPARED, why)
    usable_pairings(book, baseline, [found.pairing for found in paired], request)
    missing = missing_temperatures(book, baseline, request.temperature)
    said = [notice for found in paired for notice in (*_pending(found, followed), *found.pairing.warnings)]
    analysis = Analysis(
        baseline,
        request.settings,
        once((*book.warnings, *noted, *missing, *said)),
        tuple(_result(found, followed) for found in paired if found.pairing.pairs),
        incomplete=any(found.is_open for found in paired),
        gaps=bool(missing) or cut_short(book) or any(found.pairing.has_gaps for found in paired),
        plan=followed.run.plan,
        finished=followed.finished,
    )
    whole = followed.finished and not any(found.owed for found in paired)
    return book if whole else _counting(book, baseline, followed), analysis


def _pair(book: ScoreSet, baseline: str, place: Place, followed: Followed) -> _Paired:
    """The pairs that count: all in a run that was finished, else those of the last look taken.

    Before the first look these are the items that both models have answered.
    """
    (variant, temperature), course, owed = place, followed.courses[place], 0
    if followed.finished:
        whole = pair_up(book, baseline, variant, temperature, None)
        if not whole.owed:
            return _Paired(place, course, whole, 0)
        owed = whole.owed
    items = followed.items_of(place)
    if not course.looks:
        items = _answered(book.tasks, (baseline, variant), temperature)
    part = counted(book, (baseline, variant), temperature, items)
    return _Paired(place, course, pair_up(part, baseline, variant, temperature, None), owed)


def _answered(
    tables: Sequence[TaskTable], models: tuple[str, str], temperature: Temperature
) -> dict[str, Ints]:
    """Items that both models have answered, by task."""
    found = {}
    for table in tables:
        columns = [table.columns.get((model, temperature)) for model in models]
        both = [column.answered for column in columns if column is not None]
        if both:
            found[table.info.name] = table.items[np.logical_and.reduce(both)]
    return found


def _pending(found: _Paired, followed: Followed) -> list[Notice]:
    """That a comparison has no verdict yet, or that samples asked for later are not there yet."""
    if found.course.verdict is None:
        taken, looks = len(found.course.looks), followed.run.plan.stopping.looks
        said = f"no verdict yet after {taken} of {looks} looks"
    elif found.owed:
        said = f"{found.owed:,} of the samples that were asked for after the decision have not been run yet"
    else:
        return []
    said = f"{found.pairing.label}: {said}; the run is incomplete."
    return [Notice(NoticeCode.OWED_ANSWERS, said)]


def _result(found: _Paired, followed: Followed) -> VariantResult:
    pairing, course = found.pairing, found.course
    comparison = conclude_course(
        [pair.scores for pair in pairing.pairs],
        pairing.absent,
        course,
        followed.plan_of(found.place),
        finished=followed.finished and not found.owed,
    )
    return VariantResult(
        pairing.variant,
        pairing.temperature,
        comparison,
        tuple(pairing.pairs),
        tuple(pairing.gaps),
        pairing.all_withheld,
        course,
        followed.run.plan.stopping.looks,
    )


def _counting(book: ScoreSet, baseline: str, followed: Followed) -> ScoreSet:
    """The scores that count: of a variant those of its looks, of the baseline those of the longest course."""
    items: dict[tuple[str, Temperature], Mapping[str, Ints]] = {}
    for place in sorted(followed.courses, key=lambda place: len(followed.courses[place].looks)):
        items[place] = items[baseline, place[1]] = followed.items_of(place)
    return blanked(book, items)
