"""The progress of a run, counted from its files, so that a sweep on another machine can be watched too."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import statistics
from orchestrator.rundir.progress import read_status
from orchestrator.rundir.sample_files import open_whole, readers


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
        self._known: dict[str, tuple[int, int] | None] = {}

    def count(self, run: RunFiles) -> dict[str, Count]:
        """Samples by variant."""
        asked = sum(int(entry["items"]) * len(entry["reruns"]) for entry in run.tasks.values())
        told = read_status(run.store).variants
        counts = {}
        for variant in run.models:
            paths = [path for task in run.tasks for path in run.samples(variant, task)]
            unknown = [path for path in paths if path not in self._known]
            with ThreadPoolExecutor(readers(run.filesystem)) as pool:
                self._known.update(zip(unknown, pool.map(partial(_rows, run), unknown), strict=True))
            known = [rows for path in paths if (rows := self._known[path]) is not None]
            done, errors = sum(rows for rows, _ in known), sum(failed for _, failed in known)
            planned = max(asked, done)  # an imported run asks for nothing
            not_needed = min(told[variant].not_needed if variant in told else 0, planned - done)
            damaged = tuple(path for path in paths if self._known[path] is None)
            counts[variant] = Count(planned, done, errors, not_needed, damaged)
        return counts


def _rows(run: RunFiles, path: str) -> tuple[int, int] | None:
    """Rows of a file, and those that are errors, by its footer alone; None if it is torn or damaged."""
    file = open_whole(run.filesystem, path)
    if file is None:
        return None
    errors = sum(group.num_values for group in statistics(file.metadata, "error") if group is not None)
    return file.metadata.num_rows, errors


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
