"""The results of other tools as tables: every task with the samples of each model, over all evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jobs.formats.gather import GatheredTask, Origin
from jobs.formats.metrics import requested, resolve_metric
from jobs.formats.names import Key
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.samples import Stated
from jobs.formats.tables import NO_SEED, Answers, Items, TaskTables
from orchestrator.errors import UserError
from stats.arrays import Ints


class LogTask(TaskTables):
    """One task.

    Args:
        gathered: its samples.
        names: name of each model, by (path, name that the data state).

    Raises:
        UserError: if an evaluation holds an item twice.
    """

    is_planned = False

    def __init__(self, gathered: GatheredTask, names: Mapping[Key, str]) -> None:
        self.gathered, self.name, self.group = gathered, gathered.facts.name, gathered.facts.group
        self._model_of = [names[origin.place, origin.model] for origin in gathered.origins]
        self.models = list(dict.fromkeys(self._model_of))
        self.rows = cache(self._rows)
        self.runs = cache(self._runs)
        self._refuse_duplicates()

    def _rows(self, model: str) -> Ints:
        """Which samples are those of a model."""
        if len(self.models) == 1:
            return np.arange(len(self.gathered.column("origin")))
        origins = [number for number, name in enumerate(self._model_of) if name == model]
        return np.flatnonzero(np.isin(self.gathered.column("origin"), origins))

    def _runs(self, model: str) -> tuple[list[tuple[Origin, int]], Ints]:
        """Every pass of a model over the items, by origin and rerun within it; and that of each sample."""
        rows, origins = self.rows(model), list(self.gathered.origins)
        reruns, codes = np.unique(self.gathered.column("rerun")[rows], return_inverse=True)
        keys, run_of = np.unique(
            self.gathered.column("origin")[rows] * max(len(reruns), 1) + codes, return_inverse=True
        )
        runs = [(origins[key // len(reruns)], int(reruns[key % len(reruns)])) for key in keys.tolist()]
        return runs, run_of

    def seeds(self, model: str) -> list[int | None]:
        """Seeds of the passes: reruns as a single evaluation states them, else 0, 1, …; None for one pass."""
        runs = self.runs(model)[0]
        if self._model_of.count(model) == 1:
            return [None if rerun == NO_SEED else rerun for _, rerun in runs]
        return list(range(len(runs)))

    @cached_property
    def temperature(self) -> NDArray[np.float32]:
        """Temperature of all samples, NaN where unknown.

        All are, if some samples do not state theirs and no model has several: a model whose log does not
        state the temperature could otherwise not be paired with one whose log does.
        """
        stated: NDArray[np.float32] = self.gathered.column("temperature")
        found = [np.unique(stated[self.rows(model)]) for model in self.models]
        unstated = any(np.isnan(temperatures).any() for temperatures in found)
        if unstated and all((~np.isnan(temperatures)).sum() <= 1 for temperatures in found):
            return np.full_like(stated, np.nan)
        return stated

    def _refuse_duplicates(self) -> None:
        for model in self.models:
            rows, (runs, run_of) = self.rows(model), self.runs(model)
            temperatures = np.unique(self.temperature[rows], return_inverse=True)[1]
            items = self.gathered.column("item")[rows]
            keys = (temperatures * len(runs) + run_of) * len(self.gathered.items) + items
            first = np.unique(keys, return_index=True)[1]
            if len(first) < len(keys):
                sample = int(np.setdiff1d(np.arange(len(keys)), first)[0])
                label, item = runs[int(run_of[sample])][0].label, list(self.gathered.items)[items[sample]]
                raise UserError(
                    f"{label} contains item {item} of task {self.name} twice: remove one of them."
                )

    def metric(self, metrics: Mapping[str, str], notices: list[Notice]) -> str | None:
        """The metric asked for, else the first that is a number in every sample of every model."""
        numeric = self.gathered.numeric_metrics
        if not numeric:
            names = sorted({metric.split(",")[0] for metric in self.gathered.metrics})
            why = f"no metric with a number per sample ({some(names)}: computed over the whole corpus)"
            said = f"Task {self.name} has {why if names else 'no score at all'}, so it cannot be tested."
            notices.append(Notice(NoticeCode.NO_TESTABLE_METRIC, said, self.name))
            return None
        asked = requested(self.name, self.group, metrics)
        if asked is not None:
            return resolve_metric(self.name, asked, numeric)
        origins = set(np.unique(self.gathered.column("origin")).tolist())
        answered = {self._model_of[number] for number in origins}
        common = [m for m in numeric if answered <= {self._model_of[n] for n in self.gathered.metrics[m]}]
        if not common:
            raise UserError(
                f"The models have no metric of task {self.name} in common ({some(numeric)}): they were "
                "scored in different ways and cannot be paired."
            )
        self._note_others(common[0], numeric, notices)
        return common[0]

    def _note_others(self, metric: str, numeric: Sequence[str], notices: list[Notice]) -> None:
        """Say what else could be tested: other filters of the metric, or any metric if none is preferred."""
        name, code = metric.split(",", maxsplit=1)[0], NoticeCode.OTHER_FILTERS
        others = [key for key in numeric if key != metric and key.split(",")[0] == name]
        if metric not in self.gathered.facts.preferred:
            others, code = [key for key in numeric if key != metric], NoticeCode.OTHER_METRICS
        if others:
            choose = f"choose with --metric {self.name}=METRIC"
            said = f"{self.name} is tested on {metric}; it also has {some(others)} ({choose})."
            notices.append(Notice(code, said))

    def stated(self, metric: str) -> Stated:
        """What the data state of direction and range."""
        found = self.gathered.stated.get(metric, set())
        directions = {stated.higher_is_better for stated in found} - {None}
        ranges = {stated.bounds for stated in found} - {None}
        order = "whether higher or lower is better for"
        for what, several in ((order, directions), ("the range of", ranges)):
            if len(several) > 1:
                raise UserError(
                    f"The results of task {self.name} disagree on {what} {metric}: the models were scored in "
                    "different ways and cannot be paired."
                )
        return Stated(next(iter(directions), None), next(iter(ranges), None))

    @cached_property
    def order(self) -> Ints:
        """Number of the item at each place when items are sorted: numbers ascending, then texts.

        Raises:
            UserError: if an identifier does not mean the same document, or the same cluster, everywhere.
        """
        names, conflicts = list(self.gathered.items), self.gathered.conflicts
        if "doc_hash" in conflicts:
            raise UserError(
                f"Document {names[conflicts['doc_hash'][0]]} of task {self.name} is not the same for all "
                "models: they were evaluated on different data and cannot be paired."
            )
        if "cluster" in conflicts:
            item, first, second = conflicts["cluster"]
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
        place = np.empty_like(self.order)
        place[self.order] = np.arange(self.order.size)
        return place

    def items(self, cluster: str | None) -> Items:
        """The items in their order, with the clusters of a column."""
        told = {
            name: np.array([*self.gathered.told_of_items(name), None], dtype=object)[:-1][self.order]
            for name in ("doc_hash", "cluster")
        }
        if cluster and all(label is None for label in told["cluster"]):
            raise UserError(f"--cluster {cluster}: the documents of task {self.name} have no such column.")
        documents, clusters = told["doc_hash"], told["cluster"] if cluster else None
        return Items(self._names, documents, clusters, np.arange(len(self.order)))

    @cached_property
    def _names(self) -> NDArray[np.generic]:
        names = list(self.gathered.items)
        return np.array([names[number] for number in self.order])

    def named(self, items: Ints) -> NDArray[np.generic]:
        """Identifiers as the tool wrote them."""
        return self._names[items]

    def answers(self, model: str, metric: str, text: Literal["prompt_hash", "response"]) -> Iterator[Answers]:
        """The answers of a model, evaluation by evaluation."""
        scores = self.gathered.score(metric)
        texts = self.gathered.column("prompt" if text == "prompt_hash" else "answer")
        for (origin, number), name in zip(self.gathered.origins.items(), self._model_of, strict=True):
            rows = np.flatnonzero(self.gathered.column("origin") == number) if name == model else ()
            if len(rows):
                yield Answers(
                    origin.label,
                    number,
                    self.place[self.gathered.column("item")[rows]],
                    self.temperature[rows],
                    self.gathered.column("rerun")[rows],
                    scores[rows],
                    texts[rows],
                )

    def unlisted(self, model: str) -> int:
        """Items that a model was evaluated on, by its results, beyond those in the files."""
        evaluated = (
            self.gathered.evaluated[origin]
            for origin, name in zip(self.gathered.origins, self._model_of, strict=True)
            if name == model
        )
        return max(0, max(evaluated) - len(self.gathered.items))

    def warnings(self, model: str) -> Sequence[Notice]:
        """What came with the samples of a model."""
        origins = zip(self.gathered.origins, self._model_of, strict=True)
        return [note for origin, name in origins if name == model for note in self.gathered.warnings[origin]]
