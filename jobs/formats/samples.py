"""Samples as a reader hands them over: records in columns, evaluation by evaluation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from operator import attrgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jobs.formats.metrics import Bounds, as_number
from jobs.formats.notices import Notice, some
from stats.arrays import Floats, Ints

ItemId = int | str
Texts = Sequence[str | None]

SAMPLES_AT_ONCE = 1024


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
class Query:
    """What a reader is asked for; it may leave out every column that is not.

    Attributes:
        responses: what was answered.
        documents: prompts, targets, documents and whatever else a run directory keeps.
        prompts: prompts, for pairing by them.
        cluster: the column of the documents to take cluster labels from; None for none.
        where: the value that a column must have for a row to be kept.
    """

    responses: bool = False
    documents: bool = False
    prompts: bool = False
    cluster: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_responses(self) -> bool:
        """Whether responses are wanted for themselves or as part of everything."""
        return self.responses or self.documents

    @property
    def needs_prompts(self) -> bool:
        """Whether prompts are wanted for themselves or as part of everything."""
        return self.prompts or self.documents


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
    output_type: str | None = None
    likelihoods: bool = False


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one model on one task; every column has shape (samples,), and None is a column not read.

    Attributes:
        task: the task.
        model: the model's name as the data state it, or None.
        items: identifier of the item.
        scores: by metric; NaN where a sample has no score, infinite where it states one that is not finite.
        not_numbers: metrics that hold something else than a number.
        temperature: of each sample, or one for all; None and NaN where unknown.
        reruns: number that tells the samples of an item apart; None where the evaluation has one of each.
        prompt_hashes: equal for equal prompts.
        doc_hashes: equal for equal documents; two of one item prove that models saw different data.
        clusters: label of the cluster that the item belongs to.
        responses, prompts, targets, docs, filtered: texts, documents (mappings) and filtered responses.
        errors: what went wrong where a request failed.
        finish_reasons, prompt_tokens, output_tokens: as run directories have them.
        warnings: what the reader of a verdict must know about these samples.
    """

    task: TaskFacts
    items: Sequence[ItemId]
    scores: Mapping[str, Floats]
    model: str | None = None
    not_numbers: frozenset[str] = frozenset()
    temperature: float | NDArray[np.float32] | None = None
    reruns: Ints | None = None
    prompt_hashes: Texts | None = None
    doc_hashes: Texts | None = None
    clusters: Sequence[object] | None = None
    responses: Texts | None = None
    prompts: Texts | None = None
    targets: Texts | None = None
    docs: Sequence[object] | None = None
    filtered: Sequence[Mapping[str, str | None] | None] | None = None
    errors: Texts | None = None
    finish_reasons: Texts | None = None
    prompt_tokens: Sequence[int | None] | None = None
    output_tokens: Sequence[int | None] | None = None
    warnings: tuple[Notice, ...] = ()

    @property
    def temperatures(self) -> NDArray[np.float32]:
        """Temperature of every sample, NaN where unknown, shape (samples,)."""
        stated = np.nan if self.temperature is None else self.temperature
        return np.broadcast_to(np.asarray(stated, dtype=np.float32), (len(self.items),))


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
    read: Callable[[Query], Iterable[SampleBatch]]
    settings: Mapping[str, object] = field(default_factory=dict)
    subject: tuple[str, str] | None = None


@dataclass(slots=True)
class Sample:
    """One sample on its way into a batch; the fields are those of `SampleBatch`, one value each."""

    item: ItemId
    scores: dict[str, object]
    temperature: float | None = None
    rerun: int | None = None
    prompt_hash: str | None = None
    doc_hash: str | None = None
    cluster: object = None
    response: str | None = None
    prompt: str | None = None
    target: str | None = None
    doc: object = None
    filtered: Mapping[str, str | None] | None = None
    error: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None


def in_batches(
    task: TaskFacts, model: str | None, samples: Iterable[Sample], warnings: Iterable[Notice] = ()
) -> Iterator[SampleBatch]:
    """Lay samples of one model and task out in columns, without ever holding more than a batch of them.

    Args:
        task: the task.
        model: the model's name as the data state it.
        samples: any number; none gives one empty batch, so that the task is known.
        warnings: to go with the first batch.
    """
    stream, notes = iter(samples), tuple(warnings)
    held = list(islice(stream, SAMPLES_AT_ONCE))
    yield _batch(task, model, held, notes)
    while held := list(islice(stream, SAMPLES_AT_ONCE)):
        yield _batch(task, model, held, ())


def _batch(
    task: TaskFacts, model: str | None, held: Sequence[Sample], warnings: tuple[Notice, ...]
) -> SampleBatch:
    metrics = dict.fromkeys(metric for sample in held for metric in sample.scores)
    scores = {metric: score_column([sample.scores.get(metric) for sample in held]) for metric in metrics}
    fields = zip(*map(attrgetter(*OPTIONAL.values()), held), strict=True)
    columns: dict[str, Any] = dict(zip(OPTIONAL, fields, strict=bool(held)))
    columns |= {name: [_text(name, value) for value in columns.get(name, ())] for name in TEXTS}
    reruns = [sample.rerun for sample in held]
    return SampleBatch(
        task=task,
        model=model,
        items=[sample.item for sample in held],
        scores={metric: column for metric, (column, _) in scores.items()},
        not_numbers=frozenset(metric for metric, (_, is_numeric) in scores.items() if not is_numeric),
        temperature=np.array([sample.temperature for sample in held], dtype=np.float32),
        reruns=None if None in reruns else np.array(reruns, dtype=np.int64),
        warnings=warnings,
        **{name: column for name, column in columns.items() if column.count(None) < len(column)},
    )


OPTIONAL = {
    "prompt_hashes": "prompt_hash",
    "doc_hashes": "doc_hash",
    "clusters": "cluster",
    "responses": "response",
    "prompts": "prompt",
    "targets": "target",
    "docs": "doc",
    "filtered": "filtered",
    "errors": "error",
    "finish_reasons": "finish_reason",
    "prompt_tokens": "prompt_tokens",
    "output_tokens": "output_tokens",
}
"""Columns of a batch that may be absent, and the field of a sample each is made of."""

TEXTS = ("prompt_hashes", "doc_hashes", "responses", "prompts", "targets", "errors", "finish_reasons")


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


def prompt_hash(text: str | None, query: Query) -> str | None:
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
