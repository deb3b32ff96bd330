"""A model over dates, and an alarm that stays valid however long one watches.

A folder of dated runs gives one series per model and temperature. What the answers of a date are compared
with is the baseline of the same run, or one old run. A history is a table, JSON and a picture.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from rich.console import Console
from rich.text import Text

from jobs.analysis.changes import paired_values
from jobs.analysis.pairing import PairedTask, Pairing, pair_up, tokens_text
from jobs.formats.notices import NoticeCode, some
from jobs.formats.run_files import runs_in
from jobs.formats.samples import InputQuery, Temperature
from jobs.report.page import render
from jobs.report.plots import axis_over
from jobs.scores.read import read_unlinked
from jobs.scores.score_set import Column, ScoreSet
from jobs.text.changes import change_text, means_text
from jobs.text.format import clean, drop_text, p_text, scores_text
from jobs.text.meaning import place
from jobs.text.outputs import json_text, plain
from jobs.text.terminal import fitting
from orchestrator.errors import UserError
from orchestrator.rundir.measurements import BY_NAME, MEASUREMENTS
from orchestrator.rundir.progress import EVENTS
from orchestrator.rundir.store import RunStore
from orchestrator.rundir.whole_files import FileSet
from stats.arrays import Floats, block_sums
from stats.change import Change, ChangeVerdict, measure_change
from stats.comparison import compare
from stats.results import Comparison, Settings
from stats.scores import TaskScores
from stats.watch import DateFlips, Watched, matched_runs, process_weights, watch

DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[T_ -]?(\d{2})[:.-]?(\d{2}))?(?!\d)")

FILES = ("history.svg", "history.json")
HEADER = ("date", "items", "score %", "drop, points", "worse/better", "missing", "p ever")
DATES_SHOWN = 4  # labels of an axis
ALARM, UNMEASURED = 1, 3  # exit statuses

PROMPT_TOKENS, AS_MANY = "prompt_tokens", "as many as the reference"
FOLLOWED = [one for one in MEASUREMENTS if one.tested and one.column and one.name != PROMPT_TOKENS]
"""Measurements that are watched for a change, each at its part of a level of their own."""
Words = tuple[str, ...]
Told = dict[str, Words]
"""What servers tell, by column of the samples."""
DatedScores = tuple[datetime, str, ScoreSet]  # when a run was made, where it is, and what it holds


@dataclass(frozen=True)
class Point:
    """One date of a series.

    Attributes:
        date: when the run was made.
        location: path or URL of the run.
        comparison: with the reference, of this date alone.
        missing_share: share of items that do not pair.
        flips: what counts for the alarm.
        changes: what the server says of itself, and how many tokens it reads, where that is new on this date:
            by column of the samples, the words of the date before and of this one.
        measured: measurements beside the scores, by name, and what counts of each for its alarm.
    """

    date: datetime
    location: str
    comparison: Comparison
    missing_share: float
    flips: DateFlips = field(repr=False)
    changes: dict[str, tuple[Words, Words]]
    measured: dict[str, tuple[Change, DateFlips]] = field(repr=False)


class Followed(NamedTuple):
    """A measurement of a series over the dates that have it, watched for a change in either direction."""

    measurement: str
    points: tuple[tuple[datetime, Change], ...]  # with intervals at 1 − α
    watched: Watched

    @property
    def changed(self) -> datetime | None:
        """The date from which on it is known to have changed."""
        return None if self.watched.alarm is None else self.points[self.watched.alarm][0]

    @property
    def since(self) -> datetime | None:
        """The date from which on the evidence of that counts."""
        return None if self.watched.since is None else self.points[self.watched.since][0]

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in history.json."""
        points = [
            {
                "date": date.isoformat(),
                "items": change.items,
                "reference_mean": change.baseline_mean,
                "mean": change.variant_mean,
                "change": plain(change.change),
                "change_interval": plain(change.change_interval),
                "log_evidence": evidence,
            }
            for (date, change), evidence in zip(self.points, self.watched.log_evidence.tolist(), strict=True)
        ]
        return {
            "measurement": self.measurement,
            "relative": BY_NAME[self.measurement].relative,
            "threshold": self.watched.threshold,
            "changed": self.changed and self.changed.isoformat(),
            "since": self.since and self.since.isoformat(),
            "points": points,
        }


