"""A model over dates, and an alarm that stays valid however long one watches.

A folder of dated runs gives one series per model and temperature. What the answers of a date are compared
with is the baseline of the same run, or one old run. A history is a table, JSON and a picture.
"""

import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from jobs.analysis.pairing import Pairing, pair_up
from jobs.formats.notices import NoticeCode
from jobs.formats.run_files import runs_in
from jobs.formats.samples import Temperature
from jobs.scores.read import read_unlinked
from jobs.scores.score_set import Column, Reading, ScoreSet
from jobs.text.decision import place
from jobs.text.figure_style import COLOURS, WIDE, new_figure, plot_style
from jobs.text.format import amount, clean, p_text, score_text
from jobs.text.outputs import json_text, plain
from jobs.text.terminal import fitting
from orchestrator.errors import UserError
from orchestrator.rundir.progress import EVENTS
from orchestrator.rundir.store import RunStore
from orchestrator.rundir.whole_files import FileSet
from stats.arrays import block_sums
from stats.comparison import compare
from stats.results import Comparison, Settings
from stats.scores import TaskScores
from stats.watch import DateFlips, Watched, process_weights, watch

DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[T_ -]?(\d{2})[:.-]?(\d{2}))?(?!\d)")

FILES = ("history.svg", "history.json")
HEADER = ("date", "items", "score %", "drop, points", "worse/better", "missing", "p ever")
ROW_HEIGHT = 3.6
ALARM, UNMEASURED = 1, 3

Key = tuple[str, Temperature]


@dataclass(frozen=True)
class DatedRun:
    """One run of a history.

    Attributes:
        date: when it was made.
        location: path or URL.
        scores: what it holds.
    """

    date: datetime
    location: str
    scores: ScoreSet


@dataclass(frozen=True)
class Point:
    """One date of a series.

    Attributes:
        run: the run it comes from.
        comparison: with the reference, of this date alone.
        missing_share: share of items that do not pair.
        flips: what counts for the alarm.
    """

    run: DatedRun
    comparison: Comparison
    missing_share: float
    flips: DateFlips

    @property
    def date(self) -> datetime:
        """Of the run."""
        return self.run.date


@dataclass(frozen=True)
class Series:
    """A model at one temperature over dates.

    Attributes:
        model: its name.
        temperature: sampling temperature, None if unknown.
        reference: what it is compared with.
        points: one per date.
        watched: the evidence after each.
    """

    model: str
    temperature: Temperature
    reference: str
    points: tuple[Point, ...]
    watched: Watched

    @property
    def alarm(self) -> Point | None:
        """The date of the alarm."""
        return None if self.watched.alarm is None else self.points[self.watched.alarm]

    @property
    def since(self) -> Point | None:
        """The date from which on the evidence behind the alarm counts."""
        return None if self.watched.alarm is None else self.points[self.watched.starts[self.watched.alarm]]


def dated_runs(folder: str, reading: Reading) -> list[DatedRun]:
    """All runs directly inside of a folder, oldest first.

    Args:
        folder: path or URL.
        reading: metrics and clusters.

    Raises:
        UserError: if there are fewer than two runs, one has no date, or one cannot be read.
    """
    locations = runs_in(folder)
    if len(locations) < 2:
        raise UserError(
            f"{folder} holds {len(locations) or 'no'} run{'s' * (len(locations) != 1)}: a history needs a "
            "folder with at least two run directories."
        )
    dates = sorted((run_date(location), location) for location in locations)
    return [DatedRun(date, location, read_unlinked([location], reading)) for date, location in dates]


