"""Writes other tools' results as a run directory, so that every command that reads a run reads them too.

What an input does not state stays unknown: a temperature or a prompt that is not known is null in the
samples, not made up.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import yaml

from orchestrator.errors import UserError
from orchestrator.rundir.identity import digest
from orchestrator.rundir.schema import FORMAT, Manifest, MetricEntry, TaskEntry, VariantEntry
from orchestrator.rundir.store import MANIFEST, SWEEP, RunStore
from orchestrator.rundir.whole_files import FileSet

ROWS_PER_BLOCK = 100_000
FILES = ("items/*.parquet", f"samples/variant=*/task=*/{'[0-9]' * 12}.parquet", SWEEP, MANIFEST)


@dataclass(frozen=True)
class ImportedTask:
    """A task as it will be in a run directory.

    Attributes:
        name: its name.
        metrics: whether higher is better, by "metric,filter" key; the first is the default.
        ranges: how far scores can range, by the same keys, where the input states it.
        group: the group it belongs to.
        output_type: lm-eval's word for what is asked of a model, None where unknown.
        items: the item table, in the columns of `rundir.schema.ITEMS`.
        samples: the sample table of each model, in those of `rundir.schema.SampleColumns`.
    """

    name: str
    metrics: Mapping[str, bool]
    ranges: Mapping[str, str]
    group: str | None
    output_type: str | None
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


def write_run(out: str, run: ImportedRun) -> None:
    """Write a run directory.

    Args:
        out: its path or URL.
        run: its content.

    Raises:
        UserError: if there is a run already, or samples, or the folder cannot be written to.
    """
    store = RunStore(out)

    def refuse_run(*, also_samples: bool = True) -> None:
        if store.has_run() or (also_samples and store.sample_paths()):
            raise UserError(
                f"{out} is already a run directory; importing into it would mix the two. Change --out."
            )

    refuse_run(also_samples=False)  # those that an interrupted import left are no obstacle
    with FileSet(out, "import", FILES).filling(refuse_run):
        _write(store, run, name=out.rstrip("/").rpartition("/")[2])


def _write(store: RunStore, run: ImportedRun, name: str) -> None:
    for task in run.tasks:
        store.write_items(task.name, task.items)
        for model, table in task.samples.items():
            for start in range(0, table.num_rows, ROWS_PER_BLOCK):
                store.write_block(model, task.name, f"{start:012d}", table.slice(start, ROWS_PER_BLOCK))
    sweep = {"name": name, "baseline": run.models[0], "variants": {model: {} for model in run.models}}
    store.write_sweep(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True))
    # The manifest is written last because it is what makes a folder a run.
    store.write_manifest(_manifest(name, run.models, run.tasks))


def _manifest(name: str, models: Sequence[str], tasks: Sequence[ImportedTask]) -> Manifest:
    return {
        "format": FORMAT,
        "name": name,
        "imported": True,
        "versions": {},
        "variants": {model: _variant_entry(model) for model in models},
        "tasks": {task.name: _task_entry(task) for task in tasks},
    }


def _variant_entry(model: str) -> VariantEntry:
    return {"model": None, "revision": None, "engine": {}, "digest": digest(["imported", model])}


def _task_entry(task: ImportedTask) -> TaskEntry:
    return {
        "digest": digest(["imported", task.name, task.items.column("doc_hash").to_pylist()]),
        "group": task.group,
        "output_type": task.output_type,
        "metric": next(iter(task.metrics)),
        "metrics": {key: _metric_entry(key, task) for key in task.metrics},
        "filters": list(dict.fromkeys(key.partition(",")[2] or "none" for key in task.metrics)),
        "items": task.items.num_rows,
        "cluster": None,
        "reruns": [],  # nothing is owed: what was not in the input will not be computed
    }


def _metric_entry(key: str, task: ImportedTask) -> MetricEntry:
    entry: MetricEntry = {"higher_is_better": task.metrics[key]}
    if key in task.ranges:
        entry["range"] = task.ranges[key]
    return entry


def as_text(value: object) -> str | None:
    """A value as a text column holds it: text as it is, anything else as JSON; lone surrogates replaced."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()
