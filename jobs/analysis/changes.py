"""What changed beside the scores: every measurement of every variant, apart from the verdict on quality."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.control import controls_of
from jobs.analysis.pairing import PairedTask
from jobs.analysis.request import AnalyzeRequest
from jobs.formats.notices import Notice, NoticeCode
from jobs.scores.score_set import Column
from orchestrator.rundir.measurements import BY_NAME, CALLED, MEASUREMENTS, Measurement
from stats.change import Change, ChangeVerdict, conclude_changes, measure_change, trigger_f1
from stats.drop import evidence_of
from stats.results import NAN
from stats.scores import TaskScores
from stats.verdict import Code

CUT = "cut"
# Items chosen by scores, or not all in
PARTIAL = {Code.ESTIMATE_AFTER_STOP, Code.LOOKS_PENDING, Code.RELEASE_BLOCKED}


def measure_changes(analysis: Analysis, request: AnalyzeRequest) -> Analysis:
    """An analysis with the changes of its variants, and a warning where truncation is one of them.

    The items are those that the verdict counts. A policy's tolerances take the place of the usual ones. The
    items of a variant that was stopped early were chosen by their scores, so nothing is tested there. How far
    a variant's distributions are from the baseline's is compared with how far the control's are, since any
    two engines differ by rounding; without a control it is not tested.
    """
    rules = {} if request.policy is None else request.policy.measurements
    alpha, found = analysis.settings.alpha, list[tuple[int, Change]]()
    floors = {control.temperature: control for control in reversed(controls_of(analysis, request))}
    for number, result in enumerate(analysis.results):
        floor = floors.get(result.temperature, result)
        floor_sides = {task.info.name: task.sides[1] for task in floor.tasks if floor is not result}
        for one in MEASUREMENTS:
            tasks = [task for task in result.tasks if task.scores is not None]
            against = floor_sides if not one.column and floor_sides else None
            values = [pairs for task in tasks if (pairs := paired_values(task, one, against)) is not None]
            if values:
                change = measure_change(
                    one.name,
                    values,
                    relative=one.relative,
                    tolerance=rules[one.name].within if one.name in rules else one.within,
                    alpha=alpha,
                    tested=one.tested and not PARTIAL & set(result.comparison.reason_codes),
                    may_swap=all(task.scores.answers is None for task in tasks if task.scores),
                )
                if not one.column and not against:
                    change = replace(change, p=NAN, differs=True)
                found.append((number, change))
    concluded = conclude_changes([change for _, change in found], alpha)
    changes: list[list[Change]] = [[] for _ in analysis.results]
    for (number, _), change in zip(found, concluded, strict=True):
        changes[number].append(change)
    both = zip(analysis.results, changes, strict=True)
    results = tuple(
        replace(result, changes=tuple(own), calls=compare_calls(result, alpha)) for result, own in both
    )
    said = [notice for of in (_of_truncation, _of_calls) for one in results for notice in of(one, alpha)]
    return replace(analysis, results=results, warnings=(*analysis.warnings, *said))


def paired_values(
    task: PairedTask,
    measurement: Measurement,
    against: Mapping[str, Column] | None = None,
    *,
    even: bool = False,
) -> TaskScores | None:
    """A measurement in the place of the scores of a task with common items; None where no item has it.

    With `even`, only of items with as many reruns of the one model as of the other. The columns to compare it
    with, by task, are the baseline's unless others are given.
    """
    base = task.sides[0] if against is None else against.get(task.info.name)
    values = [None if side is None else side.measured.get(measurement.name) for side in (base, task.sides[1])]
    if task.scores is None or values[0] is None or values[1] is None:
        return None
    first, second = (np.asarray(one[task.common], dtype=np.float64) for one in values if one is not None)
    known = ~(np.isnan(first) | np.isnan(second) | (task.scores.unequal & even))
    if not known.any():
        return None
    return task.scores.part(
        known, baseline=first[known], variant=second[known], bounds=measurement.bounds, higher_is_better=True
    )


def _of_truncation(result: VariantResult, alpha: float) -> Iterator[Notice]:
    """The drop among answers that neither side cut, where one side was cut more often."""
    cut = next((change for change in result.changes if change.measurement == CUT), None)
    if cut is None or cut.verdict is not ChangeVerdict.CHANGED:
        return
    shares = f"{cut.variant_mean:.1%} of its answers and {cut.baseline_mean:.1%} of the baseline's"
    said = f"{result.label}: the limit of tokens cut {shares}."
    whole = []
    for task in result.tasks:
        if task.scores is not None and result.comparison.margin_unit == "share":
            sides = [side.measured.get(CUT, np.ones(task.common.size))[task.common] for side in task.sides]
            if (kept := (sides[0] == 0.0) & (sides[1] == 0.0)).any():
                whole.append(task.scores.part(kept))
    if whole:
        items, evidence = sum(task.baseline.size for task in whole), evidence_of(whole)
        low, high = evidence.interval(alpha)
        said += (
            f" Among the {items:,} items where none was cut the drop is {100 * evidence.mean:.2f} points "
            f"[{100 * low:.2f}, {100 * high:.2f}]; over all items it is {100 * result.comparison.drop:.2f}. "
            "Items without cuts are no random part of all, so this is no verdict."
        )
    yield Notice(NoticeCode.TRUNCATION_DIFFERS, said)


def compare_calls(result: VariantResult, alpha: float) -> dict[str, Any] | None:
    """Whether tools are called in the same conversations, with the F1 score of the vendors' verifiers.

    Sums of shares where items have several reruns; None where no tool is called. No interval holds where
    scores have chosen the items.
    """
    found = [paired_values(task, BY_NAME[CALLED]) for task in result.tasks]
    pairs = [one for one in found if one is not None]
    both = sum(float(one.baseline @ one.variant) for one in pairs)
    base, variant = (
        sum(float(getattr(one, side).sum()) for one in pairs) for side in ("baseline", "variant")
    )
    if not base + variant:
        return None
    f1, interval = trigger_f1(pairs, alpha)
    alone = {"baseline_only": base - both, "variant_only": variant - both}
    is_whole = not PARTIAL & set(result.comparison.reason_codes)
    return {"both": both, **alone, "f1": f1, "f1_interval": list(interval) if is_whole else None}


def _of_calls(result: VariantResult, _: float) -> Iterator[Notice]:
    """The same as a sentence."""
    if calls := result.calls:
        interval = "" if (ends := calls["f1_interval"]) is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
        both, base, variant = (f"{calls[name]:g}" for name in ("both", "baseline_only", "variant_only"))
        yield Notice(
            NoticeCode.TRIGGERS,
            f"{result.label}: both models call a tool in {both} conversations, only the baseline in {base}, "
            f"only the variant in {variant}: F1 {calls['f1']:.3f}{interval}.",
        )
