"""One form of a sample: what every input format hands over, in batches of columns.

Their names are those of a run directory (`orchestrator.rundir.schema`), so that `lldeg import` writes what
was read; a column that is added there needs no mention here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.formats.columns import Columns
from jobs.formats.json_files import as_text, text_hash
from jobs.formats.metrics import Bounds, as_number
from jobs.formats.notices import Notice, some
from orchestrator.rundir.measurements import COLUMNS as MEASURED_COLUMNS
from orchestrator.rundir.measurements import looping
from orchestrator.rundir.schema import ITEMS, sample_schema
from stats.arrays import Floats, Ints

ItemId = int | str
Row = Mapping[str, Any]
"""A sample on its way into a batch: item, scores by metric, rerun, and any of `COLUMNS`."""
Key = tuple[int, str | None]  # number of a path, and a model's name as the data in it state it

SAMPLES_AT_ONCE = 1024

ITEM_COLUMNS = tuple(name for name in ITEMS.names if name not in {"task", "item"})
"""What is known of an item: prompts, targets, hashes, cluster labels, and documents (mappings)."""
ANSWER_SCHEMA = sample_schema()
IDENTITY = {"item", "doc_hash", "prompt_hash", "temperature", "seed", "scores", "sample_key"}
ANSWER_COLUMNS = tuple(name for name in ANSWER_SCHEMA.names if name not in IDENTITY)
"""What is known of an answer and only a run directory has room for."""
COLUMNS = (*ITEM_COLUMNS, *ANSWER_COLUMNS)
AS_TEXT = {"prompt", "target", "response", "error"}
"""Of these a value that is no text is kept as JSON; other columns of texts must hold texts."""
TEXTS = {"doc_hash", "prompt_hash"} | {
    name for name in ANSWER_COLUMNS if pa.types.is_string(ANSWER_SCHEMA.field(name).type)
}
WHOLE = {name for name in ANSWER_COLUMNS if pa.types.is_integer(ANSWER_SCHEMA.field(name).type)}
TOO_MANY = 2**31  # for a count
MEASURED = MEASURED_COLUMNS.keys() - {"response"}

PairBy = Literal["id", "prompt"]
"""What tells that the items of two models are the same: their identifiers, or the texts of their prompts."""

Temperature = float | None  # sampling temperature; None where the input does not say

DEFAULT_TASK = "scores"  # the task of a table that names none


@dataclass(frozen=True)
class Stated:
    """What an input itself says about the scores of a task; None where it does not."""

    higher_is_better: bool | None = None  # direction of the metric
    bounds: Bounds | None = None  # least and greatest possible score, infinite where there is no limit
    unit: str | None = None  # of scores without a range


UNSTATED = Stated()


@dataclass(frozen=True)
class InputQuery:
    """What the inputs are asked for; a reader may leave out every column that is not."""

    # Metric by task name, group name or pattern ("*"); empty for the defaults
    metrics: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None  # a column, "task", "none", or None for what the input itself says
    where: Mapping[str, str] | None = None  # the value that a column must have for a row to be kept
    columns: Columns | None = None  # which columns of JSON Lines and CSV files mean what, if the user says so
    pair_by: PairBy | None = None  # what pairs the items of models; None for their identifiers
    responses: bool = field(default=False, kw_only=True)  # whether what was answered is wanted
    prompts: bool = field(default=False, kw_only=True)  # whether prompts are wanted, for pairing by them
    documents: bool = field(default=False, kw_only=True)  # everything that a run directory keeps
    runs: bool = field(default=False, kw_only=True)  # whether single scores are wanted where means say all

    @cached_property
    def cluster_column(self) -> str | None:
        """The column to read cluster labels from, if one was named."""
        return None if self.cluster in {None, "task", "none"} else self.cluster

    @cached_property
    def wanted(self) -> frozenset[str]:
        """Those of `COLUMNS` that are wanted, for themselves or as part of everything."""
        asked = {"prompt_hash": True, "doc_hash": True, "prompt": self.prompts, "response": self.responses}
        asked |= dict.fromkeys(MEASURED, True)
        return frozenset(name for name in COLUMNS if self.documents or asked.get(name, False))

    def prompt_hash(self, text: str | None) -> str | None:
        """Hash of a prompt: one to keep where documents are kept, else a cheap one of this process."""
        return text_hash(text) if text is None or self.documents else str(hash(text))

    def sample(
        self, item: ItemId, scores: Row, *, rerun: int | None = None, labels: object = None, **told: Any
    ) -> dict[str, Any]:
        """A sample as it goes into a batch, with its scores by metric; `rerun` tells those of an item apart.

        The label to cluster by is looked up in `labels`, values of the document. Any of `COLUMNS` may be told
        as the tool has it: what is not wanted is left out, and a prompt is hashed unless its hash is told.

        Raises TypeError if something else is where there must be a text.
        """
        row: dict[str, Any] = {"item": item, "scores": scores, "rerun": rerun}
        if "prompt_hash" not in told:
            prompt = told.get("prompt")
            row["prompt_hash"] = self.prompt_hash(prompt if isinstance(prompt, str) else as_text(prompt))
        if self.cluster_column and isinstance(labels, Mapping):
            label = labels.get(self.cluster_column)
            row["cluster"] = None if label is None else str(label)
        text = as_text(told.get("response")) if self.documents else None
        told["looping"] = None if text is None else looping(text)
        for name in self.wanted:
            if (value := told.get(name)) is None:
                continue
            if name in MEASURED and not self.documents:
                row[name] = measured(name, value)
            elif name in AS_TEXT or (name in TEXTS and isinstance(value, str)):
                row[name] = as_text(value)  # lone surrogates become replacement characters
            elif name in TEXTS:
                raise TypeError(f"an entry of {name} is {type(value).__name__}, not text")
            elif name == "filtered":
                row[name] = {filter_name: as_text(text) for filter_name, text in value.items()}
            else:
                row[name] = int(value) if name in WHOLE else value
        return row


PLAIN = InputQuery()  # nothing in particular


@dataclass(frozen=True)
class TaskFacts:
    """What a format knows about the samples of one model on one task."""

    name: str  # of the task
    model: str | None = None  # the model's name as the data state it, or None
    temperature: object = None  # of all samples, as the data state it; what is no number is unknown
    # Metrics in order of preference; the first that is a number in every sample is tested unless the user
    # names one. Others follow in the order in which they appear
    preferred: tuple[str, ...] = ()
    stated: Mapping[str, Stated] = field(default_factory=dict)  # direction and range, by metric
    evaluated: int = 0  # items that were evaluated, as the data state it; 0 where they do not
    group: str | None = None  # the task group it belongs to
    output_type: str | None = "generate_until"  # lm-eval's word for what is asked of a model
    likelihoods: bool = False  # responses are JSON lists of [log-likelihood, is greedy], one per choice
    warnings: tuple[Notice, ...] = ()  # what the reader of a verdict must know about these samples


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one model on one task; all arrays have shape (samples,)."""

    task: TaskFacts  # what is known about all of them
    items: Sequence[ItemId]  # identifier of the item
    scores: Mapping[str, Floats]  # by metric; NaN where there is none, infinite where one is not finite
    # What else is known, by the names of `COLUMNS`; None where a sample has nothing
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    temperature: NDArray[np.float32] | None = None  # NaN where unknown; None for that of the task
    reruns: Ints | None = None  # tells the samples of an item apart; None where there is one of each
    not_numbers: frozenset[str] = frozenset()  # metrics that hold something else than a number

    @staticmethod
    def of(task: TaskFacts, rows: Sequence[Row]) -> "SampleBatch":
        """Lay samples out in columns."""
        metrics = dict.fromkeys(chain.from_iterable(row["scores"] for row in rows))
        scores = {metric: score_column([row["scores"].get(metric) for row in rows]) for metric in metrics}
        present = set().union(*rows)
        reruns = [row["rerun"] for row in rows]
        return SampleBatch(
            task,
            [row["item"] for row in rows],
            scores={metric: column for metric, (column, _) in scores.items()},
            columns={name: [row.get(name) for row in rows] for name in COLUMNS if name in present},
            reruns=None if None in reruns else np.array(reruns, dtype=np.int64),
            not_numbers=frozenset(metric for metric, (_, is_numeric) in scores.items() if not is_numeric),
        )


