"""What every input is read into: tasks with their items, and the answers of every model as columns."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import PairBy, Stated, Temperature, label_codes
from orchestrator.errors import UserError
from stats.arrays import Bools, Floats, Ints

NO_SEED = -1
ABSENT = -1


@dataclass(frozen=True)
class Items:
    """Items of one task; all arrays have shape (items,)."""

    ids: NDArray[np.generic]  # identifiers, integers or strings, ascending
    documents: NDArray[np.object_]  # hash of each item's document, None where unknown
    cluster_names: NDArray[np.object_] | None  # None for an item on its own; None if all are independent
    numbers: Ints  # what answers call them, ascending

    @cached_property
    def clusters(self) -> Ints | None:
        """A number for every label; an item without one is a cluster of its own."""
        if self.cluster_names is None:
            return None
        return label_codes((i,) if name is None else name for i, name in enumerate(self.cluster_names))

    def positions(self, items: Ints, label: str) -> Ints:
        """Place in the list of each item, at least one, given by their numbers.

        Raises UserError if an item is not in the list; `label` says whose answers they are.
        """
        first, last = int(self.numbers[0]), int(self.numbers[-1])
        if last - first + 1 == len(self.numbers) and first <= items.min() and items.max() <= last:
            return items.astype(np.int64) - first  # none is left out, as in most runs
        where: Ints = np.minimum(np.searchsorted(self.numbers, items), len(self.numbers) - 1)
        strangers = items[self.numbers[where] != items]
        if len(strangers):
            names = some(sorted(set(strangers.tolist())))
            raise UserError(f"{label} contains answers to items that its item table does not list: {names}.")
        return where


@dataclass(frozen=True)
class Answers:
    """Answers of one model to one task, at least one; all arrays have shape (answers,)."""

    label: str  # where they come from
    part: int  # number that tells reruns of one number apart, those of several evaluations
    items: Ints  # number of the item, as in `Items.numbers`
    temperature: NDArray[np.float32]  # float32 sampling temperature, NaN where unknown
    rerun: Ints  # seed or ordinal that tells the reruns of an item apart; NO_SEED where nothing is sampled
    score: Floats  # NaN where the request failed
    texts: Ints  # a number per distinct prompt or answer of the task, ABSENT where there is none
    marked: Mapping[NoticeCode, Bools] = field(default_factory=dict)  # of which answers a notice holds
    unscored: Bools | None = None  # no failures, and no score all the same; None for none
    # Values of `orchestrator.rundir.measurements`, by name; NaN where unknown
    measured: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class TaskTables(ABC):
    """One task of the inputs."""

    name: str
    group: str | None  # the task group it belongs to
    models: Sequence[str]  # those that have answers to it, or were to have
    is_planned: bool  # whether its items are what was to be asked, rather than what was found answered
    has_seeds: bool = False  # whether what tells reruns apart is a seed, and not just their order
    unlisted: Mapping[str, int] = {}  # items that a model was evaluated on and that no file lists
    warnings: Mapping[str, Sequence[Notice]] = {}  # what must be known about the answers of a model

    @abstractmethod
    def metric(self, metrics: Mapping[str, str], notices: list[Notice]) -> str | None:
        """The metric under test; None if the task has no number per sample.

        The user asks for `metrics` by task, group or pattern; what is to be said about it goes to `notices`.

        Raises UserError if the metric asked for is not there, or the models have none in common.
        """

    @abstractmethod
    def stated(self, metric: str) -> Stated:
        """What the input says about the scores by a metric.

        Raises UserError if the data contradict each other.
        """

    @abstractmethod
    def items(self, cluster: str | None) -> Items:
        """The items, clustered by a column of their documents, or by what the input itself says.

        Raises:
            UserError: if an item is not the same document or in the same cluster everywhere, or the column
                does not exist.
        """

    @abstractmethod
    def answers(self, model: str, metric: str, text: Literal["prompt_hash", "response"]) -> Iterator[Answers]:
        """Answers of a model in pieces, as they stream, with the scores by a metric and a text as `texts`.

        Raises:
            UserError: if answers are asked for and a file is damaged, since one that is left out would be
                taken for one that never was.
        """

    def named(self, items: Ints) -> NDArray[np.generic]:
        """The identifiers of items, given by their numbers."""
        return items

    def planned(self, model: str, items: int) -> dict[Temperature, tuple[int, int]]:
        """What a model was to answer, by temperature: answers in all, and reruns of all of so many items."""
        return {}

    def answers_equally(self, model: str) -> bool:
        """Whether all answers of a model are known to be one and the same text, after they were read."""
        return False


@dataclass(frozen=True)
class Tables:
    """Everything that was read."""

    models: tuple[str, ...]  # names of the models, the default baseline first
    tasks: Sequence[TaskTables]  # by task; of logs also those that cannot be tested
    notices: Sequence[Notice] = ()  # what must be known about the inputs
    last_notices: Sequence[Notice] = ()  # the same, of less weight than what is to be said about the tasks
    metrics: Mapping[str, str] = field(default_factory=dict)  # by task, where each input's has another name
    baselines: tuple[str, ...] = ()  # that the input itself names: none, one, or several that disagree
    alpha: float | None = None  # the level the input asks for, or None
    margin: float | None = None  # the acceptable drop the input asks for, or None
    runs: tuple[RunFiles, ...] = ()  # run directories; none where the input was another tool's
    torn: list[str] = field(default_factory=list)  # files that could not be read, as far as they were met
    paired_by: PairBy | None = None  # what pairs items that do not pair as a matter of course
