"""The files an analysis leaves: verdicts.json for programs, tables for people and spreadsheets.

Numbers are written as they were computed, never rounded: 4.8e-15 must not become 0.0 on the way to a gate.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.pairing import SIDES
from jobs.analysis.policy import Decision
from jobs.formats.samples import Temperature
from jobs.scores.score_set import ScoreSet, TaskTable
from jobs.text.reasons import worded
from orchestrator.rundir.measurements import BY_NAME
from stats.arrays import Floats
from stats.change import Change
from stats.results import TABLES_ONLY, Comparison

TOTAL = "all"
# The contract of verdicts.json, in its order
FIELDS = tuple(f.name for f in fields(Comparison) if f.name not in {*TABLES_ONLY, "task", "tasks"})
# Of a comparison, in decision.json
CASE_FIELDS = (
    "items", "baseline_score", "variant_score", "drop", "drop_interval_decision", "worse", "better",
    "p_pooled", "p_joint", "p_adjusted", "p_noninferior", "margin", "margin_unit",
)  # fmt: skip
# Pairs that are two columns in a table
SPREAD = {
    "reruns": ("baseline_reruns", "variant_reruns"),
    "drop_interval": ("drop_low", "drop_high"),
    "drop_interval_decision": ("drop_decision_low", "drop_decision_high"),
    "drop_interval_simultaneous": ("drop_simultaneous_low", "drop_simultaneous_high"),
    "drop_bounds": ("drop_best", "drop_worst"),
    "p_pooled_bounds": ("p_pooled_best", "p_pooled_worst"),
    "missing_answers": ("baseline_missing", "variant_missing"),
    "failed_answers": ("baseline_failed", "variant_failed"),
}
CHANGE_FIELDS = tuple(f.name for f in fields(Change) if f.repr)
Row = dict[str, Any]


def plain(value: Any) -> Any:
    """A value for JSON; what is not finite (an effect out of reach) is null."""
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return getattr(value, "value", value)


def json_text(content: Row) -> str:
    """A file of JSON for people, too."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def verdicts(analysis: Analysis) -> Row:
    """The content of verdicts.json."""
    plan, stopping = analysis.plan, None
    if plan is not None:
        how = plan.stopping
        stopping = {
            "looks": how.looks,
            "until": how.until,
            "spending": {"degraded": str(how.degraded), "certified": str(how.certified)},
            "comparisons": len(plan.comparisons),
            "finished": analysis.finished,
        }
    return {
        "alpha": analysis.settings.alpha,
        "margin": analysis.settings.margin,
        "baseline": analysis.baseline,
        "missing": analysis.settings.missing,
        "certify": analysis.settings.certify,
        "certificate": analysis.settings.certificate,
        "pair_by": analysis.scores.paired_by or "id",
        "stopping": stopping,
        "samples_digest": analysis.samples_digest,
        "spent": {name: cost for run in analysis.scores.runs for name, cost in run.spent.items()},
        "warnings": [notice.text for notice in analysis.warnings],
        "warning_codes": [notice.code for notice in analysis.warnings],
        "comparisons": [_verdict_entry(result) for result in worded(analysis).results],
    }


def decision_entry(decision: Decision) -> Row:
    """The content of decision.json."""
    return {
        "decision": decision.status.value,
        "exit_status": decision.exit_status,
        "alpha": decision.alpha,
        "family": decision.family,
        "baseline": decision.baseline,
        "reasons": [reason._asdict() for reason in decision.reasons],
        "cases": [
            {
                "variant": case.variant,
                "temperature": case.temperature,
                "task": case.demand.task,
                "status": case.status.value,
                "reasons": [reason._asdict() for reason in case.reasons],
                "rule": case.demand.rule,
                "require": case.demand.require,
                "alpha": case.demand.settings.alpha,
                "min_items": case.demand.min_items,
                "max_missing": case.demand.max_missing,
                "missing_share": list(case.missing_share),
                "measurement": case.demand.measurement,
                "within": case.demand.within,
                "change": case.change and change_entry(case.change),
                **{name: plain(getattr(case.comparison, name, None)) for name in CASE_FIELDS},
            }
            for case in decision.cases
        ],
    }


