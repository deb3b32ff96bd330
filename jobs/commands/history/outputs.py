"""A history as a table for the terminal, as JSON, and as files."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from jobs.commands.history.dated_runs import date_text
from jobs.commands.history.plot import picture
from jobs.commands.history.series import Series
from jobs.text.decision import place
from jobs.text.format import amount, clean, p_text, score_text
from jobs.text.terminal import fitting
from orchestrator.rundir.whole_files import FileSet

FILES = ("history.svg", "history.json")
HEADER = ("date", "items", "score %", "drop, points", "worse/better", "missing", "p ever")


def print_history(series: Sequence[Series], console: Console, alpha: float) -> None:
    """Show a table for every series, and its alarm."""
    for one in series:
        console.print(
            Text(f"{place(one.model, one.temperature)}, compared with {clean(one.reference)}", style="bold")
        )
        console.print(fitting(HEADER, _rows(one), console.width))
        console.print(Text(alarm_text(one, alpha), style="bold red" if one.alarm else ""))
        console.print()


def alarm_text(series: Series, alpha: float) -> str:
    """What the alarm says."""
    alarm = series.watched.alarm
    if alarm is None:
        return f"No alarm. The probability of ever raising a false alarm is at most {alpha:g}."
    dates = date_text([point.date for point in series.points])
    since = dates[series.watched.starts[alarm]]
    return f"ALARM on {dates[alarm]}: worse than the reference, based on the evidence since {since}."


def history_entry(series: Sequence[Series], alpha: float, warnings: Sequence[str]) -> dict[str, Any]:
    """The content of history.json; what is not finite is null."""
    return {"alpha": alpha, "warnings": list(warnings), "series": [_series_entry(one) for one in series]}


def history_json(entry: Mapping[str, Any]) -> str:
    """history.json as text."""
    return json.dumps(entry, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_history(entry: Mapping[str, Any], series: Sequence[Series], out: str) -> None:
    """Put history.json and history.svg in the place of earlier ones; if that fails, neither are there.

    Args:
        entry: the content of history.json.
        series: what was found.
        out: path or URL of the folder, which is made if need be.

    Raises:
        UserError: the folder cannot be written to.
    """
    contents = dict(zip(FILES, (picture(series), history_json(entry)), strict=True))
    history_files(out).replace({name: text.encode() for name, text in contents.items()})


def history_files(out: str) -> FileSet:
    """The files of a history in a folder.

    Args:
        out: path or URL of the folder.
    """
    return FileSet(out, "history", FILES)


def ever_p(series: Series) -> list[float]:
    """After each date, the smallest level of the history at which there would have been an alarm so far."""
    best, found = -math.inf, []
    for evidence in series.watched.log_evidence:
        best = max(best, float(evidence))
        found.append(min(1.0, math.exp(-best)))
    return found


def _rows(series: Series) -> list[tuple[str, ...]]:
    dates = date_text([point.date for point in series.points])
    rows: list[tuple[str, ...]] = []
    for date, point, p in zip(dates, series.points, ever_p(series), strict=True):
        found = point.comparison
        unit = found.margin_unit
        scores = " → ".join(score_text(s, unit) for s in (found.baseline_score, found.variant_score))
        low, high = (amount(end, unit, sign=False) for end in found.drop_interval)
        drop = f"{amount(found.drop, unit)} [{low}, {high}]"
        flips, missing = f"{found.worse}/{found.better}", f"{point.missing_share:.1%}"
        rows.append((date, f"{found.items:,}", scores, drop, flips, missing, p_text(p)))
    return rows


def _series_entry(series: Series) -> dict[str, Any]:
    alarm, since = series.alarm, series.since
    return {
        "model": series.model,
        "temperature": series.temperature,
        "reference": series.reference,
        "threshold": series.watched.threshold,
        "alarm": None if alarm is None else alarm.date.isoformat(),
        "since": None if since is None else since.date.isoformat(),
        "points": [_point_entry(series, number) for number in range(len(series.points))],
    }


def _point_entry(series: Series, number: int) -> dict[str, Any]:
    point, watched = series.points[number], series.watched
    found = point.comparison
    limits = [end if math.isfinite(end) else None for end in found.drop_interval]
    return {
        "date": point.date.isoformat(),
        "run": point.run.location,
        "items": found.items,
        "missing_share": point.missing_share,
        "reference_score": found.baseline_score,
        "score": found.variant_score,
        "drop": found.drop,
        "drop_interval": limits,
        "worse": found.worse,
        "better": found.better,
        "log_evidence": float(watched.log_evidence[number]),
        "evidence_since": series.points[watched.starts[number]].date.isoformat(),
        "p_ever": ever_p(series)[number],
    }
