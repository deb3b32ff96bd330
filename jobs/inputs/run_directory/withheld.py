"""Answers that a provider withheld, among those that failed."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.inputs.run_directory.files import RunFiles
from jobs.inputs.run_directory.footers import read_footer
from jobs.inputs.score_set import Temperature, as_temperature
from orchestrator.errors import AnswerWithheldError

MARK = f"{AnswerWithheldError.__name__}:"
"""How the error of such a sample begins."""


def count_withheld(runs: Iterable[RunFiles], model: str, task: str) -> Counter[Temperature]:
    """How many answers of a model to a task were withheld, by temperature; reads files with errors only."""
    counts: Counter[Temperature] = Counter()
    for run in runs:
        for path in run.samples(model, task):
            footer = read_footer(run, path)
            if footer is None or not footer.errors:
                continue
            table = pq.read_table(path, columns=["temperature", "error"], filesystem=run.filesystem)
            withheld = table.filter(pc.starts_with(table["error"], MARK))
            temperatures = withheld["temperature"].cast(pa.float32()).to_numpy()
            counts.update(as_temperature(value) for value in temperatures)
    return counts
