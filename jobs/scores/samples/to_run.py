"""Samples as the content of a run directory: items with their texts, samples with all numeric metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.formats.metrics import range_text
from jobs.formats.samples import as_temperature
from jobs.formats.write_run import ImportedRun, ImportedTask, as_text
from jobs.scores.samples.cells import Cell, item_order
from jobs.scores.samples.gather import KEPT, GatheredTask
from jobs.scores.samples.means import info_of
from orchestrator.errors import UserError
from orchestrator.rundir.identity import digest
from orchestrator.rundir.schema import ITEMS, SampleColumns
from stats.arrays import Floats, Ints

LARGEST_ITEM = 2**31 - 1
NO_FILTER = "none"


def imported_run(
    tasks: Mapping[str, GatheredTask], cells: Mapping[str, Sequence[Cell]], models: tuple[str, ...]
) -> ImportedRun:
    """Turn samples into tasks of a run; tasks without a number per sample are left out.

    Args:
        tasks: the samples by task, read with their documents.
        cells: the same by task and model.
        models: names of all models, the baseline first.

    Raises:
        UserError: if no task has a metric that is a number per sample.
    """
    imported = [_task(task, cells[name]) for name, task in tasks.items() if task.numeric_metrics]
    if not imported:
        raise UserError("No task has a metric with a number per sample, so there is nothing to import.")
    return ImportedRun(models, tuple(imported))


def _task(task: GatheredTask, cells: Sequence[Cell]) -> ImportedTask:
    keys = {metric: _key(metric) for metric in task.numeric_metrics}
    numbers = _item_numbers(task)
    items = _items(task, numbers)
    return ImportedTask(
        name=task.facts.name,
        metrics={key: info_of(task, metric).higher_is_better for metric, key in keys.items()},
        ranges={
            key: range_text(bounds)
            for metric, key in keys.items()
            if (bounds := info_of(task, metric).stated.bounds) is not None
        },
        group=task.facts.group,
        output_type=task.facts.output_type,
        items=items,
        samples={cell.model: _samples(task, cell, keys, numbers, _hashes(items)) for cell in cells},
    )


def _hashes(items: pa.Table) -> dict[int, str]:
    """Hash of the document by number of the item."""
    return dict(zip(items.column("item").to_pylist(), items.column("doc_hash").to_pylist(), strict=True))


def _key(metric: str) -> str:
    return metric if "," in metric else f"{metric},{NO_FILTER}"


def _item_numbers(task: GatheredTask) -> Ints:
    """Number in the run of each item: its identifier if all are numbers that fit, else its place in order."""
    order = item_order(task)
    names = list(task.numbers)
    if all(isinstance(name, int) and 0 <= name <= LARGEST_ITEM for name in names):
        return np.array(names, dtype=np.int64)
    numbers = np.empty_like(order)
    numbers[order] = np.arange(order.size)
    return numbers


def _items(task: GatheredTask, numbers: Ints) -> pa.Table:
    documents, names = task.documents, list(task.numbers)
    rows = [
        {
            "task": task.facts.name,
            "item": int(numbers[i]),
            "doc_hash": documents.hashes[i] or digest([task.facts.name, names[i]]),
            "prompt_hash": documents.texts["prompt_hashes"][i],
            "prompt": documents.texts["prompts"][i],
            "target": documents.texts["targets"][i],
            "doc": as_text(_doc(documents.docs[i], names[i])),
        }
        for i in np.argsort(numbers).tolist()
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def _doc(doc: object, name: int | str) -> object:
    if doc is None:
        return {"id": name}
    return {key: value for key, value in doc.items() if value is not None} if isinstance(doc, dict) else doc


def _samples(
    task: GatheredTask,
    cell: Cell,
    keys: Mapping[str, str],
    numbers: Ints,
    hashes: Mapping[int, str],
) -> pa.Table:
    items = numbers[cell.items].tolist()
    seeds = cell.seeds()
    identity = {
        "item": items,
        "temperature": [as_temperature(value) for value in cell.temperature],
        "seed": [seeds[run] for run in cell.run_of.tolist()],
        "prompt_hash": _prompt_hashes(task, cell),
    }
    texts = {name: [value for part in cell.parts for value in part.texts[name]] for name in KEPT}
    columns: dict[str, Any] = {
        **identity,
        "doc_hash": [hashes[item] for item in items],
        "scores": _scores({key: cell.score(metric) for metric, key in keys.items()}),
        "response": texts["responses"],
        "filtered": texts["filtered"],
        "finish_reason": texts["finish_reasons"],
        "prompt_tokens": texts["prompt_tokens"],
        "output_tokens": texts["output_tokens"],
        "error": texts["errors"],
        "sample_key": [
            digest([cell.model, task.facts.name, *values]) for values in zip(*identity.values(), strict=True)
        ],
    }
    filters = dict.fromkeys(key.partition(",")[2] for key in keys.values())
    schema = SampleColumns(tuple(keys.values()), tuple(filters)).schema
    unknown = [None] * len(items)  # in columns that only engines of our own can fill
    arrays = [_column(columns.get(field.name, unknown), field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind)


def _scores(by_key: Mapping[str, Floats]) -> pa.StructArray:
    arrays = [pa.array(scores, mask=~np.isfinite(scores)) for scores in by_key.values()]
    return pa.StructArray.from_arrays(arrays, names=list(by_key))


def _prompt_hashes(task: GatheredTask, cell: Cell) -> list[str | None]:
    known = [*task.prompt_hashes, None]  # ABSENT, the last one, is None
    return [known[number] for number in cell.joined(lambda chunk: chunk.prompts).tolist()]