@dataclass(frozen=True)
class Series:
    """A model at one temperature over dates.

    Attributes:
        model: its name.
        temperature: sampling temperature, None if unknown.
        reference: what it is compared with.
        points: one per date.
        watched: the evidence after each.
        measurements: what is watched beside the scores.
    """

    model: str
    temperature: Temperature
    reference: str
    points: tuple[Point, ...]
    watched: Watched
    measurements: tuple[Followed, ...]

    @property
    def alarm(self) -> Point | None:
        """The date of the alarm."""
        return None if self.watched.alarm is None else self.points[self.watched.alarm]

    @property
    def since(self) -> Point | None:
        """The date from which on the evidence behind the alarm counts."""
        return None if self.watched.since is None else self.points[self.watched.since]

    @property
    def ever_p(self) -> list[float]:
        """After each date, the smallest level of the history with which an alarm would have been raised."""
        best = np.maximum.accumulate(self.watched.log_evidence)
        return [min(1.0, math.exp(-evidence)) for evidence in best.tolist()]

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in history.json."""
        points, watched = [], self.watched
        for number, (point, p) in enumerate(zip(self.points, self.ever_p, strict=True)):
            comparison = point.comparison
            points.append(
                {
                    "date": point.date.isoformat(),
                    "run": point.location,
                    "items": comparison.items,
                    "missing_share": point.missing_share,
                    "reference_score": comparison.baseline_score,
                    "score": comparison.variant_score,
                    "drop": comparison.drop,
                    "drop_interval": plain(comparison.drop_interval),
                    "worse": comparison.worse,
                    "better": comparison.better,
                    "log_evidence": float(watched.log_evidence[number]),
                    "evidence_since": self.points[watched.starts[number]].date.isoformat(),
                    "p_ever": p,
                    "changes": {
                        name: dict(zip(("before", "now"), words, strict=True))
                        for name, words in point.changes.items()
                    },
                }
            )
        return {
            "model": self.model,
            "temperature": self.temperature,
            "reference": self.reference,
            "threshold": watched.threshold,
            "alarm": None if self.alarm is None else self.alarm.date.isoformat(),
            "since": None if self.since is None else self.since.date.isoformat(),
            "points": points,
            "measurements": [one.entry for one in self.measurements],
        }


@dataclass(frozen=True)
class History:
    """Models over dates.

    Attributes:
        alpha: probability of any false alarm, ever.
        series: one per model and temperature: `model`, `temperature`, `points`, `alarm`, `since`.
        newest: path or URL of the newest run.
        measured: whether the newest run could be compared.
        warnings: which files of the runs could not be read, and where runs were left out.
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
        series = [one.entry for one in self.series]
        return {"alpha": self.alpha, "warnings": list(self.warnings), "series": series}

    @property
    def exit_status(self) -> int:
        """That of `lldeg history`: 0, 1 with an alarm, 3 if the newest run could not be compared."""
        return ALARM if self.alarms else 0 if self.measured else UNMEASURED

    def write(self, folder: str) -> None:
        """Write history.json and history.svg in the place of earlier ones; if that fails, neither are there.

        The folder is a path or a URL, and made if it is not there.

        Raises:
            UserError: the folder cannot be written to.
        """
        contents = dict(zip(FILES, (picture(self.series), json_text(self.entry)), strict=True))
        history_files(folder).replace({name: text.encode() for name, text in contents.items()})


def history_files(folder: str) -> FileSet:
    """The files of a history in a folder, a path or a URL."""
    return FileSet(folder, "history", FILES)


