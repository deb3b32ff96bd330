"""From dated runs to one series per model and temperature: drops from the reference, and the alarm."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.pairing import Pair, Pairing
from jobs.analysis.pairing_notes import pair_up
from jobs.commands.history.dated_runs import DatedRun
from jobs.commands.history.reference import with_reference
from jobs.formats.samples import Temperature
from jobs.scores.score_set import ScoreSet, TaskTable
from orchestrator.errors import UserError
from stats.arrays import block_sums
from stats.comparison import compare
from stats.results import Comparison, Settings
from stats.watch import DateFlips, Watched, process_weights, watch

Key = tuple[str, Temperature]


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


def series_of(
    runs: Sequence[DatedRun],
    reference: ScoreSet | None,
    *,
    alpha: float,
    temperature: Temperature = None,
    cluster: str | None = None,
) -> list[Series]:
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
            if (temperature is not None and pairing.temperature != temperature) or not pairing.pairs:
                continue
            key = (pairing.variant, pairing.temperature)
            points.setdefault(key, {})[number] = _point(run, pairing, scores, alpha)
            references[key] = pairing.baseline
    if not points:
        raise UserError("No date has answers that can be compared with a reference.")
    first = min(min(own) for own in points.values())
    weights = process_weights([[number - first for number in own] for own in points.values()], len(runs))
    return [
        Series(
            *key,
            references[key],
            tuple(own.values()),
            watch([point.flips for point in own.values()], alpha, own_weights),
        )
        for (key, own), own_weights in zip(points.items(), weights, strict=True)
    ]


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


def _point(run: DatedRun, pairing: Pairing, scores: ScoreSet, alpha: float) -> Point:
    comparison = compare([pair.scores for pair in pairing.pairs], Settings(alpha=alpha))
    return Point(run, comparison, 1.0 - pairing.common_share, _flips(pairing.pairs, scores))


def _flips(pairs: Sequence[Pair], scores: ScoreSet) -> DateFlips:
    """Signs by unit: cluster, else document, else item; documents in several tasks are one unit."""
    tables = {table.info.name: table for table in scores.tasks}
    names = np.concatenate([_units(pair, tables[pair.info.name]) for pair in pairs])
    sums = block_sums(np.concatenate([pair.scores.differences for pair in pairs]), names)
    return DateFlips(np.unique(names), np.sign(sums).astype(np.int64))


def _units(pair: Pair, table: TaskTable) -> NDArray[np.str_]:
    """What each item of a pair belongs to, shape (n,), by names that mean the same in every run."""
    asked = table.items if pair.scores.items is None else pair.scores.items
    paired = np.flatnonzero(np.isin(table.items, asked))
    units = [f"item {pair.info.name} {item}" for item in table.items[paired]]
    for kind, labels in (("document", table.documents), ("cluster", table.cluster_names)):
        if labels is not None and not (kind == "cluster" and pair.scores.clusters is None):
            named = zip(units, labels[paired], strict=True)
            units = [unit if label is None else f"{kind} {label}" for unit, label in named]
    return np.array(units, dtype=np.str_)
