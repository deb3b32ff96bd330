"""A run as what other tools call evaluations: one variant at one temperature and seed, over all tasks."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jobs.formats.run_files import RunFiles, samples_table
from jobs.formats.samples import Temperature, as_temperature
from orchestrator.rundir.schema import ITEMS

Row = dict[str, Any]
Pass = tuple[Temperature, int | None]  # temperature, None if unknown, and seed, None where nothing is sampled


def evaluations_of(run: RunFiles, variant: str, tasks: Iterable[str]) -> dict[Pass, dict[str, list[Row]]]:
    """Rows of the sample files of a variant by pass and task, in order of the items; errors are among them.

    Raises:
        UserError: a file cannot be read.
    """
    evaluations: dict[Pass, dict[str, list[Row]]] = {}
    for task in tasks:
        table = samples_table(run, [(variant, task)])
        by_pass: dict[Pass, list[Row]] = {}
        for row in table.sort_by("item").to_pylist() if table.num_rows else ():
            temperature = None if row["temperature"] is None else as_temperature(row["temperature"])
            by_pass.setdefault((temperature, row["seed"]), []).append(row)
        for at in sorted(by_pass, key=lambda at: [-1.0 if value is None else value for value in at]):
            evaluations.setdefault(at, {})[task] = by_pass[at]
    return evaluations


def is_scored(sample: Row) -> bool:
    """Whether it is an answer that has scores."""
    return sample["error"] is None and sample["scores"] is not None


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error; None for the error of a single value."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def items_of(run: RunFiles, task: str) -> dict[int, Row]:
    """The items of a task by number, documents as values.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    rows = run.items(task, ITEMS.names).to_pylist()
    return {row["item"]: row | {"doc": _value(row["doc"])} for row in rows}


def responses(sample: Row, output_type: str | None) -> list[Any]:
    """What the model said: one text, or a [log-likelihood, is greedy] for each choice."""
    if output_type in {None, "generate_until"}:
        return [sample["response"]]
    value = _value(sample["response"])
    return value if isinstance(value, list) else [value]


def _value(text: str | None) -> Any:
    """A JSON text as its value, any other text as it is."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text
