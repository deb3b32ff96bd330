"""Gathers the batches of all evaluations, task by task: small numbers per sample, and texts only on request.

Items, prompts and answers are numbered as they come, so that a sample without texts costs some fifty bytes
however long its prompt and its response are.
"""

import gc
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import Notice
from jobs.formats.samples import (
    ANSWER_COLUMNS,
    ITEM_COLUMNS,
    Evaluation,
    InputQuery,
    ItemId,
    SampleBatch,
    Stated,
    TaskFacts,
    text_hash,
)
from jobs.formats.tables import ABSENT, NO_SEED
from orchestrator.errors import UserError
from stats.arrays import Floats, Ints

LONGEST_KEY = 32


@dataclass(frozen=True)
class Origin:
    """Where samples come from.

    Attributes:
        place: number of the path that the user gave.
        evaluation: number of the evaluation among those of all paths.
        model: the model's name as the data state it, or None.
        label: what to call the evaluation.
    """

    place: int
    evaluation: int
    model: str | None
    label: str


class GatheredTask:
    """All samples of one task; columns have shape (samples,).

    Attributes:
        facts: what the first batch knows about it.
        items: number of every item, in order of appearance.
        origins: number of every evaluation and model, likewise.
        metrics: those that appear, each with the numbers of the origins that have it.
        not_numbers: metrics that are not a number in every sample.
        stated: everything that is stated about direction and range, by metric.
        evaluated: by origin, items that were evaluated as the data state it; 0 where they do not.
        warnings: by origin, those that came with the batches.
        of_items: what the first sample that has it tells of each item, by the names of `ITEM_COLUMNS`. Of
            documents without a hash only what all samples agree on is kept.
        conflicts: by the same names, the first item of which two things are told, and both.
        of_answers: further columns, by the names of `ANSWER_COLUMNS`, where documents were asked for.
    """

    def __init__(self, facts: TaskFacts) -> None:
        self.facts = facts
        self.items: dict[ItemId, int] = {}
        self.origins: dict[Origin, int] = {}
        self.metrics: dict[str, set[int]] = {}
        self.not_numbers: set[str] = set()
        self.stated: dict[str, set[Stated]] = {}
        self.evaluated: dict[Origin, int] = {}
        self.warnings: dict[Origin, list[Notice]] = {}
        self.of_items: dict[str, list[Any]] = {}
        self.conflicts: dict[str, tuple[int, object, object]] = {}
        self.of_answers: dict[str, list[Any]] = {}
        self._prompts: dict[Hashable, int] = {}
        self._answers: dict[Hashable, int] = {}
        self._numbers: dict[str, list[NDArray[Any]]] = {}
        self._scores: list[tuple[int, Mapping[str, Floats]]] = []

    @property
    def numeric_metrics(self) -> list[str]:
        """Metrics that are a number in every sample that has them, the preferred ones first."""
        order = self.facts.preferred
        metrics = [metric for metric in self.metrics if metric not in self.not_numbers]
        return sorted(metrics, key=lambda m: order.index(m) if m in order else len(order))

    @property
    def prompt_hashes(self) -> list[Hashable]:
        """The hash behind every number of a prompt; the last one, None, is that of ABSENT."""
        return [*self._prompts, None]

    def column(self, name: str) -> NDArray[Any]:
        """Numbers of all samples: origin, item, temperature (NaN where unknown), rerun, prompt and answer."""
        chunks = self._numbers[name]
        if len(chunks) > 1:
            chunks[:] = [np.concatenate(chunks)]
        return chunks[0]

    def score(self, metric: str) -> Floats:
        """Scores of all samples by one metric, NaN where there is none."""
        return np.concatenate([held.get(metric, np.full(size, np.nan)) for size, held in self._scores])

    def told_of_items(self, name: str) -> list[Any]:
        """What is known of every item by one of the names of `ITEM_COLUMNS`, None where nothing is."""
        known = self.of_items.get(name, [])
        return known + [None] * (len(self.items) - len(known))

    def add(self, batch: SampleBatch, origin: Origin, query: InputQuery) -> None:
        """Take in a batch."""
        number, size = self.origins.setdefault(origin, len(self.origins)), len(batch.items)
        self.warnings.setdefault(origin, []).extend(batch.warnings)
        self.evaluated[origin] = max(self.evaluated.get(origin, 0), batch.task.evaluated)
        self.not_numbers |= batch.not_numbers
        for metric in batch.scores:
            self.metrics.setdefault(metric, set()).add(number)
        for metric, stated in batch.task.stated.items():
            self.stated.setdefault(metric, set()).add(stated)
        items = np.array([self.items.setdefault(i, len(self.items)) for i in batch.items], dtype=np.int64)
        unstated = np.full(size, np.nan, dtype=np.float32)
        columns = {
            "origin": np.full(size, number),
            "item": items,
            "temperature": unstated if batch.temperature is None else batch.temperature,
            "rerun": np.full(size, NO_SEED) if batch.reruns is None else batch.reruns,
            "prompt": self._prompt_codes(batch, query),
            "answer": self._answer_codes(batch, query),
        }
        for name, column in columns.items():
            self._numbers.setdefault(name, []).append(column)
        self._scores.append((size, batch.scores))
        for name in ITEM_COLUMNS if query.documents else ("doc_hash", "cluster"):
            self._note(name, items.tolist(), batch.columns.get(name, ()))
        for name in ANSWER_COLUMNS if query.documents else ():
            self.of_answers.setdefault(name, []).extend(batch.columns.get(name) or [None] * size)

    def _prompt_codes(self, batch: SampleBatch, query: InputQuery) -> Ints:
        """A number per distinct prompt, which holds in this process only unless documents are kept."""
        hashes = batch.columns.get("prompt_hash")
        if hashes is None or query.documents:
            return _codes(hashes, self._prompts, len(batch.items))
        return np.array([ABSENT if text is None else hash(text) for text in hashes], dtype=np.int64)

    def _answer_codes(self, batch: SampleBatch, query: InputQuery) -> Ints:
        texts = batch.columns.get("response") if query.responses else None
        if texts is not None and batch.task.likelihoods:
            texts = [chosen_answer(text) for text in texts]
        return _codes(None if texts is None else map(_short, texts), self._answers, len(batch.items))

    def _note(self, name: str, items: Sequence[int], values: Iterable[Any]) -> None:
        known = self.of_items.setdefault(name, [])
        known.extend([None] * (len(self.items) - len(known)))
        hashes = self.of_items.get("doc_hash", known)
        for item, value in zip(items, values, strict=False):
            if known[item] is None:
                known[item] = dict(value) if isinstance(value, Mapping) else value
            elif name == "doc":
                if hashes[item] is None and isinstance(known[item], dict) and isinstance(value, Mapping):
                    known[item] |= {key: _agreed(known[item], key, value[key]) for key in value}
            elif value is not None and value != known[item]:
                self.conflicts.setdefault(name, (item, known[item], value))


