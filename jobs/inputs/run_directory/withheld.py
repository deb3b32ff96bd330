"""Answers that a provider withheld, among those that failed."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.inputs.run_directory.files import RunFiles
from jobs.inputs.run_directory.scan import read_files
from jobs.inputs.score_set import Temperature, as_temperature
from orchestrator.errors import AnswerWithheldError
from stats.arrays import Ints

MARK = f"{AnswerWithheldError.__name__}:"
"""How the error of such a sample begins."""


def count_withheld(
    runs: Iterable[RunFiles], model: str, task: str, items: Ints | None = None
) -> Counter[Temperature]:
    """How many answers of a model to a task were withheld, by temperature.

    Args:
        runs: where the answers are.
        model: name of the model.
        task: name of the task.
        items: numbers of the items that count; None for all.
    """
    counts: Counter[Temperature] = Counter()
    for run in runs:
        for _, table in read_files(run, run.samples(model, task), ["item", "temperature", "error"]):
            if table is None or table["error"].null_count == table.num_rows:
                continue
            withheld = table.filter(pc.starts_with(table["error"], MARK))
            if items is not None:
                withheld = withheld.filter(np.isin(withheld["item"].to_numpy(), items))
            temperatures = withheld["temperature"].cast(pa.float32()).to_numpy()
            counts.update(as_temperature(value) for value in temperatures)
    return counts
