"""The results of different tools, read each by its own reader and compared with each other."""

from collections.abc import Mapping, Sequence

from jobs.formats.samples import Evaluation
from jobs.scores.rerun_set import RerunSet, Wanted
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath
from orchestrator.errors import UserError


class MixedSources(SampleSource):
    """Paths in different formats.

    Args:
        by_path: the format of each.
    """

    described = "output of several tools"
    accepted = "output of several tools"
    is_mixed = True

    def __init__(self, by_path: Mapping[str, SampleSource]) -> None:
        self._by_path = by_path
        self.takes_where = any(source.takes_where for source in by_path.values())

    def recognises(self, path: str) -> bool:
        """Whether it is one of the paths."""
        return path in self._by_path

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """Those that the format of the path knows."""
        return self._by_path[path.path].evaluations(path)

    def read_reruns(self, paths: Sequence[NamedPath], wanted: Wanted) -> RerunSet:
        """Refuses: reruns of one model are made with one tool."""
        kinds = "; ".join(f"{path} is {source.described}" for path, source in self._by_path.items())
        raise UserError(f"Reruns are counted within the output of one tool, but {kinds}.")
