"""The results of other tools as tables: every task with the samples of each model, over all evaluations.

Samples are small numbers, and texts only on request: items, prompts and answers are numbered as they come, so
that a sample without texts costs some fifty bytes however long its prompt and its response are.
"""

import gc
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.formats import samples
from jobs.formats.json_files import as_text, text_hash
from jobs.formats.metrics import requested, resolve_metric
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.tables import ABSENT, NO_SEED, Answers, Items, TaskTables
from orchestrator.errors import UserError
from orchestrator.rundir.measurements import of_answers
from stats.arrays import Floats, Ints
from stats.fidelity import NAMES

LONGEST_KEY = 32

Origin = tuple[int, int, str | None]
"""Where samples come from: numbers of the path and of the evaluation among all, and the model as stated."""


class LogTask(TaskTables):
    """One task: `add` takes its samples in, `settle` names its models. Columns have shape (samples,)."""

    is_planned = False

    def __init__(self, facts: samples.TaskFacts) -> None:
        self.facts, self.name, self.group = facts, facts.name, facts.group  # what the first batch knows
        self.item_numbers: dict[samples.ItemId, int] = {}  # in order of appearance
        self.origins: dict[Origin, int] = {}  # number of every evaluation and model, likewise
        # By these numbers, what to call the evaluation, and what is known of its samples
        self.told: list[tuple[str, samples.TaskFacts]] = []
        self.not_numbers: set[str] = set()  # metrics that are not a number in every sample
        self.metrics: dict[str, set[int]] = {}  # those that appear, with the origins that have them
        self.of_answers: dict[str, list[Any]] = {}  # `ANSWER_COLUMNS`, where documents were asked for
        self.rows: dict[str, Ints] = {}  # which samples are those of each model, ascending
        self._stated: dict[str, set[samples.Stated]] = {}
        self._of_items: dict[str, list[Any]] = {}
        self._conflicts: dict[str, tuple[int, object, object]] = {}  # by column: item, and what is told of it
        self.prompts: dict[Hashable, int] = {}  # number of every hash of a prompt, where documents are kept
        self._answers: dict[Hashable, int] = {}
        self._numbers: dict[str, list[NDArray[Any]]] = {}
        self._scores: list[tuple[int, Mapping[str, Floats]]] = []
        self._measured: list[tuple[int, Mapping[str, NDArray[np.float32]]]] = []

    def add(self, batch: samples.SampleBatch, origin: Origin, label: str, query: samples.InputQuery) -> None:
        """Take in a batch."""
        number, size, facts = self.origins.setdefault(origin, len(self.told)), len(batch.items), batch.task
        if number == len(self.told):
            self.told.append((label, facts))
        self.not_numbers |= batch.not_numbers
        for metric in batch.scores:
            self.metrics.setdefault(metric, set()).add(number)
        for metric, stated in facts.stated.items():
            self._stated.setdefault(metric, set()).add(stated)
        known = self.item_numbers
        items = np.array([known.setdefault(item, len(known)) for item in batch.items], dtype=np.int64)
        temperature = batch.temperature
        if temperature is None:
            of_all = facts.temperature if isinstance(facts.temperature, (int, float)) else np.nan
            temperature = np.full(size, of_all, dtype=np.float32)
        texts = batch.columns.get("response") if query.responses else None
        if texts is not None:
            answers = map(chosen_answer, texts) if facts.likelihoods else texts
            # Long texts by their hash, so that a million answers need not be kept to be compared
            texts = [text_hash(a) if isinstance(a, str) and len(a) > LONGEST_KEY else a for a in answers]
        prompts = batch.columns.get("prompt_hash")
        if prompts is None or query.documents:
            prompt_codes = _codes(prompts, self.prompts, size)
        else:  # numbers that hold in this process only
            prompt_codes = np.array([ABSENT if text is None else hash(text) for text in prompts], np.int64)
        columns = {
            "origin": np.full(size, number),
            "item": items,
            "temperature": temperature,
            "rerun": np.full(size, NO_SEED) if batch.reruns is None else batch.reruns,
            "prompt": prompt_codes,
            "answer": _codes(texts, self._answers, size),
        }
        for name, column in columns.items():
            self._numbers.setdefault(name, []).append(column)
        self._scores.append((size, batch.scores))
        told = [one for one in of_answers(facts.output_type) if one.column in batch.columns]
        values = {one.name: one.values(pa.array(batch.columns[one.column], one.type)) for one in told}
        values |= {name: np.array(batch.columns[name], "f4") for name in NAMES if name in batch.columns}
        self._measured.append((size, values))
        for name in samples.ITEM_COLUMNS if query.documents else ("doc_hash", "cluster"):
            self._note(name, items.tolist(), batch.columns.get(name, ()))
        for name in samples.ANSWER_COLUMNS if query.documents else ():
            self.of_answers.setdefault(name, []).extend(batch.columns.get(name) or [None] * size)

    def _note(self, name: str, items: Sequence[int], values: Iterable[Any]) -> None:
        """Keep what is first told of an item; of documents without a hash what all samples agree on."""
        known = self._of_items.setdefault(name, [])
        known.extend([None] * (len(self.item_numbers) - len(known)))
        hashes = self._of_items.get("doc_hash", known)
        for item, value in zip(items, values, strict=False):
            if known[item] is None:
                known[item] = dict(value) if isinstance(value, Mapping) else value
            elif name == "doc":
                held = known[item]
                if hashes[item] is None and isinstance(held, dict) and isinstance(value, Mapping):
                    held |= {key: v if held.get(key, v) == v else None for key, v in value.items()}
            elif value is not None and value != known[item]:
                self._conflicts.setdefault(name, (item, known[item], value))

    def settle(self, names: Mapping[samples.Key, str]) -> None:
        """Name the models, by path and stated name.

        Raises UserError if an evaluation holds an item twice.
        """
        self._model_of = [names[place, model] for place, _, model in self.origins]
        self.models = list(dict.fromkeys(self._model_of))
        self.unlisted, self.warnings = {}, {}
        for model, (_, facts) in zip(self._model_of, self.told, strict=True):
            more = facts.evaluated - len(self.item_numbers)
            self.unlisted[model] = max(more, self.unlisted.get(model, 0))
            self.warnings[model] = [*self.warnings.get(model, ()), *facts.warnings]
        for model in self.models:
            origins = [number for number, name in enumerate(self._model_of) if name == model]
            self.rows[model] = np.flatnonzero(np.isin(self.column("origin"), origins))
        for model, rows in self.rows.items():
            passes, pass_of = self.passes(model)
            temperatures = np.unique(self.temperature[rows], return_inverse=True)[1]
            items = self.column("item")[rows]
            keys = (temperatures * len(passes) + pass_of) * len(self.item_numbers) + items
            first = np.unique(keys, return_index=True)[1]
            if len(first) < len(keys):
                sample = int(np.setdiff1d(np.arange(len(keys)), first)[0])
                label, item = self.told[passes[pass_of[sample]][0]][0], list(self.item_numbers)[items[sample]]
                raise UserError(
                    f"{label} contains item {item} of task {self.name} twice: remove one of them."
                )

    @property
    def numeric_metrics(self) -> list[str]:
        """Metrics that are a number in every sample that has them, the preferred ones first."""
        order = self.facts.preferred
        metrics = [metric for metric in self.metrics if metric not in self.not_numbers]
        return sorted(metrics, key=lambda m: order.index(m) if m in order else len(order))

    def column(self, name: str) -> NDArray[Any]:
        """Numbers of all samples: origin, item, temperature (NaN where unknown), rerun, prompt and answer."""
        chunks = self._numbers[name]
        if len(chunks) > 1:
            chunks[:] = [np.concatenate(chunks)]
        return chunks[0]

    def score(self, metric: str) -> Floats:
        """Scores of all samples by one metric, NaN where there is none."""
        return np.concatenate([held.get(metric, np.full(size, np.nan)) for size, held in self._scores])

    @cached_property
    def measured(self) -> Mapping[str, NDArray[np.float32]]:
        """Measurements of all samples, by name, as far as any sample has them."""
        names = dict.fromkeys(name for _, held in self._measured for name in held)
        unknown = {size: np.full(size, np.nan, np.float32) for size, _ in self._measured}
        return {
            name: np.concatenate([held.get(name, unknown[size]) for size, held in self._measured])
            for name in names
        }

    def told_of_items(self, name: str) -> list[Any]:
        """What is known of every item by one of the names of `ITEM_COLUMNS`, None where nothing is."""
        known = self._of_items.get(name, [])
        return known + [None] * (len(self.item_numbers) - len(known))

    def passes(self, model: str) -> tuple[list[tuple[int, int]], Ints]:
        """Every pass of a model over the items, by origin and rerun within it; and that of each sample."""
        rows = self.rows[model]
        reruns, codes = np.unique(self.column("rerun")[rows], return_inverse=True)
        keys = self.column("origin")[rows] * max(len(reruns), 1) + codes
        keys, pass_of = np.unique(keys, return_inverse=True)
        return [(key // len(reruns), int(reruns[key % len(reruns)])) for key in keys.tolist()], pass_of

    def seeds(self, model: str) -> list[int | None]:
        """Seeds of the passes: reruns as a single evaluation states them, else 0, 1, …; None for one pass."""
        passes = self.passes(model)[0]
        if self._model_of.count(model) == 1:
            return [None if rerun == NO_SEED else rerun for _, rerun in passes]
        return list(range(len(passes)))

    @cached_property
    def temperature(self) -> NDArray[np.float32]:
        """Temperature of all samples, NaN where unknown.

        All are, if some samples do not state theirs and no model has several: a model whose log does not
        state the temperature could otherwise not be paired with one whose log does.
        """
        stated: NDArray[np.float32] = self.column("temperature")
        found = [np.unique(stated[rows]) for rows in self.rows.values()]
        unstated = any(np.isnan(temperatures).any() for temperatures in found)
        if unstated and all((~np.isnan(temperatures)).sum() <= 1 for temperatures in found):
            return np.full_like(stated, np.nan)
        return stated

    def metric(self, metrics: Mapping[str, str], notices: list[Notice]) -> str | None:
        """The metric asked for, else the first that is a number in every sample of every model."""
        numeric = self.numeric_metrics
        if not numeric:
            names = sorted({metric.split(",")[0] for metric in self.metrics})
            why = f"no metric with a number per sample ({some(names)}: computed over the whole corpus)"
            said = f"Task {self.name} has {why if names else 'no score at all'}, so it cannot be tested."
            notices.append(Notice(NoticeCode.NO_TESTABLE_METRIC, said, self.name))
            return None
        asked = requested(self.name, self.group, metrics)
        if asked is not None:
            return resolve_metric(self.name, asked, numeric)
        answered = {model for model, rows in self.rows.items() if len(rows)}
        common = [m for m in numeric if answered <= {self._model_of[n] for n in self.metrics[m]}]
        if not common:
            raise UserError(
                f"The models have no metric of task {self.name} in common ({some(numeric)}): they were "
                "scored in different ways and cannot be paired."
            )
        metric, code = common[0], NoticeCode.OTHER_METRICS
        others = [key for key in numeric if key != metric]
        if metric in self.facts.preferred:
            code = NoticeCode.OTHER_FILTERS
            others = [key for key in others if key.split(",")[0] == metric.split(",")[0]]
        if others:
            choose = f"choose with --metric {self.name}=METRIC"
            said = f"{self.name} is tested on {metric}; it also has {some(others)} ({choose})."
            notices.append(Notice(code, said))
        return metric

    def stated(self, metric: str) -> samples.Stated:
        """What the data state of direction and range."""
        found = self._stated.get(metric, set())
        directions = {stated.higher_is_better for stated in found} - {None}
        ranges = {stated.bounds for stated in found} - {None}
        order = "whether higher or lower is better for"
        for what, several in ((order, directions), ("the range of", ranges)):
            if len(several) > 1:
                raise UserError(
                    f"The results of task {self.name} disagree on {what} {metric}: the models were scored in "
                    "different ways and cannot be paired."
                )
        return samples.Stated(next(iter(directions), None), next(iter(ranges), None))

    @cached_property
    def order(self) -> Ints:
        """Number of the item at each place when items are sorted: numbers ascending, then texts.

        Raises UserError if an identifier does not mean the same document, or the same cluster, everywhere.
        """
        names = list(self.item_numbers)
        if "doc_hash" in self._conflicts:
            name = names[self._conflicts["doc_hash"][0]]
            raise UserError(
                f"Document {name} of task {self.name} is not the same for all models: they were evaluated on "
                "different data and cannot be paired."
            )
        if "cluster" in self._conflicts:
            item, first, second = self._conflicts["cluster"]
            raise UserError(
                f"Item {names[item]!r} of task {self.name} is in two clusters, {first!r} and {second!r}."
            )
        keys: Sequence[Any] = names
        if len(set(map(type, names))) > 1:
            keys = [(isinstance(name, str), name) for name in names]
        return np.array(sorted(range(len(names)), key=keys.__getitem__), dtype=np.int64)

    @cached_property
    def place(self) -> Ints:
        """Place of each item in that order."""
        return np.argsort(self.order)

    def items(self, cluster: str | None) -> Items:
        """The items in their order, with the clusters of a column."""
        documents, clusters = (
            np.array([*self.told_of_items(name), None], dtype=object)[:-1][self.order]
            for name in ("doc_hash", "cluster")
        )
        if cluster and all(label is None for label in clusters):
            raise UserError(f"--cluster {cluster}: the documents of task {self.name} have no such column.")
        return Items(self._names, documents, clusters if cluster else None, np.arange(len(self.order)))

    @cached_property
    def _names(self) -> NDArray[np.generic]:
        names = list(self.item_numbers)
        return np.array([names[number] for number in self.order])

    def named(self, items: Ints) -> NDArray[np.generic]:
        """Identifiers as the tool wrote them."""
        return self._names[items]

    def answers(self, model: str, metric: str, text: Literal["prompt_hash", "response"]) -> Iterator[Answers]:
        """The answers of a model, evaluation by evaluation."""
        scores, own = self.score(metric), self.rows[model]
        texts = self.column("prompt" if text == "prompt_hash" else "answer")
        origins = self.column("origin")[own]
        for number in np.unique(origins).tolist():
            rows = own[origins == number]
            yield Answers(
                self.told[number][0],
                number,
                self.place[self.column("item")[rows]],
                self.temperature[rows],
                self.column("rerun")[rows],
                scores[rows],
                texts[rows],
                measured={name: values[rows] for name, values in self.measured.items()},
            )


def _codes(texts: Iterable[Hashable] | None, known: dict[Hashable, int], size: int) -> Ints:
    """A number per distinct text, ABSENT for None."""
    if texts is None:
        return np.full(size, ABSENT, dtype=np.int64)
    numbers = [ABSENT if text is None else known.setdefault(text, len(known)) for text in texts]
    return np.array(numbers, dtype=np.int64)


def gather(places: Sequence[Sequence[samples.Evaluation]], query: samples.InputQuery) -> dict[str, LogTask]:
    """Read all evaluations of each path: the tasks by name, in order of appearance.

    Raises UserError if the reader refuses.
    """
    tasks: dict[str, LogTask] = {}
    numbered = ((place, one) for place, evaluations in enumerate(places) for one in evaluations)
    for number, (place, evaluation) in enumerate(numbered):
        was_on = gc.isenabled()
        gc.disable()  # parsed data have no reference cycles, and the search for some would walk all over them
        try:
            with sound_form(evaluation.label):
                for batch in evaluation.batches(query):
                    task = tasks.setdefault(batch.task.name, LogTask(batch.task))
                    task.add(batch, (place, number, as_text(batch.task.model)), evaluation.label, query)
        finally:
            if was_on:
                gc.enable()
    return tasks


@contextmanager
def sound_form(label: str) -> Iterator[None]:
    """Turn what goes wrong inside of data that are not in the form their format promises into one sentence.

    Raises UserError, naming the data and the mistake.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{label} does not conform to its format ({said}).") from error


def chosen_answer(response: str | None) -> Hashable:
    """Which choice a response to a log-likelihood task favours; of a single one, whether it is greedy.

    A response is a JSON list of [log-likelihood, is greedy], one per choice; anything else stays text.
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
