"""Turns other people's results into a run directory, so that every command that reads a run reads them too.

What an input does not say stays unsaid: a temperature or a prompt that is not known is null in the samples,
not made up. Reruns become seeds 0, 1, …, since something must tell them apart.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import yaml

from orchestrator.errors import UserError
from orchestrator.rundir.identity import digest
from orchestrator.rundir.store import RunStore

ROWS_PER_BLOCK = 100_000
ITEM_SCHEMA = pa.schema(
    {
        "task": pa.string(),
        "item": pa.int32(),
        **dict.fromkeys(("doc_hash", "prompt_hash", "cluster", "prompt", "target", "doc"), pa.string()),
    }
)


@dataclass
class ImportedTask:
    """A task on its way into a run directory.

    Attributes:
        name: its name.
        metrics: whether higher is better, by "metric,filter" key; the first is the default.
        group: the group it belongs to.
        output_type: lm-eval's word for what is asked of a model.
        items: rows of the item table, by item number.
        samples: rows of the sample table, by model.
    """

    name: str
    metrics: dict[str, bool]
    group: str | None = None
    output_type: str | None = None
    items: dict[int, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def write_run(out: str, models: Sequence[str], tasks: Sequence[ImportedTask]) -> None:
    """Write a run directory.

    Args:
        out: its path or URL.
        models: names of the models, the baseline first.
        tasks: the tasks.

    Raises:
        UserError: if there is a run already.
    """
    store = RunStore(out)
    if store.has_run():
        raise UserError(
            f"{out} is a run already; importing into it would mix the two. Name another with --out."
        )
    for task in tasks:
        store.write_items(task.name, pa.Table.from_pylist(_item_rows(task), schema=ITEM_SCHEMA))
        for model, rows in task.samples.items():
            table = pa.Table.from_pylist(_sample_rows(task, model, rows), schema=_sample_schema(task))
            for start in range(0, table.num_rows, ROWS_PER_BLOCK):
                store.write_block(model, task.name, f"{start:012d}", table.slice(start, ROWS_PER_BLOCK))
    name = out.rstrip("/").rpartition("/")[2]
    sweep = {"name": name, "baseline": models[0], "variants": {model: {} for model in models}}
    store.write_sweep(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True))
    # The manifest comes last, for it is what makes a folder a run.
    store.write_manifest(_manifest(name, models, tasks))


def _manifest(name: str, models: Sequence[str], tasks: Sequence[ImportedTask]) -> dict[str, Any]:
    unknown: dict[str, Any] = {"model": None, "revision": None, "engine": {}}
    return {
        "format": 1,
        "name": name,
        "imported": True,
        "versions": {},
        "variants": {model: {**unknown, "digest": digest(["imported", model])} for model in models},
        "tasks": {task.name: _task_entry(task) for task in tasks},
    }


def _task_entry(task: ImportedTask) -> dict[str, Any]:
    return {
        "digest": digest(["imported", task.name, [row["doc_hash"] for row in task.items.values()]]),
        "group": task.group,
        "output_type": task.output_type,
        "metric": next(iter(task.metrics)),
        "metrics": {key: {"higher_is_better": up} for key, up in task.metrics.items()},
        "items": len(task.items),
        "cluster": None,
        "reruns": [],  # nothing is owed: what was not in the input will not be computed
    }


def _item_rows(task: ImportedTask) -> list[dict[str, Any]]:
    return [{"task": task.name, "item": item, "cluster": None, **row} for item, row in task.items.items()]


def _sample_rows(task: ImportedTask, model: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    identity = ("item", "temperature", "seed", "prompt_hash")
    return [
        {
            **row,
            "doc_hash": task.items[row["item"]]["doc_hash"],
            "sample_key": digest([model, task.name, *(row[name] for name in identity)]),
        }
        for row in rows
    ]


def _sample_schema(task: ImportedTask) -> pa.Schema:
    filters = dict.fromkeys(key.partition(",")[2] or "none" for key in task.metrics)
    return pa.schema(
        {
            "item": pa.int32(),
            "doc_hash": pa.string(),
            "prompt_hash": pa.string(),
            "temperature": pa.float32(),
            "seed": pa.int32(),
            "scores": pa.struct({key: pa.float64() for key in task.metrics}),
            "response": pa.string(),
            "filtered": pa.struct(dict.fromkeys(filters, pa.string())),
            "finish_reason": pa.string(),
            "prompt_tokens": pa.int32(),
            "output_tokens": pa.int32(),
            "error": pa.string(),
            "sample_key": pa.string(),
        }
    )


def as_text(value: object) -> str | None:
    """A value as a text column holds it: text as it is, anything else as JSON; lone surrogates replaced."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()
