"""A run as what other tools call evaluations: one variant at one temperature and seed, over all tasks."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jobs.formats.run_files import RunFiles, samples_table
from jobs.formats.samples import Temperature, as_temperature
from orchestrator.rundir.schema import ITEMS

Row = dict[str, Any]
Pass = tuple[Temperature, int | None]  # temperature, None if unknown, and seed, None where nothing is sampled


def evaluations_of(
    run: RunFiles, tasks: Iterable[str]
) -> Iterator[tuple[str, int, Pass, dict[str, list[Row]]]]:
    """Variant, number among its evaluations, pass, and samples by task in order of the items, with errors.

    A sample is a row of a sample file with the columns of its item. The document is a value in it, and `said`
    what the model said: one text, or a [log-likelihood, is greedy] for each choice.

    Raises UserError if a file is missing or cannot be read.
    """
    items: dict[str, dict[int, Row]] = {}
    for task in tasks:
        listed = run.items(task, ITEMS.names).to_pylist()
        items[task] = {row["item"]: row | {"doc": _value(row["doc"])} for row in listed}
    for variant in run.models:
        evaluations: dict[Pass, dict[str, list[Row]]] = {}
        for task, known in items.items():
            is_text = run.tasks[task]["output_type"] in {None, "generate_until"}
            by_pass: dict[Pass, list[Row]] = {}
            table = samples_table(run, [(variant, task)])
            for row in table.sort_by("item").to_pylist() if table.num_rows else ():
                temperature = None if row["temperature"] is None else as_temperature(row["temperature"])
                said = row["response"] if is_text else _value(row["response"])
                row |= {"said": said if isinstance(said, list) else [said]}
                by_pass.setdefault((temperature, row["seed"]), []).append(known[row["item"]] | row)
            for at in sorted(by_pass, key=lambda at: [-1.0 if value is None else value for value in at]):
                evaluations.setdefault(at, {})[task] = by_pass[at]
        for number, (at, samples) in enumerate(evaluations.items()):
            yield variant, number, at, samples


def is_scored(sample: Row) -> bool:
    """Whether it is an answer that has scores."""
    return sample["error"] is None and sample["scores"] is not None


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error; None for the error of a single value."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def _value(text: str | None) -> Any:
    """A JSON text as its value, any other text as it is."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text
