"""The progress of a run, counted from its files, so that a sweep on another machine can be watched too."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import statistics
from orchestrator.rundir.progress import read_status
from orchestrator.rundir.sample_files import open_whole, readers

ANY = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class Footer:
    """What the footer of a sample file says without a row being read.

    Attributes:
        path: where it is.
        rows: how many samples it holds.
        errors: of these, how many are errors.
        first, last: its least and greatest item; everything where the writer kept no statistics.
    """

    path: str
    rows: int
    errors: int
    first: int
    last: int


@dataclass(frozen=True)
class Count:
    """Samples of a variant, or of a run.

    Attributes:
        planned: what the sweep asked for.
        done: rows that are there.
        errors: of these, rows with an error instead of an answer.
        not_needed: samples that are not there because their comparison was decided, by the last heartbeat.
        damaged: sample files that are torn or damaged; nothing in them is there.
    """

    planned: int
    done: int
    errors: int
    not_needed: int = 0
    damaged: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """Samples that are there or still to come."""
        return self.planned - self.not_needed


class Footers:
    """Footers of sample files, each read once: a finished block is never changed."""

    def __init__(self) -> None:
        self._known: dict[str, Footer | None] = {}

    def of(self, run: RunFiles, variant: str, task: str) -> list[Footer]:
        """Footers of the files of one cell that can be read."""
        paths = run.samples(variant, task)
        unknown = [path for path in paths if path not in self._known]
        with ThreadPoolExecutor(readers(run.filesystem)) as pool:
            self._known.update(zip(unknown, pool.map(partial(_footer, run), unknown), strict=True))
        return [footer for path in paths if (footer := self._known[path]) is not None]

    def count(self, run: RunFiles) -> dict[str, Count]:
        """Samples by variant."""
        asked = sum(int(entry["items"]) * len(entry["reruns"]) for entry in run.tasks.values())
        told = read_status(run.store).variants
        counts = {}
        for variant in run.models:
            footers = [footer for task in run.tasks for footer in self.of(run, variant, task)]
            rows, errors = sum(f.rows for f in footers), sum(f.errors for f in footers)
            planned = max(asked, rows)  # an imported run asks for nothing
            not_needed = min(told[variant].not_needed if variant in told else 0, planned - rows)
            paths = (path for task in run.tasks for path in run.samples(variant, task))
            damaged = tuple(path for path in paths if self._known.get(path, path) is None)
            counts[variant] = Count(planned, rows, errors, not_needed, damaged)
        return counts


def _footer(run: RunFiles, path: str) -> Footer | None:
    """None if the file is torn or damaged."""
    file = open_whole(run.filesystem, path)
    if file is None:
        return None
    items = statistics(file.metadata, "item")
    known = all(group is not None and group.has_min_max for group in items)
    return Footer(
        path,
        rows=file.metadata.num_rows,
        errors=sum(group.num_values for group in statistics(file.metadata, "error") if group is not None),
        first=min((group.min for group in items), default=0) if known else 0,
        last=max((group.max for group in items), default=-1) if known else ANY,
    )


def total(counts: Iterable[Count]) -> Count:
    """All of them together."""
    listed = list(counts)
    return Count(
        planned=sum(count.planned for count in listed),
        done=sum(count.done for count in listed),
        errors=sum(count.errors for count in listed),
        not_needed=sum(count.not_needed for count in listed),
        damaged=tuple(path for count in listed for path in count.damaged),
    )
