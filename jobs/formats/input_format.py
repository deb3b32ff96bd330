"""What an input format has to supply, and how an input is named on the way to it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.formats.columns import Columns
from jobs.formats.gather import GatheredTask
from jobs.formats.names import Key, by_data, one_per_model
from jobs.formats.samples import Evaluation


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


Tasks = Mapping[str, GatheredTask]


@dataclass(frozen=True)
class InputFormat:
    """An input format: how to recognise it, and what reads it.

    Attributes:
        described: what an input of this format is, for a sentence ("a score table").
        accepted: what the user may point at, for the list of everything that is read.
        found: what of the format there is at an existing path, judged by content rather than name.
        evaluations: those at a path, in the order in which their reruns count; their samples are read later.
            None for run directories, which are read by columns, on a fast path of their own.
        takes_where: whether `--where` selects rows of it.
        names: what to call the models that are compared, by what was read and the paths.
        names_of_reruns: what to call those whose reruns are counted; equal names are the same model.
    """

    described: str
    accepted: str
    found: Callable[[str], Iterable[Any]]
    evaluations: Callable[[NamedPath], Sequence[Evaluation]] | None
    takes_where: bool = False
    names: Callable[[Tasks, Sequence[str]], dict[Key, str]] = by_data
    names_of_reruns: Callable[[Tasks], dict[Key, str]] = one_per_model