def output_files(analysis: Analysis) -> dict[str, str]:
    """The texts of the files by name."""
    plain_means, with_error = group_rows(analysis.scores, analysis.baseline)
    aggregates = [dict(row) for run in analysis.scores.runs for row in run.store.read_aggregates()]
    rows, differences, changes = list[Row](), list[Row](), list(_change_rows(analysis))
    for result in worded(analysis).results:
        rows += [_flat(result, result.comparison) | {"metric": "", "group": ""}, *_task_rows(result)]
        differences += _difference_rows(result)
    return {
        "verdicts.json": json_text(verdicts(analysis)),
        "summary.csv": csv_text(summary_rows(analysis)),
        "model_comparison.csv": csv_text(rows),
        "model_differences.csv": csv_text(differences),
        "summary_without_stderr.csv": csv_text(plain_means),
        "summary_with_stderr.csv": csv_text(with_error),
        **({"measurements.csv": csv_text(changes)} if changes else {}),
        **({"aggregates.csv": csv_text(aggregates)} if aggregates else {}),
    }


def summary_rows(analysis: Analysis, *, by_task: bool = False) -> list[Row]:
    """One row per variant and temperature, or per variant, temperature and task."""
    results = worded(analysis).results
    if by_task:
        return [row for result in results for row in _task_rows(result)]
    return [_flat(result, result.comparison) for result in results]


def _verdict_entry(result: VariantResult) -> Row:
    comparison = result.comparison
    asked = comparison.items + comparison.missing
    return {
        "variant": result.variant,
        "temperature": result.temperature,
        **_entry(comparison),
        **_look_fields(result),
        "looks": None if result.course is None else [plain(asdict(look)) for look in result.course.looks],
        "withheld_answers": [sum(task.sides[side].withheld for task in result.tasks) for side in SIDES],
        "paired_share": comparison.items / asked if asked else None,
        "gaps": [
            {
                "task": gap.task,
                "items": gap.items,
                "missing_answers": list(gap.missing),
                "failed_answers": list(gap.failed),
            }
            for gap in result.gaps
        ],
        "changes": [change_entry(change) for change in result.changes],
        "calls": result.calls,
        "speed_note": result.speed_note,
        "tasks": [
            {
                "task": task.task,
                "metric": info.metric,
                "higher_is_better": info.higher_is_better,
                "range": plain(info.bounds),
                **_entry(task),
            }
            for task, (info, _) in zip(comparison.tasks, result.pairs, strict=True)
        ],
    }


def change_entry(change: Change) -> Row:
    """The fields of a measurement."""
    one = BY_NAME[change.measurement]
    own = {name: plain(getattr(change, name)) for name in CHANGE_FIELDS}
    return own | {"unit": one.unit, "better": one.better}


def _change_rows(analysis: Analysis) -> Iterator[Row]:
    for result in analysis.results:
        for change in result.changes:
            entry = change_entry(change)
            low, high = entry.pop("change_interval")
            head = {"variant": result.variant, "temperature": result.temperature}
            yield head | entry | {"change_low": low, "change_high": high}


def _entry(comparison: Comparison) -> Row:
    return {name: plain(getattr(comparison, name)) for name in FIELDS}


def _look_fields(result: VariantResult) -> Row:
    """What a table has room for; null in a run that does not stop early."""
    course = result.course
    if course is None:
        return dict.fromkeys(("look", "looks_planned", "share_used", "stopped"))
    return {
        "look": len(course.looks) if course.verdict is not None else None,
        "looks_planned": result.looks_planned,
        "share_used": course.share_used,
        "stopped": course.stopped,
    }


def _flat(result: VariantResult, comparison: Comparison) -> Row:
    """One row of a table: the fields of verdicts.json with pairs spread, and some more."""
    task = comparison.task or TOTAL
    row: Row = {"variant": result.variant, "temperature": result.temperature, "task": task}
    for name, value in _entry(comparison).items():
        if name in SPREAD:
            row |= dict(zip(SPREAD[name], value, strict=True))
        else:
            row[name] = " ".join(value) if name in {"reasons", "reason_codes"} else value
    return row | _look_fields(result) | {name: plain(getattr(comparison, name)) for name in TABLES_ONLY}


def _task_rows(result: VariantResult) -> list[Row]:
    return [
        _flat(result, task) | {"metric": info.metric, "group": info.group or ""}
        for task, (info, _) in zip(result.comparison.tasks, result.pairs, strict=True)
    ]


