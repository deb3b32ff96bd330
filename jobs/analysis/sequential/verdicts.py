"""The verdicts of a run that stops early: those of its looks, recomputed from the samples.

No test of the fixed analysis is run: at a stop that the scores have chosen it would not hold its level. When
a comparison is decided, blocks of it are in flight; whether they are written depends on the machines. So what
describes a comparison counts the items of its deciding look alone, as a pure function of the plan and the
scores; if the rest was asked for later, all items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from jobs.analysis import compare
from jobs.analysis.pairing import Pairing, pair_up
from jobs.analysis.request import AnalyzeRequest
from jobs.analysis.sequential.ledger import note_looks
from jobs.analysis.sequential.monitor import Place, RunMonitor, follow
from jobs.analysis.sequential.refusals import plan_settings
from jobs.formats.notices import Notice, NoticeCode, once
from jobs.formats.samples import Temperature
from jobs.scores.score_set import ScoreSet, TaskTable
from orchestrator.errors import UserError
from stats.arrays import Ints
from stats.sequential.monitor import Course
from stats.sequential_conclusion import conclude_course

Items = Mapping[str, Ints]
"""Numbers of items, by task."""

Key = tuple[str, Temperature]
"""Model and temperature."""


def analyze_by_looks(scores: ScoreSet, request: AnalyzeRequest) -> compare.Analysis:
    """Compare every variant of a run that stops early.

    Args:
        scores: those of that run alone.
        request: what to compare; it may ask for nothing that is not in the plan.

    Raises:
        UserError: if something else is asked for, the run contradicts its plan, nothing pairs, too little
            pairs, or a strict request finds a record of looks that the samples do not give.
    """
    settings = plan_settings(scores, request)
    baseline, monitor = compare.choose_baseline(scores, request.baseline), follow(scores.runs[0])
    courses = monitor.courses()
    noted = note_looks(scores.runs[0], monitor.digests, courses)
    if request.strict and noted:
        raise UserError(f"{noted[0].text} --strict refuses that.")
    plan, finished = monitor.plan.plan, monitor.plan.finished
    said, results, pairings = list[Notice](), list[compare.VariantResult](), list[Pairing]()
    late, is_open = 0, False
    for place, course in courses.items():
        if place[0] not in scores.models or request.temperature not in {None, place[1]}:
            continue
        pairing, owed = _count(scores, baseline, place, monitor, course)
        pairings.append(pairing)
        late += owed
        is_open |= course.verdict is None or bool(owed) or not pairing.pairs
        if course.verdict is None:
            pending = f"no verdict yet after {len(course.looks)} of {plan.stopping.looks} looks"
        else:
            pending = f"{owed:,} of the samples that were asked for after the decision have not been run yet"
        if course.verdict is None or owed:
            text = f"{pairing.label}: {pending}; the run is incomplete."
            said.append(Notice(NoticeCode.OWED_ANSWERS, text))
        said += pairing.warnings
        if pairing.pairs:
            own, is_whole = monitor.plan.plan_of(place), finished and not owed
            concluded = conclude_course(pairing.scores, pairing.absent, course, own, finished=is_whole)
            looks = plan.stopping.looks
            results.append(
                compare.VariantResult(
                    **vars(pairing), comparison=concluded, course=course, looks_planned=looks
                )
            )
    compare.usable_pairings(scores, baseline, pairings, request)
    missing = compare.missing_temperatures(scores, baseline, request.temperature)
    return compare.Analysis(
        baseline,
        settings,
        once((*scores.warnings, *noted, *missing, *said)),
        tuple(results),
        scores if finished and not late else _counting(scores, baseline, monitor, courses),
        incomplete=is_open,
        gaps=compare.has_gaps(scores, pairings, missing),
        plan=plan,
        finished=finished,
    )


def _count(
    scores: ScoreSet, baseline: str, place: Place, monitor: RunMonitor, course: Course
) -> tuple[Pairing, int]:
    """The pairs that count: all in a run that was finished, else those of the last look taken.

    Before the first look these are the items that both models have answered.

    Returns:
        The pairs, and how many samples that were asked for after the decision are not there.
    """
    (variant, temperature), owed = place, 0
    if monitor.plan.finished:
        whole = pair_up(scores, baseline, variant, temperature, None)
        if not whole.owed:
            return _unless_silent(whole), 0
        owed = whole.owed
    items = monitor.plan.items_of(place, len(course.looks))
    keys: list[Key] = [(baseline, temperature), place]
    if not course.looks:
        items = {}
        for table in scores.tasks:
            both = [table.columns[key].answered for key in keys if key in table.columns]
            if both:
                items[table.info.name] = table.items[np.logical_and.reduce(both)]
    part = replace(scores, tasks=tuple(_restricted(table, keys, items) for table in scores.tasks))
    return _unless_silent(pair_up(part, baseline, variant, temperature, None)), owed


def _unless_silent(pairing: Pairing) -> Pairing:
    """A pairing without pairs if a model answered with nothing: the looks took that for wrong answers."""
    if pairing.is_silent:
        why = f"{pairing.label}: not compared, because one of the models answered with nothing."
        tasks = tuple(replace(task, scores=None) for task in pairing.tasks)
        warnings = (*pairing.warnings, Notice(NoticeCode.NOT_COMPARED, why))
        return replace(pairing, tasks=tasks, warnings=warnings)
    return pairing


def _restricted(table: TaskTable, keys: Sequence[Key], items: Items) -> TaskTable:
    """A task with two models at one temperature alone, on the items that count; whole if none are named."""
    if table.info.name not in items:
        return table
    kept = items[table.info.name]
    columns = {key: table.columns[key] for key in keys if key in table.columns}
    return replace(table, columns=columns).at(np.flatnonzero(np.isin(table.items, kept)))


def _counting(
    scores: ScoreSet, baseline: str, monitor: RunMonitor, courses: Mapping[Place, Course]
) -> ScoreSet:
    """The scores that count: of a variant those of its looks, of the baseline those of the longest course."""
    items: dict[Key, Items] = {}
    for place in sorted(courses, key=lambda place: len(courses[place].looks)):
        own = monitor.plan.items_of(place, len(courses[place].looks))
        items[place] = items[baseline, place[1]] = own
    tables = []
    for table in scores.tasks:
        columns = dict(table.columns)
        for key in columns.keys() & items.keys():
            column, counts = columns[key], np.isin(table.items, items[key].get(table.info.name, []))
            columns[key] = replace(
                column,
                scores=np.where(counts, column.scores, np.nan),
                answers=np.where(counts, column.answers, 0),
                marked={code: np.where(counts, known, 0) for code, known in column.marked.items()},
                failed=None if column.failed is None else np.where(counts, column.failed, 0),
            )
        tables.append(replace(table, columns=columns))
    return replace(scores, tasks=tuple(tables))
