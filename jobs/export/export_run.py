"""Writes a run in the format of another tool: for the command and for Python."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from pyarrow.fs import FileSelector

from jobs.export import Target
from jobs.export.every_eval_ever import every_eval_ever_files
from jobs.export.lm_eval import lm_eval_files
from jobs.formats.run_files import RunFiles
from jobs.scores.read import read_scores
from orchestrator.errors import UserError
from orchestrator.rundir.whole_files import FileSet, Folder

FILES = ("data/lldeg/*.jsonl", "data/lldeg/*.json", "*/samples_*.jsonl", "*/results_*.json")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        out: the folder.
        files: number of files.
        rows: number of rows of samples in them.
    """

    out: str
    files: int
    rows: int


def export_run(run: str, target: Target, out: str) -> Exported:
    """Write the samples of a run directory as files that another tool reads, into a new or empty folder.

    Both may be paths or URLs.

    Raises:
        UserError: it is not a run directory, has no samples, or the folder has files or cannot be written to.
    """
    opened, now = RunFiles.open(run), datetime.now(UTC).replace(tzinfo=None)
    if target is Target.LM_EVAL:
        contents = lm_eval_files(opened, now)
    else:
        contents = every_eval_ever_files(opened, read_scores([run]), now)
    folder = Folder(out)

    def refuse_full() -> None:
        """Readers would take what is there for part of the run."""
        if folder.filesystem.get_file_info(FileSelector(folder.path, allow_not_found=True)):
            raise UserError(f"{out} is not empty: choose a new folder with --out.")

    files = rows = 0
    with FileSet(out, "export", FILES).filling(refuse_full):
        for path, value in contents:
            lines, indent = (value, None) if path.endswith(".jsonl") else ([value], 2)
            text = "".join(f"{json.dumps(line, ensure_ascii=False, indent=indent)}\n" for line in lines)
            folder.write(path, text.encode())
            files += 1
            rows += len(value) if path.endswith(".jsonl") else 0
        if not files:
            raise UserError(f"{run} has no samples to export.")
    return Exported(out, files, rows)
