"""The files an analysis leaves: verdicts.json for programs, tables for people and spreadsheets.

Numbers are written as they were computed, never rounded: 4.8e-15 must not become 0.0 on the way to a gate.
"""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.group_means import group_rows
from jobs.analysis.sequential.fields import look_fields, looks_taken, plan_fields
from jobs.scores.score_set import ScoreSet, TaskInfo
from stats.results import Comparison
from stats.tasks.combinations import COMBINATIONS

TOTAL = "all"
P_VALUES = tuple(combination.field for combination in COMBINATIONS if combination.keeps_level)
FIELDS = (
    "verdict", "reasons", "reason_codes", "items", "missing", "missing_answers", "failed_answers", "clusters",
    "reruns", "baseline_score", "variant_score", "drop", "drop_interval", "drop_interval_decision",
    "drop_bounds", "worse", "better", "flip_rate", P_VALUES[0], "p_pooled_bounds", *P_VALUES[1:],
    "p_adjusted", "method", "margin", "margin_unit", "p_noninferior", "p_noninferior_paired",
    "p_noninferior_adjusted", "decided_by", "deciding_task", "mde", "items_needed",
)  # fmt: skip
"""The contract of verdicts.json, in its order."""

LIBERAL_P_VALUES = tuple(combination.field for combination in COMBINATIONS if not combination.keeps_level)
"""For tables only: they reject more often than α says."""

SPREAD = {
    "reruns": ("baseline_reruns", "variant_reruns"),
    "drop_interval": ("drop_low", "drop_high"),
    "drop_interval_decision": ("drop_decision_low", "drop_decision_high"),
    "drop_bounds": ("drop_best", "drop_worst"),
    "p_pooled_bounds": ("p_pooled_best", "p_pooled_worst"),
    "missing_answers": ("baseline_missing", "variant_missing"),
    "failed_answers": ("baseline_failed", "variant_failed"),
}
"""Pairs that are two columns in a table."""

Row = dict[str, Any]


def verdicts(analysis: Analysis) -> Row:
    """The content of verdicts.json."""
    return {
        "alpha": analysis.settings.alpha,
        "margin": analysis.settings.margin,
        "baseline": analysis.baseline,
        "missing": analysis.settings.missing,
        "certify": analysis.settings.certify,
        "pair_by": analysis.paired_by,
        "stopping": plan_fields(analysis),
        "samples_digest": analysis.samples_digest,
        "warnings": [notice.text for notice in analysis.warnings],
        "warning_codes": [notice.code for notice in analysis.warnings],
        "comparisons": [_verdict_entry(result) for result in analysis.results],
    }


