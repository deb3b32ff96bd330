"""What verdicts.json and the tables say of looks."""

from typing import Any

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.sequential.looks_file import look_json

Row = dict[str, Any]


def look_fields(result: VariantResult) -> Row:
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


def looks_taken(result: VariantResult) -> list[Row] | None:
    """All looks until the decision; null in a run that does not stop early."""
    return None if result.course is None else [look_json(look) for look in result.course.looks]


def plan_fields(analysis: Analysis) -> Row | None:
    """The plan of the looks; null in a run that does not stop early."""
    if analysis.plan is None:
        return None
    stopping = analysis.plan.stopping
    return {
        "looks": stopping.looks,
        "until": stopping.until,
        "spending": {"degraded": str(stopping.degraded), "certified": str(stopping.certified)},
        "comparisons": len(analysis.plan.comparisons),
        "finished": analysis.finished,
    }
