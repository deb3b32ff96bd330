"""One form of a sample: what every reader of other tools' results hands over, in batches of columns.

Their names are those of a run directory (`orchestrator.rundir.schema`), so that `lldeg import` writes what
was read; a column that is added there needs no mention here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.formats.metrics import Bounds, as_number
from jobs.formats.notices import Notice, some
from orchestrator.rundir.schema import ITEMS, sample_schema
from stats.arrays import Floats, Ints

if TYPE_CHECKING:
    from jobs.formats.columns import Columns

ItemId = int | str
Row = Mapping[str, Any]
"""A sample on its way into a batch: item, scores by metric, rerun, temperature, and any of `COLUMNS`."""

SAMPLES_AT_ONCE = 1024

ITEM_COLUMNS = tuple(name for name in ITEMS.names if name not in {"task", "item"})
"""What is known of an item: prompts, targets, hashes, cluster labels, and documents (mappings)."""
ANSWER_SCHEMA = sample_schema()
IDENTITY = {"item", "doc_hash", "prompt_hash", "temperature", "seed", "scores", "sample_key"}
ANSWER_COLUMNS = tuple(name for name in ANSWER_SCHEMA.names if name not in IDENTITY)
"""What is known of an answer and only a run directory has room for."""
COLUMNS = (*ITEM_COLUMNS, *ANSWER_COLUMNS)
TEXTS = {"doc_hash", "prompt_hash", "prompt", "target"} | {
    name for name in ANSWER_COLUMNS if pa.types.is_string(ANSWER_SCHEMA.field(name).type)
}

PairBy = Literal["id", "prompt"]
"""What tells that the items of two models are the same: their identifiers, or the texts of their prompts."""

Temperature = float | None
"""Sampling temperature; None where the input does not say."""

GENERIC = "score"
"""The metric of a score table that names none."""


@dataclass(frozen=True)
class Stated:
    """What an input itself says about the scores of a task; None where it does not.

    Attributes:
        higher_is_better: direction of the metric.
        bounds: least and greatest possible score, infinite where there is no limit.
        unit: of scores without a range.
    """

    higher_is_better: bool | None = None
    bounds: Bounds | None = None
    unit: str | None = None


UNSTATED = Stated()


@dataclass(frozen=True)
class InputQuery:
    """What the inputs are asked for; a reader may leave out every column that is not.

    Attributes:
        metrics: metric by task name, group name or pattern ("*"); empty for the defaults.
        cluster: a column to cluster items by, "task", "none", or None for what the input itself says.
        where: the value that a column must have for a row to be kept.
        columns: which columns of JSON Lines and CSV files mean what, if the user says so.
        pair_by: what pairs the items of models; None for their identifiers.
        responses: whether what was answered is wanted.
        prompts: whether prompts are wanted, for pairing by them.
        documents: whether everything is wanted that a run directory keeps.
    """

    metrics: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    where: Mapping[str, str] | None = None
    columns: "Columns | None" = None
    pair_by: PairBy | None = None
    responses: bool = field(default=False, kw_only=True)
    prompts: bool = field(default=False, kw_only=True)
    documents: bool = field(default=False, kw_only=True)

    @property
    def cluster_column(self) -> str | None:
        """The column to read cluster labels from, if one was named."""
        return None if self.cluster in {None, "task", "none"} else self.cluster

    @property
    def needs_responses(self) -> bool:
        """Whether responses are wanted for themselves or as part of everything."""
        return self.responses or self.documents

    @property
    def needs_prompts(self) -> bool:
        """Whether prompts are wanted for themselves or as part of everything."""
        return self.prompts or self.documents

    def label(self, values: object) -> str | None:
        """The cluster label among the values of a document; None where there is none, or none is wanted."""
        column = self.cluster_column
        label = values.get(column) if column and isinstance(values, Mapping) else None
        return None if label is None else str(label)


@dataclass(frozen=True)
class TaskFacts:
    """What a format knows about a task beyond its samples.

    Attributes:
        name: its name.
        preferred: metrics in order of preference; the first that is a number in every sample is tested unless
            the user names one. Others follow in the order in which they appear.
        stated: direction and range, by metric, as far as the data state them.
        evaluated: items that were evaluated, as the data state it; 0 where they do not.
        group: the task group it belongs to.
        output_type: lm-eval's word for what is asked of a model.
        likelihoods: whether responses are JSON lists of [log-likelihood, is greedy], one per choice.
    """

    name: str
    preferred: tuple[str, ...] = ()
    stated: Mapping[str, Stated] = field(default_factory=dict)
    evaluated: int = 0
    group: str | None = None
    output_type: str | None = "generate_until"
    likelihoods: bool = False


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one model on one task; all arrays have shape (samples,).

    Attributes:
        task: the task.
        model: the model's name as the data state it, or None.
        items: identifier of the item.
        scores: by metric; NaN where a sample has no score, infinite where it states one that is not finite.
        columns: what else is known, by the names of `COLUMNS`; None where a sample has nothing.
        temperature: NaN where unknown; None where no sample states it.
        reruns: number that tells the samples of an item apart; None where the evaluation has one of each.
        not_numbers: metrics that hold something else than a number.
        warnings: what the reader of a verdict must know about these samples.
    """

    task: TaskFacts
    model: str | None
    items: Sequence[ItemId]
    scores: Mapping[str, Floats]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    temperature: NDArray[np.float32] | None = None
    reruns: Ints | None = None
    not_numbers: frozenset[str] = frozenset()
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation left behind, a log file or a folder: several of a model and task are its reruns.

    Attributes:
        label: what to call it in a sentence, as a rule its path.
        read: hands over its samples; the same model and task may come in several batches.
        settings: everything that decides an answer except the seed; must agree between reruns.
        subject: (model, task), where several evaluations of it in a folder are no reruns: the newest counts.
    """

    label: str
    read: Callable[[InputQuery], Iterable[SampleBatch]]
    settings: Mapping[str, object] = field(default_factory=dict)
    subject: tuple[str, str] | None = None


def in_batches(
    task: TaskFacts, model: str | None, rows: Iterable[Row], warnings: Iterable[Notice] = ()
) -> Iterator[SampleBatch]:
    """Lay samples of one model and task out in columns, without ever holding more than a batch of them.

    Args:
        task: the task.
        model: the model's name as the data state it.
        rows: any number of samples; none gives one empty batch, so that the task is known.
        warnings: to go with the first batch.
    """
    stream, notes = iter(rows), tuple(warnings)
    held = list(islice(stream, SAMPLES_AT_ONCE))
    yield _batch(task, model, held, notes)
    while held := list(islice(stream, SAMPLES_AT_ONCE)):
        yield _batch(task, model, held, ())


def _batch(
    task: TaskFacts, model: str | None, held: Sequence[Row], warnings: tuple[Notice, ...]
) -> SampleBatch:
    metrics = dict.fromkeys(metric for row in held for metric in row["scores"])
    scores = {metric: score_column([row["scores"].get(metric) for row in held]) for metric in metrics}
    present = set().union(*held)
    columns = {name: [row.get(name) for row in held] for name in COLUMNS if name in present}
    reruns = [row.get("rerun") for row in held]
    return SampleBatch(
        task,
        model,
        [row["item"] for row in held],
        scores={metric: column for metric, (column, _) in scores.items()},
        columns={
            name: [_text(name, value) for value in column] if name in TEXTS else column
            for name, column in columns.items()
            if column.count(None) < len(column)
        },
        temperature=np.array([row.get("temperature") for row in held], dtype=np.float32),
        reruns=None if None in reruns else np.array(reruns, dtype=np.int64),
        not_numbers=frozenset(metric for metric, (_, is_numeric) in scores.items() if not is_numeric),
        warnings=warnings,
    )


def _text(name: str, value: object) -> str | None:
    """A text that a file can hold: lone surrogates become replacement characters."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"an entry of {name} is {type(value).__name__}, not text")
    return value.encode("utf-8", "replace").decode()


def score_column(values: Sequence[object]) -> tuple[Floats, bool]:
    """Scores as a column of a batch.

    Args:
        values: one per sample; None where there is no score.

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


def prompt_hash(text: str | None, query: InputQuery) -> str | None:
    """Hash of a prompt: one to keep where documents are kept, else a cheap one of this process."""
    if text is None or query.documents:
        return text_hash(text)
    return str(hash(text))


def text_hash(text: str | None) -> str | None:
    """Hash of a prompt or a document (128 bits, hexadecimal), for formats that have none of their own."""
    return None if text is None else blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


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


def as_text(value: object) -> str | None:
    """A value as a text column holds it: text as it is, anything else as JSON; lone surrogates replaced."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()