def verdicts_json(analysis: Analysis) -> str:
    """verdicts.json as text; what is not finite (an effect out of reach) is null."""
    return json.dumps(verdicts(analysis), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def output_files(analysis: Analysis, book: ScoreSet) -> dict[str, str]:
    """The texts of the files by name.

    Args:
        analysis: what was found.
        book: the scores it was found from.
    """
    plain, with_error = group_rows(book, analysis.baseline)
    aggregates = [dict(row) for run in book.runs for row in run.store.read_aggregates()]
    return {
        "verdicts.json": verdicts_json(analysis),
        "summary.csv": _csv(summary_rows(analysis)),
        "model_comparison.csv": _csv(
            [row for result in analysis.results for row in _rows_with_metric(result, with_total=True)]
        ),
        "model_differences.csv": _csv(
            [row for result in analysis.results for row in _difference_rows(result)]
        ),
        "summary_without_stderr.csv": _csv(plain),
        "summary_with_stderr.csv": _csv(with_error),
        **({"aggregates.csv": _csv(aggregates)} if aggregates else {}),
    }


def summary_rows(analysis: Analysis) -> list[Row]:
    """One row per variant and temperature."""
    return [_flat(result, result.comparison) for result in analysis.results]


def task_rows(analysis: Analysis) -> list[Row]:
    """One row per variant, temperature and task."""
    return [row for result in analysis.results for row in _rows_with_metric(result, with_total=False)]


def _verdict_entry(result: VariantResult) -> Row:
    entry = {"variant": result.variant, "temperature": result.temperature, **_entry(result.comparison)}
    entry |= look_fields(result) | {"looks": looks_taken(result)}
    entry["withheld_answers"] = list(result.withheld)
    entry["paired_share"] = _paired_share(result.comparison)
    entry["gaps"] = [
        {
            "task": gap.task,
            "items": gap.items,
            "missing_answers": list(gap.missing),
            "failed_answers": list(gap.failed),
        }
        for gap in result.gaps
    ]
    scales = {pair.info.name: pair.info for pair in result.pairs}
    entry["tasks"] = [
        {"task": task.task, **_scale(scales[task.task or ""]), **_entry(task)}
        for task in result.comparison.tasks
    ]
    return entry


def _paired_share(comparison: Comparison) -> float | None:
    """Share of the items to be compared that both models answered."""
    items = comparison.items + comparison.missing
    return comparison.items / items if items else None


def _scale(info: TaskInfo) -> Row:
    """What a task's scores mean: the metric, its direction and its range."""
    return {
        "metric": info.metric,
        "higher_is_better": info.higher_is_better,
        "range": None if info.bounds is None else list(info.bounds),
    }


def _entry(comparison: Comparison) -> Row:
    return {name: _plain(getattr(comparison, name)) for name in FIELDS}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return getattr(value, "value", value)


def _flat(result: VariantResult, comparison: Comparison) -> Row:
    """One row of a table: the fields of verdicts.json with pairs spread, and some more."""
    row: Row = {
        "variant": result.variant,
        "temperature": result.temperature,
        "task": comparison.task or TOTAL,
    }
    for name, value in _entry(comparison).items():
        if name in SPREAD:
            row |= dict(zip(SPREAD[name], value, strict=True))
        else:
            row[name] = " ".join(value) if name in {"reasons", "reason_codes"} else value
    row |= look_fields(result)
    row["drop_macro"] = comparison.drop_macro
    more = (*LIBERAL_P_VALUES, "p_fisher_chi2", "log_p_pooled", "standard_error", "smallest_p")
    return row | {name: _plain(getattr(comparison, name)) for name in more}


def _rows_with_metric(result: VariantResult, *, with_total: bool) -> list[Row]:
    rows = [
        _flat(result, task) | {"metric": pair.info.metric, "group": pair.info.group or ""}
        for task, pair in zip(result.comparison.tasks, result.pairs, strict=True)
    ]
    total = _flat(result, result.comparison) | {"metric": "", "group": ""}
    return [total, *rows] if with_total else rows


def _difference_rows(result: VariantResult) -> list[Row]:
    """The fourfold table of each task: a both right, b only the baseline, c only the variant, d neither.

    a and d exist only where every item is right or wrong; for graded scores, b and c count the items on
    which the baseline, and the variant, scores higher.
    """
    rows = []
    for pair in result.pairs:
        scores, n = pair.scores, pair.scores.baseline.size
        low, high = scores.bounds or (0.0, 1.0)
        right = high if scores.higher_is_better else low
        ties = scores.differences == 0
        both = int((ties & (scores.baseline == right)).sum()) if scores.binary else None
        rows.append({"task": pair.info.name, "items": n, "a": both, "b": scores.worse, "c": scores.better,
                     "d": None if both is None else int(ties.sum()) - both})  # fmt: skip
    known = [row["a"] for row in rows]
    total: Row = {"task": TOTAL, **{key: sum(row[key] for row in rows) for key in ("items", "b", "c")}}
    for key in ("a", "d"):
        total[key] = None if None in known else sum(row[key] for row in rows)
    return [_with_ratios(result, row) for row in (total, *rows)]


def _with_ratios(result: VariantResult, row: Row) -> Row:
    n, b, c = row["items"], row["b"], row["c"]
    ratios = {
        "disagreement": (b + c) / n,
        "net_disagreement": (b - c) / n,
        "worse_share_of_flips": b / (b + c) if b + c else None,
    }
    counts = {key: row[key] for key in ("task", "items", "a", "b", "c", "d")}
    return {"variant": result.variant, "temperature": result.temperature, **counts, **ratios}


FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r]")
"""What a spreadsheet takes for the beginning of a formula, some after space or in full width."""


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in rows[0]])
    writer.writerows([_cell(row.get(name)) for name in rows[0]] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """A value for a table; a text that would be a formula is marked as text, as spreadsheets do."""
    if isinstance(value, str) and FORMULA.match(value):
        return f"'{value}"
    return "" if value is None else value