def follow(
    folder: str, reading: InputQuery, *, reference: str | None, alpha: float, temperature: Temperature
) -> History:
    """Follow the models of a folder of runs, with arguments as `lldeg.history` has them.

    Raises:
        UserError: there are fewer than two runs, one cannot be read or has no date, or nothing can be
            compared.
    """
    locations = runs_in(folder)
    if len(locations) < 2:
        raise UserError(
            f"{folder} holds {len(locations) or 'no'} run{'s' * (len(locations) != 1)}: a history needs a "
            "folder with at least two run directories."
        )
    dates = sorted((run_date(location), location) for location in locations)
    reading = replace(reading, runs=True)
    old = None if reference is None else read_unlinked([reference], reading)
    oldest: DatedScores | None = None
    points: dict[tuple[str, Temperature], dict[int, Point]] = {}
    told: dict[tuple[str, Temperature], Told] = {}
    references, uneven, warnings = {}, Counter[str](), [] if old is None else _said(old)
    for number, (date, location) in enumerate(dates):
        if not RunStore(location).sample_paths():  # of a day when nothing answered, for example
            warnings.append(f"{location} has no samples and is left out.")
            continue
        run = date, location, read_unlinked([location], reading)
        oldest = oldest or run
        warnings += _said(run[-1])
        for pairing, scores in _pairings(run, oldest, old, reading.cluster):
            if temperature in {None, pairing.temperature} and pairing.pairs:
                uneven[pairing.label] += any(task.unequal.any() for task in pairing.scores)
                compared = replace(pairing, tasks=tuple(map(_matched, pairing.tasks)))
                key = (pairing.variant, pairing.temperature)
                comparison = compare(compared.scores, Settings(alpha=alpha))
                lacking, flips = 1.0 - pairing.common_share, _flips(compared.scores, scores)
                before = told.get(key) or {**_told(oldest[-1], key[0]), PROMPT_TOKENS: (AS_MANY,)}
                now = {**before, **_told(run[-1], key[0]), **_prompt_tokens(pairing)}
                changes = {
                    name: (before[name], now[name]) for name in before if set(now[name]) - set(before[name])
                }
                told[key] = now
                measured = _measured(pairing, scores, alpha)
                points.setdefault(key, {})[number] = Point(
                    date, location, comparison, lacking, flips, changes, measured
                )
                references[key] = pairing.baseline
    if not points:
        raise UserError("No date has answers that can be compared with a reference.")
    first, series = min(min(own) for own in points.values()), []
    weights = process_weights([[number - first for number in own] for own in points.values()], len(dates))
    for (key, own), own_weights in zip(points.items(), weights, strict=True):
        watched = watch([point.flips for point in own.values()], alpha, own_weights)
        dated = tuple(own.values())
        series.append(
            Series(*key, references[key], dated, watched, tuple(_followed(dated, own_weights, alpha)))
        )
    warnings += [
        f"{label}: on {count} of the dates, items have unequal numbers of answers from model and reference; "
        "of each, only as many as both have are compared."
        for label, count in uneven.items()
        if count
    ]
    newest = dates[-1][1]
    is_new = any(one.points[-1].location == newest for one in series)
    return History(alpha, tuple(series), newest, is_new, tuple(dict.fromkeys(warnings)))


