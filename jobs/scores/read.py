"""From what the user typed to what verdicts are computed from, whatever format it is in."""

from collections.abc import Sequence

from jobs.formats.notices import some
from jobs.formats.registry import open_inputs
from jobs.scores.links import linked
from jobs.scores.means import score_set
from jobs.scores.rerun_set import RerunQuery, RerunSet, rerun_set
from jobs.scores.scales import scaled
from jobs.scores.score_set import Reading, ScoreSet
from orchestrator.errors import UserError


def read_scores(paths: Sequence[str], reading: Reading) -> ScoreSet:
    """Read scores averaged over reruns, settle direction and range of every task, and link what tasks share.

    Args:
        paths: what the user typed, at least one.
        reading: metrics, clusters, filters and scales asked for.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or a scale is unknown.
    """
    return linked(read_unlinked(paths, reading))


def read_unlinked(paths: Sequence[str], reading: Reading) -> ScoreSet:
    """The same without links, which are numbers of one reading: documents and clusters keep their names."""
    return scaled(score_set(open_inputs(paths, reading), reading), reading.scales)


def read_reruns(paths: Sequence[str], query: RerunQuery) -> RerunSet:
    """Read the answers to every item, rerun by rerun.

    Args:
        paths: what the user typed, at least one.
        query: what of it to read.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or nothing is left.
    """
    reruns = rerun_set(open_inputs(paths, query, are_reruns=True), query)
    if not reruns.cells:
        raise UserError(f"{some(paths)} has no matching answers; remove a filter, or finish the run.")
    return reruns
