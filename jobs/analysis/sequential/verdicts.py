"""The verdicts of a run that stops early: those of its looks, recomputed from the samples.

No test of the fixed analysis is run: at a stop that the scores have chosen it would not hold its level. When
a comparison is decided, blocks of it are in flight; whether they are written depends on the machines. So what
describes a comparison counts the items of its deciding look alone, as a pure function of the plan and the
scores; if the rest was asked for later, all items.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np

from jobs.analysis import compare
from jobs.analysis.pairing import SIDES, Pairing, pair_up
from jobs.analysis.request import AnalyzeRequest
from jobs.analysis.sequential.ledger import note_looks
from jobs.analysis.sequential.run_monitor import Place, RunMonitor, follow
from jobs.formats.notices import Notice, NoticeCode, once, some
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import Temperature
from jobs.scores.scales import AS_READ
from jobs.scores.score_set import ScoreSet
from orchestrator.errors import UserError
from stats.arrays import Ints
from stats.comparison import conclude_course
from stats.results import Comparison, Settings
from stats.sequential.plan import SequentialPlan


def analyze_by_looks(scores: ScoreSet, request: AnalyzeRequest) -> compare.Analysis:
    """Compare every variant of a run that stops early.

    Raises:
        UserError: if something else is asked for, the run contradicts its plan, nothing pairs, too little
            pairs, or a strict request finds a record of looks that the samples do not give.
    """
    settings = _plan_settings(scores, request)
    baseline, monitor = compare.choose_baseline(scores, request.baseline), follow(scores.runs[0])
    courses, looks = monitor.courses(), monitor.plan.stopping.looks
    noted = note_looks(scores.runs[0], monitor.digests, courses)
    if request.strict and noted:
        raise UserError(f"{noted[0].text} --strict refuses that.")
    said, results, pairings = list[Notice](), list[compare.VariantResult](), list[Pairing]()
    duties = dict[compare.Judged, tuple[Pairing, Comparison | None]]()
    late, is_open, used = 0, False, monitor.looks_used(courses)
    models = {*scores.models} & {*((request.policy and request.policy.variants) or scores.models)}
    for key, course in courses.items():
        if key[0] not in models or request.temperature not in {None, key[1]}:
            continue
        place, own = key[:2], monitor.plan.of(key)
        judged = scores if request.policy is None else _on(scores, {task.task for task in own.tasks})
        pairing, owed = _count(judged, baseline, place, monitor.items_of(key, len(course.looks)), monitor)
        late += owed
        is_open |= course.verdict is None or bool(owed) or not pairing.pairs
        if course.verdict is None or owed:
            pending = f"{owed:,} of the samples that were asked for after the decision have not been run yet"
            if course.verdict is None:
                pending = f"no verdict yet after {len(course.looks)} of {looks} looks"
            text = f"{pairing.label}: {pending}; the run is incomplete."
            said.append(Notice(NoticeCode.OWED_ANSWERS, text))
        concluded, is_whole = None, monitor.finished and not owed
        if pairing.pairs:
            concluded = conclude_course(pairing.scores, pairing.absent, course, own, finished=is_whole)
        duties[key] = pairing, concluded
        if key[2] is not None:
            continue
        pairings.append(pairing)
        said += pairing.warnings
        if concluded is not None:
            result = compare.VariantResult(
                **vars(pairing), comparison=concluded, course=course, looks_planned=looks
            )
            results.append(result)
            items = monitor.items_of(key, used[place][0], watched=True)
            for name in monitor.watched(place):
                pairing, _ = _count(_on(scores, {name}), baseline, place, items, monitor)
                untested = pairing.pairs and conclude_course(pairing.scores, [], course, own).tasks[0]
                duties[*place, name] = pairing, untested or None
    compare.usable_pairings(scores, baseline, pairings, request)
    missing = compare.missing_temperatures(scores, baseline, request.temperature)
    is_whole = monitor.finished and not late
    return compare.Analysis(
        baseline,
        settings,
        once((*scores.warnings, *noted, *missing, *said)),
        tuple(results),
        scores if is_whole else _counting(scores, baseline, monitor, used),
        incomplete=is_open,
        gaps=compare.has_gaps(scores, pairings, missing),
        plan=monitor.plan,
        duties=duties,
        finished=monitor.finished,
    )


def _on(scores: ScoreSet, tasks: Collection[str]) -> ScoreSet:
    return replace(scores, tasks=tuple(table for table in scores.tasks if table.info.name in tasks))


def _count(
    scores: ScoreSet, baseline: str, place: Place, items: Mapping[str, Ints], monitor: RunMonitor
) -> tuple[Pairing, int]:
    """The pairs that count: all in a run that was finished, else those of some items, by task.

    Where there are none, before the first look, these are the items that both models have answered.

    Returns:
        The pairs, and how many samples that were asked for after the decision are not there.
    """
    (variant, temperature), owed = place, 0
    if monitor.finished:
        whole = pair_up(scores, baseline, variant, temperature, None)
        if not whole.owed:
            return _unless_silent(whole), 0
        owed = whole.owed
    tables, is_begun = [], any(own.size for own in items.values())
    for table in scores.tasks:
        name, models = table.info.name, {baseline, variant}
        own = {key: c for key, c in table.columns.items() if key[1] == temperature and key[0] in models}
        counts = [column.answered for column in own.values()]
        if is_begun:
            counts = [np.isin(table.items, items[name])] if name in items else []
        if counts:
            kept = np.flatnonzero(np.logical_and.reduce(counts))
            tables.append(replace(table, columns=own).at(kept))
        else:
            tables.append(table)
    part = replace(scores, tasks=tuple(tables))
    return _unless_silent(pair_up(part, baseline, variant, temperature, None)), owed


def _unless_silent(pairing: Pairing) -> Pairing:
    """A pairing without pairs if a model answered with nothing: the looks took that for wrong answers."""
    if any(task.is_silent(side) for task in pairing.tasks for side in SIDES):
        why = f"{pairing.label}: not compared, because one of the models gave no answers."
        tasks = tuple(replace(task, scores=None) for task in pairing.tasks)
        warnings = (*pairing.warnings, Notice(NoticeCode.NOT_COMPARED, why))
        return replace(pairing, tasks=tasks, warnings=warnings)
    return pairing


def _counting(
    scores: ScoreSet, baseline: str, monitor: RunMonitor, used: Mapping[Place, tuple[int, bool]]
) -> ScoreSet:
    """The scores that count: of a variant those of its looks, of the baseline those of the longest course."""
    items: dict[tuple[str, Temperature], Mapping[str, Ints]] = {}
    for place in sorted(used, key=lambda place: used[place]):
        own = monitor.items_of((*place, None), used[place][0], watched=True)
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


def _plan_settings(scores: ScoreSet, request: AnalyzeRequest) -> Settings:
    """The settings that the plan of a run has.

    Another choice would be made on scores that have been seen, so it is refused; None, or the default of a
    test, stands for the plan's own.

    Raises:
        UserError: if something else is asked for; it names all of it and what the plan has. Or if other runs
            are to be pooled with it.
    """
    if len(scores.runs) > 1:
        name = next(run.location for run in scores.runs if "stopping" in run.manifest)
        raise UserError(
            f"{name} stops variants early by a plan of its own, so it cannot be pooled with other runs: "
            "analyze it alone."
        )
    run = scores.runs[0]
    if planned := list(_other_choices(scores, run, request)):
        raise UserError(
            f"{run.location} stops variants early by a plan that was fixed before its first answer, with "
            f"{', '.join(planned)}: leave these options out."
        )
    entry = run.manifest["stopping"]
    several = len(entry["comparisons"]) > 1 or "policy" in entry
    certificate = entry.get("certificate", Settings.certificate)
    return Settings(
        entry["alpha"], entry["margin"], adjust="holm" if several else "none", certificate=certificate
    )


def _other_choices(scores: ScoreSet, run: RunFiles, request: AnalyzeRequest) -> Iterator[str]:
    """What the plan has where something else is asked for."""
    entry = run.manifest["stopping"]
    numbers = {"alpha": ("level", entry["alpha"]), "margin": ("margin", entry["margin"])}
    for name, (what, number) in numbers.items():
        asked = request.stated(name)
        if asked is not None and asked != number:
            yield f"the {what} {number:g} (not --{name} {asked:g})"
    tests = {
        "combine": ("the statistic", SequentialPlan.combine),
        "adjust": ("adjustment by", SequentialPlan.adjust),
        "missing": ("missing answers at their", Settings.missing),
        "certify": ("certificates for", Settings.certify),
        "certificate": ("the certificate", entry.get("certificate", Settings.certificate)),
    }
    for name, (what, planned) in tests.items():
        chosen = getattr(request, name)
        if chosen not in {planned, getattr(Settings, name)}:  # `maxt` is what Holm replaces here
            yield f"{what} {planned} (not --{name} {chosen})"
    for table in scores.tasks:
        metric = entry["metrics"].get(table.info.name, table.info.metric)
        if metric != table.info.metric:
            yield f"the metric {metric} of {table.info.name} (not {table.info.metric})"
    columns = {task.get("cluster") for task in run.tasks.values()} - {None}
    has_none = not columns and not any(table.links is not None for table in scores.tasks)
    if (
        request.cluster is not None
        and columns != {request.cluster}
        and not (request.cluster == "none" and has_none)
    ):
        own = f"clusters by {some(sorted(map(str, columns)))}" if columns else "the clusters of the run"
        yield f"{own} (not --cluster {request.cluster})"
    if request.scales != AS_READ:
        yield "the scales of the run (not --range, --margin TASK=M or another direction)"
    if request.baseline not in {None, run.baseline}:
        yield f"the baseline {run.baseline} (not --baseline {request.baseline})"