def _agreed(known: Mapping[Any, Any], key: object, value: object) -> object:
    return value if known.get(key, value) == value else None


def _codes(texts: Iterable[Hashable] | None, known: dict[Hashable, int], samples: int) -> Ints:
    """A number per distinct text, ABSENT for None."""
    if texts is None:
        return np.full(samples, ABSENT, dtype=np.int64)
    numbers = [ABSENT if text is None else known.setdefault(text, len(known)) for text in texts]
    return np.array(numbers, dtype=np.int64)


def _short(answer: Hashable) -> Hashable:
    """Long texts by their hash, so that a million answers need not be kept to be compared."""
    return text_hash(answer) if isinstance(answer, str) and len(answer) > LONGEST_KEY else answer


def gather(places: Sequence[Sequence[Evaluation]], query: InputQuery) -> dict[str, GatheredTask]:
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
    numbered = ((place, one) for place, evaluations in enumerate(places) for one in evaluations)
    for number, (place, evaluation) in enumerate(numbered):
        with sound_form(evaluation.label), _without_cycle_search():
            for batch in evaluation.read(query):
                task = tasks.setdefault(batch.task.name, GatheredTask(batch.task))
                task.add(batch, Origin(place, number, batch.model, evaluation.label), query)
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


def chosen_answer(response: str | None) -> Hashable:
    """Which choice a response to a log-likelihood task favours; of a single one, whether it is greedy.

    Args:
        response: a JSON list of [log-likelihood, is greedy], one per choice; anything else stays text.
    """
    try:
        choices = json.loads(response or "")
    except (ValueError, RecursionError):
        return response
    try:
        likelihoods = [float(choice[0]) for choice in choices]
        return str(choices[0][1]) if len(choices) == 1 else int(np.argmax(likelihoods))
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        return json.dumps(choices)
