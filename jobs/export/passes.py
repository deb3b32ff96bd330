"""A run as passes over its items, and several of them as what other tools call an evaluation."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import samples_table
from jobs.formats.samples import Temperature, as_temperature
from orchestrator.rundir.schema import ITEMS

Row = dict[str, Any]


@dataclass(frozen=True)
class Pass:
    """One pass of one variant over one task.

    Attributes:
        task: name of the task.
        temperature: sampling temperature, None if unknown.
        seed: None where nothing is sampled.
        samples: rows of the sample files that have scores, in order of the items.
        failed: number of samples that are errors.
    """

    task: str
    temperature: Temperature
    seed: int | None
    samples: list[Row]
    failed: int


def evaluations_of(run: RunFiles, variant: str, tasks: Iterable[str]) -> list[list[Pass]]:
    """The passes of a variant, those of one temperature and seed together.

    Raises:
        UserError: a file cannot be read.
    """
    found: dict[tuple[Temperature, int | None], list[Pass]] = {}
    for one in (one for task in tasks for one in _passes(run, variant, task)):
        found.setdefault((one.temperature, one.seed), []).append(one)
    return list(found.values())


def _passes(run: RunFiles, variant: str, task: str) -> Iterator[Pass]:
    table = samples_table(run, [(variant, task)])
    if not table.num_rows:
        return
    places = table.group_by(["temperature", "seed"]).aggregate([]).to_pylist()
    for place in sorted(places, key=lambda one: tuple(-1.0 if v is None else v for v in one.values())):
        mask = pa.array(np.ones(table.num_rows, dtype=np.bool_))
        for name, value in place.items():
            same = pc.is_null(table[name]) if value is None else pc.equal(table[name], value)
            mask = pc.and_kleene(mask, same)
        rows = table.filter(mask).sort_by("item").to_pylist()
        samples = [row for row in rows if row["error"] is None and row["scores"] is not None]
        temperature = None if place["temperature"] is None else as_temperature(place["temperature"])
        yield Pass(task, temperature, place["seed"], samples, len(rows) - len(samples))


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
    found = _value(sample["response"])
    return found if isinstance(found, list) else [found]


def _value(text: str | None) -> Any:
    """A JSON text as its value, any other text as it is."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text
