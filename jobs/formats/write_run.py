"""Writes other tools' results as a run directory, so that every command that reads a run reads them too.

What an input does not state stays unknown: a temperature or a prompt that is not known is null in the
samples, not made up.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from jobs.formats import registry
from jobs.formats.json_files import as_text
from jobs.formats.log_tables import LogTask
from jobs.formats.metrics import known_direction, range_text
from jobs.formats.run_files import runs_in
from jobs.formats.samples import InputQuery, as_temperature
from orchestrator.errors import UserError
from orchestrator.rundir.identity import digest
from orchestrator.rundir.schema import FORMAT, ITEMS, MetricEntry, TaskEntry, sample_schema
from orchestrator.rundir.store import MANIFEST, SWEEP, RunStore
from orchestrator.rundir.whole_files import FileSet

ROWS_PER_BLOCK = 100_000
FILES = ("items/*.parquet", f"samples/variant=*/task=*/{'[0-9]' * 12}.parquet", SWEEP, MANIFEST)
LARGEST_ITEM = 2**31 - 1
NO_FILTER = "none"


@contextmanager
def as_runs(paths: Sequence[str], query: InputQuery) -> Iterator[list[str]]:
    """Runs as they are; results of other tools as one run directory that is removed in the end.

    Raises UserError if a path cannot be read.
    """
    if any(map(runs_in, paths)):
        yield list(paths)
        return
    with TemporaryDirectory(prefix="lldeg-") as scratch:
        run = str(Path(scratch) / "imported")
        write_run(run, *read_logs(paths, query))
        yield [run]


def read_logs(paths: Sequence[str], query: InputQuery) -> tuple[tuple[str, ...], list[LogTask]]:
    """Read everything that a run directory keeps; tasks without a number per sample are left out.

    Returns:
        The names of the models, the baseline first, and the tasks.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or there is nothing to
            import.
    """
    tables = registry.open_inputs(paths, replace(query, responses=True, documents=True, cluster=None))
    tasks = [task for task in tables.tasks if isinstance(task, LogTask) and task.numeric_metrics]
    if not tasks:
        raise UserError("No task has a metric with a number per sample, so there is nothing to import.")
    return tables.models, tasks


def write_run(out: str, models: Sequence[str], tasks: Sequence[LogTask]) -> int:
    """Write a run directory at a path or URL, with the first model as its baseline.

    Returns:
        The number of samples.

    Raises UserError if there is a run already, or samples, or the folder cannot be written to.
    """
    store, name = RunStore(out), out.rstrip("/").rpartition("/")[2]

    def refuse_run(*, also_samples: bool = True) -> None:
        if store.has_run() or (also_samples and store.sample_paths()):
            raise UserError(
                f"{out} is already a run directory; importing into it would mix the two. Change --out."
            )

    refuse_run(also_samples=False)  # those that an interrupted import left are no obstacle
    entries: dict[str, TaskEntry] = {}
    with FileSet(out, "import", FILES).filling(refuse_run):
        count = 0
        for task in tasks:
            entries[task.name], items, samples = imported(task)
            store.write_items(task.name, items)
            for model, table in samples.items():
                count += table.num_rows
                for start in range(0, table.num_rows, ROWS_PER_BLOCK):
                    block = table.slice(start, ROWS_PER_BLOCK)
                    store.write_block(model, task.name, f"{start:012d}", block)
        sweep = {"name": name, "baseline": models[0], "variants": {model: {} for model in models}}
        store.write_sweep(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True))
        # The manifest is written last because it is what makes a folder a run.
        store.write_manifest(
            {
                "format": FORMAT,
                "name": name,
                "imported": True,
                "versions": {},
                "variants": {
                    m: {"model": None, "revision": None, "engine": {}, "digest": digest(["imported", m])}
                    for m in models
                },
                "tasks": entries,
            }
        )
    return count


def imported(task: LogTask) -> tuple[TaskEntry, pa.Table, dict[str, pa.Table]]:
    """A task as it will be in a run directory: its entry in the manifest, items, and samples of each model.

    The number of an item is its identifier if all are numbers that fit, else its place in their order.
    """
    names = list(task.item_numbers)
    is_numbered = all(isinstance(name, int) and 0 <= name <= LARGEST_ITEM for name in names)
    numbers = np.array(names, dtype=np.int64) if is_numbered else task.place
    told = {name: task.told_of_items(name) for name in ITEMS.names}
    hashes = [known or digest([task.name, names[i]]) for i, known in enumerate(told["doc_hash"])]
    rows = []
    for i in np.argsort(numbers).tolist():
        doc = {"id": names[i]} if told["doc"][i] is None else told["doc"][i]
        if isinstance(doc, dict):
            doc = {key: value for key, value in doc.items() if value is not None}
        known = {"task": task.name, "item": int(numbers[i]), "doc_hash": hashes[i], "cluster": None}
        rows.append({name: column[i] for name, column in told.items()} | known | {"doc": as_text(doc)})
    items = pa.Table.from_pylist(rows, schema=ITEMS)
    keys = {m: m if "," in m else f"{m},{NO_FILTER}" for m in task.numeric_metrics}
    filters = list(dict.fromkeys(key.partition(",")[2] or NO_FILTER for key in keys.values()))
    metrics: dict[str, MetricEntry] = {}
    for metric, key in keys.items():
        stated = task.stated(metric)
        higher = known_direction(metric, task.name, stated.higher_is_better)
        metrics[key] = {} if higher is None else {"higher_is_better": higher}
        if stated.bounds is not None:
            metrics[key]["range"] = range_text(stated.bounds)
    entry: TaskEntry = {
        "digest": digest(["imported", task.name, items.column("doc_hash").to_pylist()]),
        "group": task.group,
        "output_type": task.facts.output_type,
        "metric": next(iter(keys.values())),
        "metrics": metrics,
        "filters": filters,
        "items": items.num_rows,
        "cluster": None,
        "reruns": [],  # nothing is owed: what was not in the input will not be computed
    }
    return entry, items, {m: _samples(task, m, keys, numbers.tolist(), hashes) for m in task.models}


def _samples(
    task: LogTask, model: str, keys: Mapping[str, str], numbers: Sequence[int], hashes: Sequence[str]
) -> pa.Table:
    """The samples of a model, by the number and the hash of each item, and the key of each metric."""
    rows, seeds = task.rows[model], task.seeds(model)
    prompts = [*task.prompts, None]  # the last one is that of ABSENT
    items = task.column("item")[rows].tolist()
    identity = {
        "item": [numbers[item] for item in items],
        "temperature": [as_temperature(value) for value in task.temperature[rows]],
        "seed": [seeds[one] for one in task.passes(model)[1].tolist()],
        "prompt_hash": [prompts[number] for number in task.column("prompt")[rows].tolist()],
    }
    columns: dict[str, Any] = {
        name: [column[row] for row in rows.tolist()] for name, column in task.of_answers.items()
    }
    columns |= identity | {"doc_hash": [hashes[item] for item in items]}
    scores = [task.score(metric)[rows] for metric in keys]
    arrays = [pa.array(values, mask=~np.isfinite(values)) for values in scores]
    columns["scores"] = pa.StructArray.from_arrays(arrays, names=list(keys.values()))
    columns["sample_key"] = [
        digest([model, task.name, *place]) for place in zip(*identity.values(), strict=True)
    ]
    filters = dict.fromkeys(key.partition(",")[2] for key in keys.values())
    schema = sample_schema(keys.values(), filters)
    typed = [
        pa.array(columns[f.name], type=f.type) if f.name != "scores" else columns["scores"] for f in schema
    ]
    return pa.Table.from_arrays(typed, schema=schema)
