"""Inputs of any format as run directories, for commands that read nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.formats.registry import is_run
from jobs.formats.write_run import write_run
from jobs.scores.read import to_run
from jobs.scores.score_set import Reading


@contextmanager
def as_runs(paths: Sequence[str], reading: Reading) -> Iterator[list[str]]:
    """Runs as they are; results of other tools as one run directory that is removed in the end.

    Args:
        paths: what the user typed, at least one.
        reading: filters and columns asked for.

    Raises:
        UserError: if a path cannot be read.
    """
    if any(is_run(path) for path in paths):
        yield list(paths)
        return
    with TemporaryDirectory(prefix="lldeg-") as scratch:
        run = str(Path(scratch) / "imported")
        write_run(run, to_run(paths, reading))
        yield [run]