def run_date(location: str) -> datetime:
    """When a run was made: the date in the name of its folder, else the time of its first event, in UTC.

    Raises UserError if neither is there.
    """
    for match in DATE.finditer(location.rstrip("/").rpartition("/")[2]):
        try:
            return datetime(*(int(part or 0) for part in match.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
        except ValueError:  # 2026-13-45, for example: digits, and no date
            continue
    try:
        line = RunStore(location).read_log(EVENTS).partition(b"\n")[0]
        return datetime.fromtimestamp(float(json.loads(line)["time"]), tz=UTC)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):  # no log of ours
        raise UserError(
            f"{location} has no date: put one into the name of the folder, for example 2026-11-26 or "
            "daily-2026-11-26T0300."
        ) from None


def _pairings(
    run: DatedScores, first: DatedScores, reference: ScoreSet | None, cluster: str | None
) -> Iterator[tuple[Pairing, ScoreSet]]:
    """The models of a date beside their reference."""
    _, location, scores = run
    baseline = _baseline(scores)
    if reference is not None:
        baseline = "reference"
        scores = _with_reference(scores, reference, _baseline(reference), baseline)
    elif len(scores.models) == 1:
        date, _, oldest = first
        if run is first:
            return
        if baseline not in oldest.models:
            raise UserError(
                f"{location} contains only {baseline}, and the oldest run has no answers from it: choose a "
                "reference run with --reference."
            )
        model, baseline = baseline, f"{baseline} on {date:%Y-%m-%d}"
        scores = _with_reference(scores, oldest, model, baseline)
    for model in scores.models:
        if model != baseline:
            for temperature in scores.temperatures(model):
                yield pair_up(scores, baseline, model, temperature, cluster), scores


def _baseline(scores: ScoreSet) -> str:
    return (*(name for name in scores.baselines if name in scores.models), *scores.models)[0]


def _said(scores: ScoreSet) -> list[str]:
    """What the readers say that the reader of a history must know, a sentence each."""
    said = (NoticeCode.UNREADABLE_FILES, NoticeCode.DIRECTION_UNKNOWN)
    return [notice.text for notice in scores.warnings if notice.code in said]


def _told(scores: ScoreSet, model: str) -> Told:
    """What the server of a model said of itself on a date, as far as it did."""
    served = (run.served_by(model) for run in scores.runs)
    return {name: words for one in served for name, words in one.items() if words}


def _prompt_tokens(pairing: Pairing) -> Told:
    """How the lengths of prompts compare with those of the reference, if both are known."""
    more = np.concatenate([task.more_prompt_tokens for task in pairing.tasks])
    if not (more := more[~np.isnan(more)]).size:
        return {}
    return {PROMPT_TOKENS: (tokens_text(more) if more.any() else AS_MANY,)}


def _matched(task: PairedTask) -> PairedTask:
    """The same over as many runs of every item as both models have."""
    scores = task.scores
    if scores is None or scores.runs is None:  # numbers are equal
        return task
    first, second = (side.seeds for side in task.sides)
    runs = matched_runs(scores.runs, (first, second), crc32(task.info.name.encode()))
    baseline, variant = (np.nanmean(one, axis=1) for one in runs)
    reruns = (min(scores.reruns),) * 2
    even = replace(scores, baseline=baseline, variant=variant, reruns=reruns, answers=None, runs=None)
    return replace(task, scores=even)


def _measured(pairing: Pairing, scores: ScoreSet, alpha: float) -> dict[str, tuple[Change, DateFlips]]:
    """The measurements of a date by name; items with unequal numbers of answers do not count."""
    found = {}
    for one in FOLLOWED:
        pairs = [paired_values(task, one, even=True) for task in pairing.tasks]
        if values := [task for task in pairs if task is not None]:
            change = measure_change(
                one.name, values, relative=one.relative, tolerance=one.within, alpha=alpha, tested=False
            )
            interval = change.evidence.interval(alpha)
            change = replace(change, change_interval=interval, verdict=ChangeVerdict.INCONCLUSIVE)
            found[one.name] = change, _flips(values, scores)
    return found


def _followed(points: Sequence[Point], weights: Floats, alpha: float) -> Iterator[Followed]:
    """Every measurement of a series, over the dates that have it."""
    for one in FOLLOWED:
        if here := [number for number, point in enumerate(points) if one.name in point.measured]:
            flips = [points[number].measured[one.name][1] for number in here]
            watched = watch(flips, alpha / len(FOLLOWED), weights[here], either=True)
            dated = ((points[number].date, points[number].measured[one.name][0]) for number in here)
            yield Followed(one.name, tuple(dated), watched)


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
    names = np.array(named, dtype=np.str_)
    sums = block_sums(np.concatenate([pair.differences for pair in pairs]), names)
    return np.unique(names), np.sign(sums).astype(np.int64)


def _with_reference(scores: ScoreSet, old: ScoreSet, model: str, name: str) -> ScoreSet:
    """The scores of a date with the answers of a model in another run as one more model, under a name.

    Raises UserError if the two runs mean different documents by the same items.
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
    measured = {name: np.full(items, np.nan) for name in column.measured}
    for name, values in measured.items():
        values[here] = column.measured[name][there]
    return Column(scores, answers, unknown, column.reruns, runs=runs, seeds=column.seeds, measured=measured)


def print_history(history: History, console: Console) -> None:
    """Show a table for every series, and its alarm."""
    for series in history.series:
        moments = [point.date for point in series.points]
        dates = [f"{moment:%Y-%m-%d}" for moment in moments]
        if len(set(dates)) < len(dates):  # several runs on one day
            dates = [f"{moment:%Y-%m-%d %H:%M}" for moment in moments]
        said = f"No alarm. The probability of ever raising a false alarm is at most {history.alpha:g}."
        shown = dict(zip(moments, dates, strict=True))
        if series.alarm and series.since:
            alarm, since = shown[series.alarm.date], shown[series.since.date]
            said = f"ALARM on {alarm}: worse than the reference, based on the evidence since {since}."
        title = f"{place(series.model, series.temperature)}, compared with {clean(series.reference)}"
        console.print(Text(title, style="bold"))
        rows = []
        for date, point, p in zip(dates, series.points, series.ever_p, strict=True):
            found, drop = point.comparison, drop_text(point.comparison, point.comparison.drop_interval)
            flips, missing = f"{found.worse}/{found.better}", f"{point.missing_share:.1%}"
            rows.append((date, f"{found.items:,}", scores_text(found), drop, flips, missing, p_text(p)))
        console.print(fitting(HEADER, rows, console.width))
        for date, point in zip(dates, series.points, strict=True):
            for name, words in point.changes.items():
                old, new = (clean(some(one)) for one in words)
                console.print(f"{date}: {name.replace('_', ' ')}: {old} → {new}", markup=False)
        for one in series.measurements:
            if one.changed and one.since:
                change, title = dict(one.points)[one.changed], BY_NAME[one.measurement].title
                what = f"{shown[one.changed]}: {title} changed: {means_text(change)}, {change_text(change)}"
                console.print(f"{what}, since {shown[one.since]}", markup=False)
        console.print(Text(said, style="bold red" if series.alarm else ""))
        console.print()


def picture(series: Sequence[Series]) -> str:
    """The picture as SVG, the same bytes each time: drops on the left, the evidence on the right.

    A measurement that has changed has a row of its own below.
    """
    rows = []
    for one in series:
        title, comparisons = place(one.model, one.temperature), [point.comparison for point in one.points]
        in_points = all(comparison.margin_unit == "share" for comparison in comparisons)
        label, scale = ("drop (points)", 100.0) if in_points else ("drop", 1.0)
        drops = [(scale * found.drop, *(scale * end for end in found.drop_interval)) for found in comparisons]
        rows.append(_panels(title, label, [point.date for point in one.points], drops, one.watched))
        for own in one.measurements:
            if own.changed:
                label = f"change ({'%' if BY_NAME[own.measurement].relative else 'points'})"
                changes = [(found.change, *found.change_interval) for _, found in own.points]
                scaled = [(100.0 * mean, 100.0 * low, 100.0 * high) for mean, low, high in changes]
                about = f"{title}: {BY_NAME[own.measurement].title}"
                rows.append(_panels(about, label, [date for date, _ in own.points], scaled, own.watched))
    return render("history.svg.jinja", {"rows": rows})


def _panels(
    title: str, label: str, dates: Sequence[datetime], drops: Sequence[tuple[float, ...]], watched: Watched
) -> dict[str, Any]:
    """A row of the picture; drops, or changes, have an interval each."""
    evidence = watched.log_evidence.tolist()
    return {
        "title": title,
        "label": label,
        "dates": dates,
        "drops": drops,
        "watched": watched,
        "evidence": evidence,
        "step": -(-len(dates) // DATES_SHOWN),
        "x": axis_over(date.timestamp() for date in dates),
        "y": axis_over([0.0, *(end for values in drops for end in values if math.isfinite(end))]),
        "z": axis_over([0.0, watched.threshold, *evidence]),
    }
