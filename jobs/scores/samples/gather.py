"""Gathers the batches of all evaluations, task by task: small numbers per sample, and texts only on request.

Items, prompts and answers are numbered as they come, so that a sample without texts costs some fifty bytes
however long its prompt and its response are.
"""

import gc
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import Notice
from jobs.formats.samples import Evaluation, ItemId, Query, SampleBatch, Stated, TaskFacts, text_hash
from jobs.scores.rerun_set import ABSENT, chosen_answer
from jobs.scores.samples.documents import Documents
from orchestrator.errors import UserError
from stats.arrays import Floats, Ints

NO_RERUN = -1
LONGEST_KEY = 32
KEPT = ("responses", "filtered", "errors", "finish_reasons", "prompt_tokens", "output_tokens")
"""Columns of samples that only a run directory has room for."""


@dataclass(frozen=True, order=True)
class Origin:
    """Where samples come from.

    Attributes:
        place: number of the path that the user gave.
        evaluation: number of the evaluation among those of all paths.
        model: the model's name as the data state it, or None.
    """

    place: int
    evaluation: int
    model: str | None


@dataclass(frozen=True)
class Chunk:
    """The numbers of one batch; all arrays have shape (samples,).

    Attributes:
        items: number of the item, in order of appearance in the task.
        temperature: NaN where unknown.
        reruns: NO_RERUN where the evaluation has one sample of each item.
        prompts: a number per distinct prompt of the task, -1 where unknown.
        answers: a number per distinct answer of the task, ABSENT where there is none or none was asked for.
        scores: by metric.
    """

    items: Ints
    temperature: NDArray[np.float32]
    reruns: Ints
    prompts: Ints
    answers: Ints
    scores: dict[str, Floats]


@dataclass
class Part:
    """What one evaluation holds of one model and task.

    Attributes:
        origin: which evaluation, which model.
        label: what to call the evaluation.
        chunks: its samples, batch by batch.
        texts: further columns, by name, where documents were asked for.
        warnings: that came with the batches.
        evaluated: items that were evaluated, as the data state it; 0 where they do not.
    """

    origin: Origin
    label: str
    chunks: list[Chunk] = field(default_factory=list)
    texts: dict[str, list[object]] = field(default_factory=dict)
    warnings: list[Notice] = field(default_factory=list)
    evaluated: int = 0


class GatheredTask:
    """All samples of one task.

    Attributes:
        facts: what the first batch knows about it.
        numbers: number of every item, in order of appearance.
        documents: what is known about the items.
        parts: by evaluation and model.
        stated: everything that is stated about direction and range, by metric.
        not_numbers: metrics that are not a number in every sample.
    """

    def __init__(self, facts: TaskFacts) -> None:
        self.facts = facts
        self.numbers: dict[ItemId, int] = {}
        self.documents = Documents()
        self.parts: dict[Origin, Part] = {}
        self.stated: dict[str, set[Stated]] = {}
        self.not_numbers: set[str] = set()
        self._metrics: dict[str, None] = {}
        self._prompts: dict[Hashable, int] = {}
        self._answers: dict[Hashable, int] = {}

    @property
    def metrics(self) -> list[str]:
        """Metrics that appear, the preferred ones first."""
        order = self.facts.preferred
        return sorted(self._metrics, key=lambda m: order.index(m) if m in order else len(order))

    @property
    def numeric_metrics(self) -> list[str]:
        """Those that are a number in every sample that has them."""
        return [metric for metric in self.metrics if metric not in self.not_numbers]

    @property
    def prompt_hashes(self) -> list[Hashable]:
        """The hash behind every number of a prompt."""
        return list(self._prompts)

    def add(self, batch: SampleBatch, origin: Origin, label: str, query: Query) -> None:
        """Take in a batch."""
        part = self.parts.setdefault(origin, Part(origin, label))
        part.warnings += batch.warnings
        self._metrics |= dict.fromkeys(batch.scores)
        self.not_numbers |= batch.not_numbers
        part.evaluated = max(part.evaluated, batch.task.evaluated)
        for metric, stated in batch.task.stated.items():
            self.stated.setdefault(metric, set()).add(stated)
        items = _numbered(batch.items, self.numbers)
        if items.size:
            self.documents.note(items.tolist(), batch, query)
        part.chunks.append(self._chunk(batch, items, query))
        if query.documents:
            for name in KEPT:
                part.texts.setdefault(name, []).extend(getattr(batch, name) or [None] * len(batch.items))

    def _chunk(self, batch: SampleBatch, items: Ints, query: Query) -> Chunk:
        samples = len(batch.items)
        return Chunk(
            items=items,
            temperature=batch.temperatures,
            reruns=np.full(samples, NO_RERUN) if batch.reruns is None else batch.reruns,
            prompts=(
                _coded(batch.prompt_hashes, self._prompts, samples)
                if query.documents
                else _hashed(batch.prompt_hashes, samples)
            ),
            answers=_coded(self._answered(batch) if query.responses else None, self._answers, samples),
            scores=dict(batch.scores),
        )

    def _answered(self, batch: SampleBatch) -> Sequence[Hashable] | None:
        if batch.responses is None:
            return None
        return [_short(chosen_answer(text) if batch.task.likelihoods else text) for text in batch.responses]


def gather(places: Sequence[Sequence[Evaluation]], query: Query) -> dict[str, GatheredTask]:
    """Read all evaluations.

    Args:
        places: the evaluations of each path.
        query: what to read of them.

    Returns:
        The tasks by name, in order of appearance.

    Raises:
        UserError: if the reader refuses.
    """
    tasks: dict[str, GatheredTask] = {}
    number = 0
    for place, evaluations in enumerate(places):
        for evaluation in evaluations:
            with sound_form(evaluation.label), _without_cycle_search():
                for batch in evaluation.read(query):
                    task = tasks.setdefault(batch.task.name, GatheredTask(batch.task))
                    task.add(batch, Origin(place, number, batch.model), evaluation.label, query)
            number += 1
    return tasks


@contextmanager
def _without_cycle_search() -> Iterator[None]:
    """Pause Python's search for reference cycles: parsed data have none, and it would walk all over them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def sound_form(label: str) -> Iterator[None]:
    """Turn what goes wrong inside of data that are not in the form their format promises into one sentence.

    Args:
        label: what to call the data.

    Raises:
        UserError: naming the data and the mistake.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{label} does not conform to its format ({said}).") from error


def _numbered(keys: Iterable[Hashable], known: dict[ItemId, int]) -> Ints:
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)  # type: ignore[arg-type]


def _coded(texts: Sequence[Hashable] | None, known: dict[Hashable, int], samples: int) -> Ints:
    """A number per distinct text, -1 for None."""
    if texts is None:
        return np.full(samples, ABSENT, dtype=np.int64)
    return np.array(
        [ABSENT if text is None else known.setdefault(text, len(known)) for text in texts], dtype=np.int64
    )


def _hashed(texts: Sequence[Hashable] | None, samples: int) -> Ints:
    """A 64-bit number per distinct text, which holds in this process only; -1 for None."""
    if texts is None:
        return np.full(samples, ABSENT, dtype=np.int64)
    return np.array([ABSENT if text is None else hash(text) for text in texts], dtype=np.int64)


def _short(answer: Hashable) -> Hashable:
    """Long texts by their hash, so that a million answers need not be kept to be compared."""
    return text_hash(answer) if isinstance(answer, str) and len(answer) > LONGEST_KEY else answer