def _difference_rows(result: VariantResult) -> Iterator[Row]:
    """The fourfold table of each task: a both right, b only the baseline, c only the variant, d neither.

    a and d exist only where every item is right or wrong; for graded scores, b and c count the items on
    which the baseline, and the variant, scores higher.
    """
    rows: list[Row] = []
    for scores in result.scores:
        n = scores.baseline.size
        low, high = scores.bounds or (0.0, 1.0)
        right = high if scores.higher_is_better else low
        ties = scores.differences == 0
        both = int((ties & (scores.baseline == right)).sum()) if scores.binary else None
        rows.append({"task": scores.task, "items": n, "a": both, "b": scores.worse, "c": scores.better,
                     "d": None if both is None else int(ties.sum()) - both})  # fmt: skip
    total: Row = {"task": TOTAL}
    for key in ("items", "a", "b", "c", "d"):
        known = [row[key] for row in rows]
        total[key] = None if None in known else sum(known)
    for row in (total, *rows):
        n, b, c = row["items"], row["b"], row["c"]
        shares = {"disagreement": (b + c) / n, "net_disagreement": (b - c) / n}
        shares["worse_share_of_flips"] = b / (b + c) if b + c else None
        yield {"variant": result.variant, "temperature": result.temperature, **row, **shares}


def group_rows(scores: ScoreSet, baseline: str) -> tuple[list[Row], list[Row]]:
    """Rows of summary_without_stderr.csv and summary_with_stderr.csv: one per temperature and group.

    Means are over the items that each model answered, per task group, or task where it has none. The column
    of the baseline comes first.
    """
    models = [baseline, *(model for model in scores.models if model != baseline)]
    temperatures = {t for table in scores.tasks for _, t in table.columns}
    plain_means, with_error = [], []
    for temperature in sorted(temperatures, key=lambda t: -1.0 if t is None else t):
        groups: dict[str, list[TaskTable]] = {}
        for table in scores.tasks:
            if any(t == temperature for _, t in table.columns):
                groups.setdefault(table.info.group or table.info.name, []).append(table)
        for group, tables in groups.items():
            head: Row = {"group": group, "temperature": temperature, "tasks": len(tables)}
            means = {model: _mean_and_error(tables, model, temperature) for model in models}
            plain_means.append(head | {model: mean for model, (mean, _) in means.items()})
            for model, (mean, error) in means.items():
                head |= {model: mean, f"{model}_stderr": error}
            with_error.append(head)
    return plain_means, with_error


def _mean_and_error(
    tables: Sequence[TaskTable], model: str, temperature: Temperature
) -> tuple[float | None, float | None]:
    scores, bounds = [], []
    for table in tables:
        column = table.columns.get((model, temperature))
        if column is not None and column.answered.any():
            scores.append(column.scores[column.answered])
            bounds.append(table.info.bounds)
    return (float(np.concatenate(scores).mean()), standard_error(scores, bounds)) if scores else (None, None)


def standard_error(scores: Sequence[Floats], bounds: Sequence[tuple[float, float] | None]) -> float | None:
    """Standard error of the mean over all items of several tasks, the tasks being fixed.

    Where all items agree the sample variance is 0, which claims certainty that n items cannot give: the
    variance of the sample with one more right and one more wrong item (Laplace) takes its place.

    Returns:
        √(Σ n_t s_t²)/Σ n_t of one mean per item of each task; None where a single item or an unbounded
        constant leaves it unknown.
    """
    weighted = 0.0
    for values, limits in zip(scores, bounds, strict=True):
        if values.size > 1 and float(np.ptp(values)) > 0:
            variance = float(values.var(ddof=1))
        elif limits is not None:
            variance = float(np.append(values, limits).var(ddof=1))
        else:
            return None
        weighted += values.size * variance
    return float(np.sqrt(weighted) / sum(values.size for values in scores))


# What a spreadsheet takes for the beginning of a formula, some after space or in full width
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r]")


def csv_text(rows: Sequence[Row]) -> str:
    """A table with the columns of its first row; a text that would be a formula is marked as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for values in (rows[0], *([row.get(name) for name in rows[0]] for row in rows)):
        writer.writerow(
            f"'{value}" if isinstance(value, str) and FORMULA.match(value) else "" if value is None else value
            for value in values
        )
    return text.getvalue()