Samples = Iterator[TaskFacts | Row]
"""What is known of all samples of one model and task, then some of them, which may be none; and so on."""


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation left behind, a log file or a folder: several of a model and task are its reruns."""

    label: str  # what to call it in a sentence, as a rule its path
    # Hands over its samples, in batches or one by one
    read: Callable[[InputQuery], "Samples | Iterable[SampleBatch]"]
    settings: Mapping[str, object] = field(default_factory=dict)  # all that decides an answer but the seed
    subject: tuple[str, str] | None = None  # (model, task), of several evaluations of which the newest counts

    def batches(self, query: InputQuery) -> Iterator[SampleBatch]:
        """Its samples in columns; no more than a batch of each model and task is held."""
        held: dict[int, tuple[TaskFacts, list[Row]]] = {}
        for one in self.read(query):
            if isinstance(one, SampleBatch):
                yield one
            elif isinstance(one, TaskFacts):
                if id(one) not in held:
                    held[id(one)] = one, []
                    yield SampleBatch.of(one, [])
                task, rows = held[id(one)]
            else:
                rows.append(one)
                if len(rows) == SAMPLES_AT_ONCE:
                    yield SampleBatch.of(task, rows)
                    rows.clear()
        for task, rows in held.values():
            if rows:
                yield SampleBatch.of(task, rows)


@dataclass(frozen=True)
class InputFormat:
    """An input format: how to recognise it, and what reads it."""

    described: str  # what an input of this format is, for a sentence ("a score table")
    accepted: str  # what the user may point at, for the list of everything that is read
    found: Callable[[str], Iterable[Any]]  # what there is of it at an existing path, by content, not name
    # Those at a path, in the order in which their reruns count; their samples are read later. None for run
    # directories, which are read by columns, on a fast path of their own
    evaluations: Callable[[str], Iterable[Evaluation]] | None
    # The same where all of a path is one task, whatever is in it; None if what is in it says so
    of_task: Callable[[str, str], Iterable[Evaluation]] | None = None
    takes_where: bool = False  # whether `--where` selects rows of it
    # What to call the models that are compared, by what was read and the paths; None for `names.by_data`
    names: Callable[[Mapping[str, Any], Sequence[str]], dict[Key, str]] | None = None
    # What to call those whose reruns are counted; equal names are the same model. None for
    # `names.one_per_model`
    names_of_reruns: Callable[[Mapping[str, Any]], dict[Key, str]] | None = None


def measured(name: str, value: object) -> Any:
    """A value of a measured column; None if it is none, no mistake where only scores are asked for."""
    if name in TEXTS:
        return value if isinstance(value, str) else None
    return value if isinstance(value, int | float) and 0 <= value < TOO_MANY else None


def score_column(values: Sequence[object]) -> tuple[Floats, bool]:
    """Scores as a column of a batch, from a value per sample, which is None where there is no score.

    Returns:
        Shape (samples,): NaN where there is no score, infinity where one is stated that is not finite; and
        whether all of those that are stated are numbers.
    """
    numbers = [value if type(value) is float else as_number(value) for value in values]
    unstated = [i for i, number in enumerate(numbers) if number is None]
    column = np.array([np.inf if number is None else number for number in numbers], dtype=np.float64)
    column[np.isnan(column)] = np.inf
    column[[i for i in unstated if values[i] is None]] = np.nan
    return column, all(values[i] is None for i in unstated)


def as_temperature(value: float | np.float32) -> Temperature:
    """The shortest decimal that is this float32 (0.3, not 0.30000001192); None for NaN."""
    single = np.float32(value)
    return None if np.isnan(single) else float(str(single))


def label_codes(labels: Iterable[object]) -> Ints:
    """Number labels in order of first appearance; shape (labels,)."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.int64)


def temperatures_text(temperatures: Iterable[Temperature]) -> str:
    """Temperatures for a sentence: "temperature 0, 0.3", or "an unknown temperature"."""
    known = sorted({t for t in temperatures if t is not None})
    return f"temperature {some([f'{t:g}' for t in known])}" if known else "an unknown temperature"
