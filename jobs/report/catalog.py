"""The runs behind `lldeg view`, each analyzed when somebody looks at it and again when it has grown."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from jobs.analysis.analyze_inputs import analyze_inputs
from jobs.formats.run_counts import Count, Footers
from jobs.formats.run_files import RunFiles, runs_in
from jobs.report.content import Content, content_of
from jobs.report.flips import Flips, Wanted, flips_of, select
from jobs.report.search import search
from jobs.report.texts import Texts
from jobs.scores.scale_options import AS_READ, ScaleOptions
from jobs.scores.score_set import Reading
from orchestrator.errors import UserError

REMEMBERED = 16
"""Searches whose results are kept, so that turning a page does not search again."""


@dataclass(frozen=True)
class Chosen:
    """What the user says about the scores: direction and range of tasks, margins."""

    margin: float | None = None
    scales: ScaleOptions = AS_READ


AS_IN_THE_SWEEP = Chosen()


class AnalyzedRun:
    """A run as it stood at one moment.

    Attributes:
        content: the page but the flips.
        index: all its flips.
        texts: what was asked and said.
    """

    def __init__(self, run: RunFiles, footers: Footers, chosen: Chosen) -> None:
        reading = Reading({}, scales=chosen.scales)
        book, analysis = analyze_inputs([run.location], reading, margin=chosen.margin)
        self.content: Content = content_of(analysis, [run.manifest])
        self.index: list[Flips] = flips_of(analysis)
        self.texts = Texts(book.runs, footers)
        self.find = lru_cache(REMEMBERED)(self._find)

    def _find(self, wanted: Wanted, text: str) -> list[Flips]:
        found = select(self.index, wanted)
        return search(found, self.texts, text) if text and found else found


@dataclass
class CachedRun:
    """One run, and its analysis if somebody has looked at it."""

    location: str
    footers: Footers
    lock: Lock
    chosen: Chosen
    files: int = -1
    analyzed: AnalyzedRun | None = None

    def counts(self) -> dict[str, Count]:
        """Samples by variant, now."""
        return self.footers.count(RunFiles.open(self.location))

    def analyze(self) -> AnalyzedRun:
        """The run in its current state.

        Raises:
            UserError: if it cannot be read or compared.
        """
        with self.lock:
            run = RunFiles.open(self.location)
            files = sum(len(run.samples(model, task)) for model in run.models for task in run.tasks)
            if self.analyzed is None or files != self.files:
                self.analyzed = None  # two of them at once would need twice the memory
                self.analyzed, self.files = AnalyzedRun(run, self.footers, self.chosen), files
            return self.analyzed


class Catalog:
    """The runs that a server shows, by a name that is safe in a URL because it is only ever looked up.

    Args:
        paths: runs, or folders of runs.
        chosen: what the user says about the scores.

    Raises:
        UserError: if none of them is a run.
    """

    def __init__(self, paths: Sequence[str], chosen: Chosen = AS_IN_THE_SWEEP) -> None:
        self._paths, self._chosen = paths, chosen
        self._runs: dict[str, CachedRun] = {}
        if not self.runs():
            raise UserError(
                f"There is no run directory in {', '.join(paths)}, and lldeg view shows only run directories."
            )

    def runs(self) -> dict[str, CachedRun]:
        """All runs there are now, those that came since included."""
        locations = dict.fromkeys(run for path in self._paths for run in runs_in(path))
        for location in locations:
            if all(run.location != location for run in self._runs.values()):
                name = location.rstrip("/").rpartition("/")[2] or location
                key = name if name not in self._runs else f"{name}~{len(self._runs)}"
                self._runs[key] = CachedRun(location, Footers(), Lock(), self._chosen)
        return {key: run for key, run in self._runs.items() if run.location in locations}
