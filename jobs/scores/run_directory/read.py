"""Run directories as an input, with a fast path of their own: they are read by columns, not by samples."""

from collections.abc import Sequence

from jobs.formats.run_files import runs_in
from jobs.formats.write_run import ImportedRun
from jobs.scores.rerun_set import RerunSet, Wanted
from jobs.scores.run_means import read_runs
from jobs.scores.run_reruns import read_reruns
from jobs.scores.score_set import Reading, ScoreSet
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError


class RunDirectory(Source):
    """What a sweep leaves, here or in a bucket; several runs are pooled."""

    described = "a run directory or a folder of runs"
    accepted = "a run directory, a folder of runs"

    def recognises(self, path: str) -> bool:
        """Whether it is a run, or a folder of runs."""
        return bool(runs_in(path))

    def read_scores(self, paths: Sequence[NamedPath], reading: Reading) -> ScoreSet:
        """Scores of every item, averaged over reruns."""
        return read_runs(_locations(paths), reading)

    def read_reruns(self, paths: Sequence[NamedPath], wanted: Wanted) -> RerunSet:
        """Scores and answers of every item, rerun by rerun."""
        return read_reruns(_locations(paths), wanted)

    def to_run(self, paths: Sequence[NamedPath], reading: Reading) -> ImportedRun:
        """Refuses: there is nothing to import."""
        raise UserError(f"{paths[0].path} is already a run directory: analyze it directly.")


SOURCE: Source = RunDirectory()


def _locations(paths: Sequence[NamedPath]) -> list[str]:
    """Every run once.

    Raises:
        UserError: if a listing gives a run a name: a run names its variants itself.
    """
    if any(path.model is not None for path in paths):
        raise UserError(
            "A run directory already names its variants and cannot be listed by model: pass its path."
        )
    return list(dict.fromkeys(run for path in paths for run in runs_in(path.path)))
