"""What a path is: whether it exists, and whether it is a run of lldeg."""

from collections.abc import Sequence

from jobs.formats.run_files import runs_in
from orchestrator.errors import UserError
from orchestrator.rundir.locations import exists


def is_run(path: str) -> bool:
    """Whether a path is a run directory or a folder of runs, into which outputs may be written."""
    return bool(runs_in(path))


def require_existing(paths: Sequence[str]) -> None:
    """Check that something is there to be read.

    Raises:
        UserError: a path leads nowhere.
    """
    for path in paths:
        if not exists(path):
            raise UserError(f"{path} does not exist.")
