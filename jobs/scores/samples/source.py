"""A format that supplies evaluations; everything else is derived from their samples."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jobs.formats.notices import Notice
from jobs.formats.samples import Evaluation, PairBy, Query
from jobs.formats.write_run import ImportedRun
from jobs.scores.across_tools.align import Aligned, gather_aligned
from jobs.scores.rerun_set import RerunSet, Wanted
from jobs.scores.samples.cells import Cell, cells_of
from jobs.scores.samples.gather import GatheredTask, gather, sound_form
from jobs.scores.samples.means import score_set
from jobs.scores.samples.names import (
    Key,
    as_one_per_model,
    by_data,
    newest,
    path_ends,
    refuse_different,
    refuse_repeated,
)
from jobs.scores.samples.reruns import rerun_set
from jobs.scores.samples.to_run import imported_run
from jobs.scores.score_set import Reading, ScoreSet
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError

NO_METRICS: Mapping[str, str] = {}


@dataclass(frozen=True)
class _Read:
    """What was read: names of the models, cells and samples by task, metrics that were chosen, notices."""

    models: tuple[str, ...]
    cells: Mapping[str, list[Cell]]
    tasks: Mapping[str, GatheredTask]
    metrics: Mapping[str, str]
    notices: tuple[Notice, ...]


class SampleSource(Source):
    """A format of another tool. A subclass supplies `recognises` and `evaluations`, and names if need be.

    Attributes:
        is_mixed: whether the inputs are of several tools.
    """

    is_mixed: ClassVar[bool] = False

    @abstractmethod
    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """The evaluations at a path, in the order in which their reruns count; their samples are read later.

        Raises:
            UserError: if a file is unreadable.
        """

    def model_names(self, tasks: Mapping[str, GatheredTask], paths: Sequence[str]) -> dict[Key, str]:
        """What to call the models that are compared.

        Args:
            tasks: what was read.
            paths: where it was read.
        """
        return by_data(tasks, path_ends(paths))

    def rerun_names(self, tasks: Mapping[str, GatheredTask]) -> dict[Key, str]:
        """What to call the models whose reruns are counted; equal names are the same model."""
        return as_one_per_model(tasks)

    def read_scores(self, paths: Sequence[NamedPath], reading: Reading) -> ScoreSet:
        """Scores of every item, averaged over reruns."""
        query = Query(cluster=reading.cluster_column, where=reading.where or {})
        by = reading.pair_by or ("id" if self.is_mixed else None)
        read = self._read(paths, query, by=by, metrics=reading.metrics)
        metrics = {**reading.metrics, **read.metrics}
        scores = score_set(read.tasks, read.cells, read.models, replace(reading, metrics=metrics))
        return replace(scores, warnings=(*read.notices, *scores.warnings), paired_by=by)

    def read_reruns(self, paths: Sequence[NamedPath], wanted: Wanted) -> RerunSet:
        """Scores and answers of every item, rerun by rerun."""
        read = self._read(paths, Query(responses=True), are_models=False)
        return rerun_set(read.tasks, read.cells, wanted)

    def to_run(self, paths: Sequence[NamedPath], reading: Reading) -> ImportedRun:
        """Everything the evaluations hold, as the content of a run directory."""
        query = Query(responses=True, documents=True, where=reading.where or {})
        by = reading.pair_by or ("id" if self.is_mixed else None)
        read = self._read(paths, query, by=by, metrics=reading.metrics)
        return imported_run(read.tasks, read.cells, read.models)

    def _read(
        self,
        paths: Sequence[NamedPath],
        query: Query,
        *,
        are_models: bool = True,
        by: PairBy | None = None,
        metrics: Mapping[str, str] = NO_METRICS,
    ) -> _Read:
        refuse_repeated([path.path for path in paths if path.model is None])
        every = [self._evaluations(path) for path in paths]
        places, older = newest(every) if are_models else (every, ())
        aligned = (
            Aligned(places, gather(places, query), {}, ())
            if by is None
            else gather_aligned(paths, places, query, by, metrics)
        )
        tasks = aligned.tasks
        if not any(task.numbers for task in tasks.values()):
            raise UserError(f"{', '.join(path.path for path in paths)} contains no samples.")
        given = [path.path for path in paths]
        names = self.model_names(tasks, given) if are_models else self.rerun_names(tasks)
        for place, model in names:
            if paths[place].model is not None:
                names[place, model] = str(paths[place].model)
        _refuse_mixtures(aligned.places, tasks, names)
        cells = {name: cells_of(task, names) for name, task in tasks.items()}
        models = tuple(dict.fromkeys(names[key] for key in sorted(names, key=lambda key: key[0])))
        return _Read(models, cells, tasks, aligned.metrics, (*older, *aligned.notices))

    def _evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        with sound_form(path.path):
            return self.evaluations(path)


def _refuse_mixtures(
    places: Sequence[Sequence[Evaluation]], tasks: Mapping[str, GatheredTask], names: Mapping[Key, str]
) -> None:
    """Refuse evaluations that are named the same model and were made with other settings."""
    evaluations = [evaluation for place in places for evaluation in place]
    by_model: dict[str, dict[int, None]] = {}
    for task in tasks.values():
        for origin in task.parts:
            by_model.setdefault(names[origin.place, origin.model], {})[origin.evaluation] = None
    for numbers in by_model.values():
        refuse_different([evaluations[number] for number in sorted(numbers)])
