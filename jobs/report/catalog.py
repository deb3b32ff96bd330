"""The runs behind `lldeg view`, each analyzed when somebody looks at it and again when it has grown."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from jobs.analysis.compare import Request, analyze_scores
from jobs.inputs.run_directory.counts import Count, Footers
from jobs.inputs.run_directory.files import RunFiles
from jobs.inputs.run_directory.read import read_runs
from jobs.inputs.score_set import Reading
from jobs.inputs.sources import runs_in
from jobs.report.content import Content, content_of
from jobs.report.flips import Flips, Wanted, flips_of, select
from jobs.report.search import search
from jobs.report.texts import Texts
from orchestrator.errors import UserError
from stats.results import Settings

REMEMBERED = 16
"""Searches whose results are kept, so that turning a page does not search again."""


class Opened:
    """A run as it stood at one moment.

    Attributes:
        content: the page but the flips.
        index: all its flips.
        texts: what was asked and said.
    """

    def __init__(self, run: RunFiles, footers: Footers) -> None:
        book = read_runs([run.location], Reading({}))
        defaults = Settings()
        settings = Settings(alpha=book.alpha or defaults.alpha, margin=book.margin or defaults.margin)
        analysis = analyze_scores(book, Request(settings))
        self.content: Content = content_of(analysis, [run.manifest])
        self.index: list[Flips] = flips_of(analysis)
        self.texts = Texts(book.runs, footers)
        self.find = lru_cache(REMEMBERED)(self._find)

    def _find(self, wanted: Wanted, text: str) -> list[Flips]:
        found = select(self.index, wanted)
        return search(found, self.texts, text) if text and found else found


@dataclass
class Shelf:
    """One run, opened or not."""

    location: str
    footers: Footers
    lock: Lock
    files: int = -1
    opened: Opened | None = None

    def counts(self) -> dict[str, Count]:
        """Samples by variant, now."""
        return self.footers.count(RunFiles.open(self.location))

    def open(self) -> Opened:
        """The run as it stands now.

        Raises:
            UserError: if it cannot be read or compared.
        """
        with self.lock:
            run = RunFiles.open(self.location)
            files = sum(len(run.samples(model, task)) for model in run.models for task in run.tasks)
            if self.opened is None or files != self.files:
                self.opened = None  # two of them at once would need twice the memory
                self.opened, self.files = Opened(run, self.footers), files
            return self.opened


class Library:
    """The runs that a server shows, by a name that is safe in a URL because it is only ever looked up.

    Args:
        paths: runs, or folders of runs.

    Raises:
        UserError: if there is no run among them.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._shelves: dict[str, Shelf] = {}
        if not self.shelves():
            raise UserError(f"There is no run in {', '.join(paths)}: lldeg view shows run directories.")

    def shelves(self) -> dict[str, Shelf]:
        """All runs there are now, those that came since included."""
        locations = dict.fromkeys(run for path in self._paths for run in runs_in(path))
        for location in locations:
            if all(shelf.location != location for shelf in self._shelves.values()):
                name = location.rstrip("/").rpartition("/")[2] or location
                key = name if name not in self._shelves else f"{name}~{len(self._shelves)}"
                self._shelves[key] = Shelf(location, Footers(), Lock())
        return {key: shelf for key, shelf in self._shelves.items() if shelf.location in locations}
