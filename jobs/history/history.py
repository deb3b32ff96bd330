"""A history: models over dates, as a table for the terminal, as JSON and as a picture."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from matplotlib.axes import Axes
from rich.console import Console
from rich.text import Text

from jobs.formats.notices import NoticeCode
from jobs.formats.samples import Temperature
from jobs.history.series import Series, dated_runs, series_of
from jobs.scores.read import read_unlinked
from jobs.scores.score_set import Reading
from jobs.text.decision import place
from jobs.text.figure_style import COLOURS, WIDE, new_figure, plot_style
from jobs.text.format import amount, clean, p_text, score_text
from jobs.text.outputs import json_text, plain
from jobs.text.terminal import fitting
from orchestrator.rundir.whole_files import FileSet

FILES = ("history.svg", "history.json")
HEADER = ("date", "items", "score %", "drop, points", "worse/better", "missing", "p ever")
ROW_HEIGHT = 3.6
ALARM, UNMEASURED = 1, 3


@dataclass(frozen=True)
class History:
    """Models over dates.

    Attributes:
        alpha: probability of any false alarm, ever.
        series: one per model and temperature: `model`, `temperature`, `points`, `alarm`, `since`.
        newest: path or URL of the newest run.
        measured: whether the newest run could be compared.
        warnings: which files of the runs could not be read.
    """

    alpha: float
    series: tuple[Series, ...]
    newest: str
    measured: bool
    warnings: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[Series, ...]:
        """The series with an alarm."""
        return tuple(one for one in self.series if one.alarm is not None)

    @property
    def entry(self) -> dict[str, Any]:
        """The content of history.json, as JSON values; what is not finite is null."""
        return {
            "alpha": self.alpha,
            "warnings": list(self.warnings),
            "series": [_series_entry(one) for one in self.series],
        }

    @property
    def exit_status(self) -> int:
        """That of `lldeg history`: 0, 1 with an alarm, 3 if the newest run could not be compared."""
        return ALARM if self.alarms else 0 if self.measured else UNMEASURED

    def write(self, folder: str) -> None:
        """Write history.json and history.svg in the place of earlier ones; if that fails, neither are there.

        Args:
            folder: path or URL; made if it is not there.

        Raises:
            UserError: the folder cannot be written to.
        """
        contents = dict(zip(FILES, (picture(self.series), json_text(self.entry)), strict=True))
        history_files(folder).replace({name: text.encode() for name, text in contents.items()})


def history_files(folder: str) -> FileSet:
    """The files of a history in a folder, a path or a URL."""
    return FileSet(folder, "history", FILES)


def follow(
    folder: str,
    reading: Reading,
    *,
    reference: str | None,
    alpha: float,
    temperature: Temperature,
) -> History:
    """Follow the models of a folder of runs.

    Args:
        folder: path or URL with a run directory for each date.
        reading: metrics and clusters.
        reference: run whose baseline is the reference on every date; None for the baseline of each run, or
            the first date where runs hold a single model.
        alpha: probability of any false alarm, ever.
        temperature: only this one; None for all.

    Raises:
        UserError: a run cannot be read or has no date, or nothing can be compared.
    """
    runs = dated_runs(folder, reading)
    old = None if reference is None else read_unlinked([reference], reading)
    series = series_of(runs, old, alpha=alpha, temperature=temperature, cluster=reading.cluster)
    measured = any(one.points[-1].run is runs[-1] for one in series)
    read = [run.scores for run in runs] + ([] if old is None else [old])
    notices = [notice for scores in read for notice in scores.warnings]
    damaged = tuple(notice.text for notice in notices if notice.code is NoticeCode.UNREADABLE_FILES)
    return History(alpha, series, runs[-1].location, measured, damaged)


def print_history(history: History, console: Console) -> None:
    """Show a table for every series, and its alarm."""
    for series in history.series:
        dates, alarm = date_text([point.date for point in series.points]), series.watched.alarm
        said = f"No alarm. The probability of ever raising a false alarm is at most {history.alpha:g}."
        if alarm is not None:
            since = dates[series.watched.starts[alarm]]
            said = f"ALARM on {dates[alarm]}: worse than the reference, based on the evidence since {since}."
        title = f"{place(series.model, series.temperature)}, compared with {clean(series.reference)}"
        console.print(Text(title, style="bold"))
        console.print(fitting(HEADER, _rows(series, dates), console.width))
        console.print(Text(said, style="bold red" if series.alarm else ""))
        console.print()


def date_text(moments: Sequence[datetime]) -> list[str]:
    """Dates for people: without the time of day where every day has one run."""
    days = [f"{moment:%Y-%m-%d}" for moment in moments]
    if len(set(days)) == len(days):
        return days
    return [f"{moment:%Y-%m-%d %H:%M}" for moment in moments]


def ever_p(series: Series) -> list[float]:
    """After each date, the smallest level of the history at which there would have been an alarm so far."""
    best, found = -math.inf, []
    for evidence in series.watched.log_evidence:
        best = max(best, float(evidence))
        found.append(min(1.0, math.exp(-best)))
    return found


def _rows(series: Series, dates: Sequence[str]) -> list[tuple[str, ...]]:
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
    alarm, since, watched = series.alarm, series.since, series.watched
    return {
        "model": series.model,
        "temperature": series.temperature,
        "reference": series.reference,
        "threshold": watched.threshold,
        "alarm": None if alarm is None else alarm.date.isoformat(),
        "since": None if since is None else since.date.isoformat(),
        "points": [
            {
                "date": point.date.isoformat(),
                "run": point.run.location,
                "items": point.comparison.items,
                "missing_share": point.missing_share,
                "reference_score": point.comparison.baseline_score,
                "score": point.comparison.variant_score,
                "drop": point.comparison.drop,
                "drop_interval": plain(point.comparison.drop_interval),
                "worse": point.comparison.worse,
                "better": point.comparison.better,
                "log_evidence": float(watched.log_evidence[number]),
                "evidence_since": series.points[watched.starts[number]].date.isoformat(),
                "p_ever": p,
            }
            for number, (point, p) in enumerate(zip(series.points, ever_p(series), strict=True))
        ],
    }


def picture(series: Sequence[Series]) -> str:
    """The picture as SVG, the same bytes each time."""
    with plot_style():
        figure = new_figure(WIDE + 2.0, ROW_HEIGHT * len(series))
        panels = figure.subplots(len(series), 2, squeeze=False)
        for (left, right), one in zip(panels, series, strict=True):
            _drops(left, one)
            _evidence(right, one)
        figure.autofmt_xdate()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _drops(axes: Axes, series: Series) -> None:
    scale = 1.0 if any(point.comparison.margin_unit != "share" for point in series.points) else 100.0
    dates = [point.date for point in series.points]
    drops = [scale * point.comparison.drop for point in series.points]
    ends = [[scale * end for end in point.comparison.drop_interval] for point in series.points]
    below = [drop - low for drop, (low, _) in zip(drops, ends, strict=True)]
    above = [high - drop for drop, (_, high) in zip(drops, ends, strict=True)]
    axes.errorbar(dates, drops, yerr=[below, above], fmt="o", color=COLOURS[0], capsize=3, linewidth=1.2)  # type: ignore[arg-type]
    axes.axhline(0.0, color="black", linewidth=1.0)
    axes.set_ylabel("drop (points)" if scale == 100.0 else "drop")
    at = "" if series.temperature is None else f", T {series.temperature:g}"
    title = clean(f"{series.model}{at}").replace("$", r"\$")  # in which matplotlib sees no formula
    axes.set_title(title, loc="left")


def _evidence(axes: Axes, series: Series) -> None:
    watched = series.watched
    dates = [point.date for point in series.points]
    axes.plot(dates, watched.log_evidence, color=COLOURS[0], marker="o")  # type: ignore[arg-type]
    axes.axhline(watched.threshold, color=COLOURS[1], linestyle="--", label="alarm")
    if series.alarm is not None:
        axes.axvline(series.alarm.date, color=COLOURS[1], linewidth=1.2)  # type: ignore[arg-type]
    axes.set_ylabel("log evidence")
    axes.legend(loc="upper left")