def run_date(location: str) -> datetime:
    """When a run was made: the date in the name of its folder, else the time of its first event, in UTC.

    Raises:
        UserError: if neither is there.
    """
    for match in DATE.finditer(location.rstrip("/").rpartition("/")[2]):
        try:
            return datetime(*(int(part or 0) for part in match.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
        except ValueError:  # 2026-13-45, for example: digits, and no date
            continue
    try:
        line = RunStore(location).read_log(EVENTS).partition(b"\n")[0]
        return datetime.fromtimestamp(float(json.loads(line)["time"]), tz=UTC)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
    ):  # no log, or none of ours
        raise UserError(
            f"{location} has no date: put one into the name of the folder, for example 2026-11-26 or "
            "daily-2026-11-26T0300."
        ) from None


def series_of(
    runs: Sequence[DatedRun],
    reference: ScoreSet | None,
    *,
    alpha: float,
    temperature: Temperature = None,
    cluster: str | None = None,
) -> tuple[Series, ...]:
    """All series of a history; they share its level (`stats.watch.process_weights`).

    Args:
        runs: oldest first.
        reference: a run whose baseline's answers are the reference on every date; None for the baseline of
            each run, or, where runs hold a single model, for its own answers in the first one.
        alpha: probability of any false alarm, ever.
        temperature: only this one; None for all.
        cluster: as in `lldeg analyze`.

    Raises:
        UserError: if nothing can be compared.
    """
    points: dict[Key, dict[int, Point]] = {}
    references: dict[Key, str] = {}
    for number, run in enumerate(runs):
        for pairing, scores in _pairings(run, runs[0], reference, cluster):
            if temperature in {None, pairing.temperature} and pairing.pairs:
                key = (pairing.variant, pairing.temperature)
                comparison = compare(pairing.scores, Settings(alpha=alpha))
                flips = _flips(pairing.scores, scores)
                point = Point(run, comparison, 1.0 - pairing.common_share, flips)
                points.setdefault(key, {})[number] = point
                references[key] = pairing.baseline
    if not points:
        raise UserError("No date has answers that can be compared with a reference.")
    first = min(min(own) for own in points.values())
    weights = process_weights([[number - first for number in own] for own in points.values()], len(runs))
    return tuple(
        Series(
            *key,
            references[key],
            tuple(own.values()),
            watch([point.flips for point in own.values()], alpha, own_weights),
        )
        for (key, own), own_weights in zip(points.items(), weights, strict=True)
    )


def _pairings(
    run: DatedRun, first: DatedRun, reference: ScoreSet | None, cluster: str | None
) -> Iterator[tuple[Pairing, ScoreSet]]:
    """The models of a date beside their reference."""
    scores, baseline = run.scores, _baseline(run.scores)
    if reference is not None:
        baseline = "reference"
        scores = with_reference(scores, reference, _baseline(reference), baseline)
    elif len(scores.models) == 1:
        if run is first:
            return
        if baseline not in first.scores.models:
            raise UserError(
                f"{run.location} contains only {baseline}, and the oldest run has no answers from it: choose "
                "a reference run with --reference."
            )
        model, baseline = baseline, f"{baseline} on {first.date:%Y-%m-%d}"
        scores = with_reference(scores, first.scores, model, baseline)
    for model in scores.models:
        if model != baseline:
            for temperature in scores.temperatures(model):
                yield pair_up(scores, baseline, model, temperature, cluster), scores


def _baseline(scores: ScoreSet) -> str:
    return (*(name for name in scores.baselines if name in scores.models), *scores.models)[0]


def _flips(pairs: Sequence[TaskScores], scores: ScoreSet) -> DateFlips:
    """Signs by unit: cluster, else document, else item; documents in several tasks are one unit.

    Units have names that mean the same in every run.
    """
    tables, named = {table.info.name: table for table in scores.tasks}, list[str]()
    for pair in pairs:
        table = tables[pair.task]
        asked = table.items if pair.items is None else pair.items
        paired = np.flatnonzero(np.isin(table.items, asked))
        units = [f"item {pair.task} {item}" for item in table.items[paired]]
        for kind, labels in (("document", table.documents), ("cluster", table.cluster_names)):
            if labels is not None and not (kind == "cluster" and pair.clusters is None):
                known = zip(units, labels[paired], strict=True)
                units = [unit if label is None else f"{kind} {label}" for unit, label in known]
        named += units
    names: NDArray[np.str_] = np.array(named, dtype=np.str_)
    sums = block_sums(np.concatenate([pair.differences for pair in pairs]), names)
    return np.unique(names), np.sign(sums).astype(np.int64)


def with_reference(scores: ScoreSet, old: ScoreSet, model: str, name: str) -> ScoreSet:
    """The scores of a date with another run's answers as one more model.

    Args:
        scores: of the date.
        old: of the other run.
        model: whose answers to take from there.
        name: what to call it here.

    Raises:
        UserError: if the two runs mean different documents by the same items.
    """
    olds = {table.info.name: table for table in old.tasks}
    extended = []
    for table in scores.tasks:
        known, columns = olds.get(table.info.name), dict(table.columns)
        if known is not None:
            common, here, there = np.intersect1d(table.items, known.items, return_indices=True)
            if table.documents is not None and known.documents is not None and common.size:
                different = int((table.documents[here] != known.documents[there]).sum())
                if different:
                    raise UserError(
                        f"In task {table.info.name}, {different} items refer to different documents than in "
                        "the reference run: keep the task unchanged, or start a new history."
                    )
            for (owner, temperature), column in known.columns.items():
                if owner == model:
                    columns[name, temperature] = _moved(column, len(table.items), here, there)
        extended.append(replace(table, columns=columns))
    return replace(scores, tasks=tuple(extended), models=(name, *scores.models), baselines=(name,))


def _moved(column: Column, items: int, here: np.ndarray, there: np.ndarray) -> Column:
    """A column with its answers where their items are in another table."""
    scores, answers = np.full(items, np.nan), np.zeros(items, dtype=np.int64)
    scores[here], answers[here] = column.scores[there], column.answers[there]
    runs = None
    if column.runs is not None:
        runs = np.full((items, column.runs.shape[1]), np.nan)
        runs[here] = column.runs[there]
    unknown = np.full(items, -1, dtype=np.int64)  # prompts are numbered anew in every reading
    return Column(scores, answers, unknown, column.reruns, runs=runs)


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
