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
    """Items of one task; all arrays have shape (items,).

    Attributes:
        ids: identifiers, integers or strings, ascending.
        documents: hash of each item's document, None where unknown.
        cluster_names: the labels by name, None for an item on its own; None where the items are independent.
        numbers: what answers call them, ascending.
    """

    ids: NDArray[np.generic]
    documents: NDArray[np.object_]
    cluster_names: NDArray[np.object_] | None
    numbers: Ints

    @cached_property
    def clusters(self) -> Ints | None:
        """A number for every label; an item without one is a cluster of its own."""
        if self.cluster_names is None:
            return None
        return label_codes((i,) if name is None else name for i, name in enumerate(self.cluster_names))

    def positions(self, items: Ints, label: str) -> Ints:
        """Place in the list of each item, at least one, given by their numbers.

        Raises:
            UserError: if an item is not in the list; `label` says whose answers they are.
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
    """Answers of one model to one task, at least one; all arrays have shape (answers,).

    Attributes:
        label: where they come from.
        part: number that tells reruns of one number apart, those of several evaluations.
        items: number of the item, as in `Items.numbers`.
        temperature: float32 sampling temperature, NaN where unknown.
        rerun: seed or ordinal that tells the reruns of an item apart; NO_SEED where nothing is sampled.
        score: NaN where the request failed.
        texts: a number per distinct prompt or answer of the task, ABSENT where there is none.
        marked: for a notice, of which answers it holds.
        unscored: which of them are no failures and have no score all the same; None for none.
    """

    label: str
    part: int
    items: Ints
    temperature: NDArray[np.float32]
    rerun: Ints
    score: Floats
    texts: Ints
    marked: Mapping[NoticeCode, Bools] = field(default_factory=dict)
    unscored: Bools | None = None


class TaskTables(ABC):
    """One task of the inputs.

    Attributes:
        name: its name.
        group: the task group it belongs to, or None.
        models: those that have answers to it, or were to have.
        is_planned: whether its items are what was to be asked, rather than what was found answered.
    """

    name: str
    group: str | None
    models: Sequence[str]
    is_planned: bool

    @abstractmethod
    def metric(self, metrics: Mapping[str, str], notices: list[Notice]) -> str | None:
        """The metric under test; None if the task has no number per sample.

        Args:
            metrics: by task, group or pattern, as the user asks.
            notices: gets what is to be said about the choice.

        Raises:
            UserError: if the metric asked for is not there, or the models have none in common.
        """

    @abstractmethod
    def stated(self, metric: str) -> Stated:
        """What the input says about the scores by a metric.

        Raises:
            UserError: if the data contradict each other.
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

    def unlisted(self, model: str) -> int:
        """Items that a model was evaluated on and that no file lists."""
        return 0

    def answers_equally(self, model: str) -> bool:
        """Whether all answers of a model are known to be one and the same text, after they were read."""
        return False

    def warnings(self, model: str) -> Sequence[Notice]:
        """What must be known about the answers of a model."""
        return ()


@dataclass(frozen=True)
class Tables:
    """Everything that was read.

    Attributes:
        models: names of the models, the default baseline first.
        tasks: by task; of logs also those that cannot be tested.
        notices: what must be known about the inputs.
        last_notices: the same, of less weight than what is to be said about the tasks.
        metrics: metric of the tasks that each input is tested on with its own, under different names.
        baselines: the baselines the input itself names: none, one, or several that disagree.
        alpha: the level the input asks for, or None.
        margin: the acceptable drop the input asks for, or None.
        runs: the run directories it was read from; none where the input was another tool's.
        torn: files that could not be read, as far as they were met.
        paired_by: what pairs the items, where the user says so or the inputs are of several tools; else None.
    """

    models: tuple[str, ...]
    tasks: Sequence[TaskTables]
    notices: Sequence[Notice] = ()
    last_notices: Sequence[Notice] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    alpha: float | None = None
    margin: float | None = None
    runs: tuple[RunFiles, ...] = ()
    torn: list[str] = field(default_factory=list)
    paired_by: PairBy | None = None
