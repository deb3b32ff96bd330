"""What an input format has to supply, and how an input is named on the way to it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jobs.formats.columns import Columns
from jobs.formats.write_run import ImportedRun
from jobs.scores.rerun_set import RerunSet, Wanted
from jobs.scores.score_set import Reading, ScoreSet


@dataclass(frozen=True)
class NamedPath:
    """A path as the user gave it, or as a listing gives it a name.

    Attributes:
        path: a local path or a URL.
        model: name of the model whose results it holds; None if the listing, or its absence, leaves it open.
        task: name of the task, likewise.
        columns: which of its columns mean what, where the user says so.
    """

    path: str
    model: str | None = None
    task: str | None = None
    columns: Columns | None = None


class Source(ABC):
    """An input format: how to recognise it, and its one reader.

    Attributes:
        described: what an input of this format is, for a sentence ("a score table").
        accepted: what the user may point at, for the list of everything that is read.
        takes_where: whether `--where` selects rows of it.
    """

    described: ClassVar[str]
    accepted: ClassVar[str]
    takes_where: bool = False

    @abstractmethod
    def recognises(self, path: str) -> bool:
        """Whether an existing path holds this format, judged by its content rather than its name."""

    @abstractmethod
    def read_scores(self, paths: Sequence[NamedPath], reading: Reading) -> ScoreSet:
        """Scores of every item, averaged over reruns.

        Raises:
            UserError: if an input is unreadable, contradicts another, or holds nothing to test.
        """

    @abstractmethod
    def read_reruns(self, paths: Sequence[NamedPath], wanted: Wanted) -> RerunSet:
        """Scores and answers of every item, rerun by rerun.

        Raises:
            UserError: if an input is unreadable, or something wanted is not in it.
        """

    @abstractmethod
    def to_run(self, paths: Sequence[NamedPath], reading: Reading) -> ImportedRun:
        """Everything it holds, as the content of a run directory.

        Raises:
            UserError: if an input is unreadable, or there is nothing to import.
        """
