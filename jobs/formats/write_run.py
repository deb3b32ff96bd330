"""Writes other tools' results as a run directory, so that every command that reads a run reads them too.

What an input does not state stays unknown: a temperature or a prompt that is not known is null in the
samples, not made up.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from jobs.formats.log_tables import LogTask
from jobs.formats.metrics import known_direction, range_text
from jobs.formats.registry import is_run, open_inputs
from jobs.formats.samples import InputQuery, as_temperature, as_text
from orchestrator.errors import UserError
from orchestrator.rundir.identity import digest
from orchestrator.rundir.schema import FORMAT, ITEMS, MetricEntry, TaskEntry, sample_schema
from orchestrator.rundir.store import MANIFEST, SWEEP, RunStore
from orchestrator.rundir.whole_files import FileSet
from stats.arrays import Ints

ROWS_PER_BLOCK = 100_000
FILES = ("items/*.parquet", f"samples/variant=*/task=*/{'[0-9]' * 12}.parquet", SWEEP, MANIFEST)
LARGEST_ITEM = 2**31 - 1
NO_FILTER = "none"


@dataclass(frozen=True)
class ImportedTask:
    """A task as it will be in a run directory.

    Attributes:
        name: its name.
        entry: what the manifest says of it.
        items: the item table, in the columns of `rundir.schema.ITEMS`.
        samples: the sample table of each model, in those of `rundir.schema`.
    """

    name: str
    entry: TaskEntry
    items: pa.Table
    samples: Mapping[str, pa.Table]


@dataclass(frozen=True)
class ImportedRun:
    """The content of a run directory.

    Attributes:
        models: names of the models, the baseline first.
        tasks: the tasks.
    """

    models: tuple[str, ...]
    tasks: tuple[ImportedTask, ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(table.num_rows for task in self.tasks for table in task.samples.values())


@contextmanager
def as_runs(paths: Sequence[str], query: InputQuery) -> Iterator[list[str]]:
    """Runs as they are; results of other tools as one run directory that is removed in the end.

    Args:
        paths: what the user typed, at least one.
        query: filters and columns asked for.

    Raises:
        UserError: if a path cannot be read.
    """
    if any(is_run(path) for path in paths):
        yield list(paths)
        return
    with TemporaryDirectory(prefix="lldeg-") as scratch:
        run = str(Path(scratch) / "imported")
        write_run(run, to_run(paths, query))
        yield [run]


def to_run(paths: Sequence[str], query: InputQuery) -> ImportedRun:
    """Read everything, as the content of a run directory; tasks without a number per sample are left out.

    Args:
        paths: what the user typed, at least one.
        query: filters and columns asked for.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or there is nothing to
            import.
    """
    tables = open_inputs(paths, replace(query, responses=True, documents=True, cluster=None))
    tasks = [task for task in tables.tasks if isinstance(task, LogTask) and task.gathered.numeric_metrics]
    if not tasks:
        raise UserError("No task has a metric with a number per sample, so there is nothing to import.")
    return ImportedRun(tables.models, tuple(_imported(task) for task in tasks))


def write_run(out: str, run: ImportedRun) -> None:
    """Write a run directory.

    Args:
        out: its path or URL.
        run: its content.

    Raises:
        UserError: if there is a run already, or samples, or the folder cannot be written to.
    """
    store, name = RunStore(out), out.rstrip("/").rpartition("/")[2]

    def refuse_run(*, also_samples: bool = True) -> None:
        if store.has_run() or (also_samples and store.sample_paths()):
            raise UserError(
                f"{out} is already a run directory; importing into it would mix the two. Change --out."
            )

    refuse_run(also_samples=False)  # those that an interrupted import left are no obstacle
    with FileSet(out, "import", FILES).filling(refuse_run):
        for task in run.tasks:
            store.write_items(task.name, task.items)
            for model, table in task.samples.items():
                for start in range(0, table.num_rows, ROWS_PER_BLOCK):
                    block = table.slice(start, ROWS_PER_BLOCK)
                    store.write_block(model, task.name, f"{start:012d}", block)
        sweep = {"name": name, "baseline": run.models[0], "variants": {model: {} for model in run.models}}
        store.write_sweep(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True))
        # The manifest is written last because it is what makes a folder a run.
        store.write_manifest(
            {
                "format": FORMAT,
                "name": name,
                "imported": True,
                "versions": {},
                "variants": {
                    model: {
                        "model": None,
                        "revision": None,
                        "engine": {},
                        "digest": digest(["imported", model]),
                    }
                    for model in run.models
                },
                "tasks": {task.name: task.entry for task in run.tasks},
            }
        )


def _imported(task: LogTask) -> ImportedTask:
    metrics = task.gathered.numeric_metrics
    keys = {metric: metric if "," in metric else f"{metric},{NO_FILTER}" for metric in metrics}
    filters = list(dict.fromkeys(key.partition(",")[2] or NO_FILTER for key in keys.values()))
    numbers = _item_numbers(task)
    items = _items(task, numbers)
    entry: TaskEntry = {
        "digest": digest(["imported", task.name, items.column("doc_hash").to_pylist()]),
        "group": task.group,
        "output_type": task.gathered.facts.output_type,
        "metric": keys[metrics[0]],
        "metrics": {key: _metric_entry(task, metric) for metric, key in keys.items()},
        "filters": filters,
        "items": items.num_rows,
        "cluster": None,
        "reruns": [],  # nothing is owed: what was not in the input will not be computed
    }
    samples = {model: _samples(task, model, keys, numbers, items) for model in task.models}
    return ImportedTask(task.name, entry, items, samples)


def _metric_entry(task: LogTask, metric: str) -> MetricEntry:
    stated = task.stated(metric)
    higher = known_direction(metric) if stated.higher_is_better is None else stated.higher_is_better
    entry: MetricEntry = {"higher_is_better": higher}
    if stated.bounds is not None:
        entry["range"] = range_text(stated.bounds)
    return entry


def _item_numbers(task: LogTask) -> Ints:
    """Number in the run of each item: its identifier if all are numbers that fit, else its place in order."""
    place, names = task.place, list(task.gathered.items)
    if all(isinstance(name, int) and 0 <= name <= LARGEST_ITEM for name in names):
        return np.array(names, dtype=np.int64)
    return place


def _items(task: LogTask, numbers: Ints) -> pa.Table:
    told = {name: task.gathered.told_of_items(name) for name in ITEMS.names}
    names = list(task.gathered.items)
    rows = [
        {name: column[i] for name, column in told.items()}
        | {
            "task": task.name,
            "item": int(numbers[i]),
            "doc_hash": told["doc_hash"][i] or digest([task.name, names[i]]),
            "cluster": None,
            "doc": as_text(_doc(told["doc"][i], names[i])),
        }
        for i in np.argsort(numbers).tolist()
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def _doc(doc: object, name: int | str) -> object:
    if doc is None:
        return {"id": name}
    return {key: value for key, value in doc.items() if value is not None} if isinstance(doc, dict) else doc


def _samples(task: LogTask, model: str, keys: Mapping[str, str], numbers: Ints, items: pa.Table) -> pa.Table:
    gathered, rows, seeds = task.gathered, task.rows(model), task.seeds(model)
    hashes = dict(zip(items.column("item").to_pylist(), items.column("doc_hash").to_pylist(), strict=True))
    prompts = gathered.prompt_hashes
    identity = {
        "item": numbers[gathered.column("item")[rows]].tolist(),
        "temperature": [as_temperature(value) for value in task.temperature[rows]],
        "seed": [seeds[run] for run in task.runs(model)[1].tolist()],
        "prompt_hash": [prompts[number] for number in gathered.column("prompt")[rows].tolist()],
    }
    columns: dict[str, Any] = {
        name: [held[row] for row in rows.tolist()] for name, held in gathered.of_answers.items()
    }
    columns |= identity
    columns["doc_hash"] = [hashes[item] for item in identity["item"]]
    scores = [gathered.score(metric)[rows] for metric in keys]
    arrays = [pa.array(values, mask=~np.isfinite(values)) for values in scores]
    columns["scores"] = pa.StructArray.from_arrays(arrays, names=list(keys.values()))
    columns["sample_key"] = [
        digest([model, task.name, *values]) for values in zip(*identity.values(), strict=True)
    ]
    filters = dict.fromkeys(key.partition(",")[2] for key in keys.values())
    schema = sample_schema(keys.values(), filters)
    typed = [
        values if isinstance(values := columns[field.name], pa.Array) else pa.array(values, type=field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(typed, schema=schema)
