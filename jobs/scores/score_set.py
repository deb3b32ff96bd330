"""The common form of all inputs: per task one list of items, and per model one column of scores over it.

Every column of a task has the same length and order, so pairing two models is indexing, not joining; an
item a model has not answered is a NaN there, never a zero. Reruns are averaged on the way in (an item is
one observation, however often it was asked), and how many were averaged is kept beside the mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.formats.metrics import Bounds
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import UNSTATED, PairBy, Stated, Temperature
from stats.arrays import Floats, Ints


@dataclass(frozen=True)
class TaskInfo:
    """What a task is called and how its scores read."""

    name: str  # the task's name
    metric: str  # key of the metric under test, "metric,filter" where filters exist
    higher_is_better: bool = True  # False turns a rise of the score into a loss
    group: str | None = None  # the task group it belongs to, or None
    stated: Stated = UNSTATED  # what the input says; `jobs.scores.scales` settles the rest
    bounds: Bounds | None = None  # least and greatest possible score; None for scores without a range
    margin: float | None = None  # largest acceptable drop, in the unit of scores without a range
    is_direction_known: bool = True  # False where it is only assumed, so that nothing may be certified


@dataclass(frozen=True)
class Column:
    """One model's scores on one task at one temperature; all arrays have shape (items of the task,)."""

    scores: Floats  # mean over the reruns that have a score; NaN where none has
    answers: Ints  # how many reruns were averaged, per item
    prompts: Ints  # a number per distinct prompt, equal across models for equal prompts; -1 where unknown
    reruns: int  # how many passes over the task there were
    owed: int = 0  # samples that the sweep asked for and that are not there
    errors: int = 0  # samples that are there but have no score, because the request failed
    repeated: int = 0  # samples that occurred more than once; only the first was counted
    planned: int = 0  # reruns that were to be there of every item; 0 for as many as there were passes
    # The single scores, shape (items, reruns), NaN where there is none; None where all are 0 or 1, unless
    # they were asked for
    runs: Floats | None = None
    seeds: tuple[int, ...] = ()  # of the passes, NO_SEED where none is known
    withheld: int = 0  # of the errors, answers that the provider withheld
    # For a notice, how many of each item's samples it holds of, as far as that is known: scored ones, but of
    # withheld answers those that failed
    marked: Mapping[NoticeCode, Ints] = field(default_factory=dict)
    failed: Ints | None = None  # the errors of every item; None where their places are unknown
    # Values of `orchestrator.rundir.measurements` by name, means over the reruns with a score; NaN if unknown
    measured: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which items have at least one score, shape (items,)."""
        return self.answers > 0

    def at(self, kept: Ints) -> "Column":
        """The column of some items, given by their places; what is owed and what failed is counted anew."""
        answers = self.answers[kept]
        failed = np.zeros_like(answers) if self.failed is None else self.failed[kept]
        withheld = NoticeCode.WITHHELD_ANSWERS
        return replace(
            self,
            scores=self.scores[kept],
            answers=answers,
            prompts=self.prompts[kept],
            owed=int(np.maximum(self.planned - answers - failed, 0).sum()),
            errors=int(failed.sum()),
            withheld=int(self.marked[withheld][kept].sum()) if withheld in self.marked else 0,
            runs=None if self.runs is None else self.runs[kept],
            marked={code: counts[kept] for code, counts in self.marked.items()},
            failed=failed,
            measured={name: values[kept] for name, values in self.measured.items()},
        )


@dataclass(frozen=True)
class TaskTable:
    """One task with the columns of all models."""

    info: TaskInfo  # name, metric, direction, group
    items: NDArray[np.generic]  # identifiers of the items, shape (items,), integers or strings
    clusters: Ints | None  # a label per item, shape (items,), or None where items are independent
    columns: dict[tuple[str, Temperature], Column]  # by (model, temperature)
    planned: bool = False  # whether `items` is what was to be asked, rather than what was found answered
    unlisted: Mapping[str, int] = field(default_factory=dict)  # items evaluated that no file lists, by model
    documents: NDArray[np.object_] | None = None  # hash of each document, None where unknown
    cluster_names: NDArray[np.object_] | None = None  # by name, None for an item on its own
    # A number per item, equal for items of any task that belong together, shape (items,); None where every
    # item of the task is on its own
    links: Ints | None = None

    def at(self, kept: Ints) -> "TaskTable":
        """The table of some items, given by their places."""
        names = ("items", "clusters", "documents", "cluster_names", "links")
        arrays: dict[str, Any] = {
            name: None if (held := getattr(self, name)) is None else held[kept] for name in names
        }
        columns = {key: column.at(kept) for key, column in self.columns.items()}
        return replace(self, **arrays, columns=columns)

    @cached_property
    def observed(self) -> Bounds | None:
        """Least and greatest score of all models; None where there is none."""
        known = self._known
        return (float(min(map(np.nanmin, known))), float(max(map(np.nanmax, known)))) if known else None

    def share_from(self, least: float) -> float:
        """Of the scores of all models above 0, the share that is at least so high."""
        above = sum(int((scores > 0.0).sum()) for scores in self._known)
        return sum(int((scores >= least).sum()) for scores in self._known) / max(above, 1)

    def highest(self, model: str) -> float:
        """The greatest score of a model; 0 where there is none."""
        own = [column.scores[column.answered] for (name, _), column in self.columns.items() if name == model]
        return max((float(scores.max()) for scores in own if scores.size), default=0.0)

    @property
    def _known(self) -> list[Floats]:
        """All means over reruns, and all single scores that are not just right or wrong."""
        columns = [column for column in self.columns.values() if column.answered.any()]
        known = [column.scores[column.answered] for column in columns]
        return known + [column.runs for column in columns if column.runs is not None]


@dataclass(frozen=True)
class ScoreSet:
    """Everything a comparison needs, from any input format."""

    models: tuple[str, ...]  # names of the models, in the order of the input
    tasks: tuple[TaskTable, ...]  # one entry per task
    baselines: tuple[str, ...] = ()  # that the input itself names: none, one, or several that disagree
    warnings: tuple[Notice, ...] = ()  # what the reader of a verdict must know about the input
    alpha: float | None = None  # the level the input asks for, or None
    margin: float | None = None  # the acceptable drop the input asks for, or None
    # The run directories it was read from; none where the input was another tool's
    runs: tuple[RunFiles, ...] = ()
    paired_by: PairBy | None = None  # what pairs items that do not pair as a matter of course

    def digest(self) -> str:
        """Digest of all scores, whatever files they came from: 32 hex digits."""
        found = blake2b(digest_size=16)
        for table in sorted(self.tasks, key=lambda table: table.info.name):
            found.update(repr((table.info.name, table.info.metric, table.items.tolist())).encode())
            for (model, t), column in sorted(table.columns.items(), key=lambda item: repr(item[0])):
                found.update(repr((model, t)).encode())
                for values in (column.scores, column.answers, column.failed):
                    floats = np.array(np.nan if values is None else values, dtype=np.float64)
                    found.update(np.where(np.isnan(floats), np.nan, floats).tobytes())  # one NaN for all
        return found.hexdigest()

    def temperatures(self, model: str) -> list[Temperature]:
        """Temperatures at which a model has answers, lowest first."""
        found = {t for task in self.tasks for (name, t) in task.columns if name == model}
        return sorted(found, key=lambda t: -1.0 if t is None else t)
