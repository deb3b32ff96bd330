"""Makes small run directories by hand, as a sweep would leave them, so that tests need no model."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from orchestrator.rundir.schema import ITEMS, SampleColumns
from orchestrator.rundir.store import RunStore


def digest(text):
    """A hash that looks like one."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class MadeTask:
    """A task of a made run.

    Scores are by (variant, temperature): one list per rerun, an entry per item; None is a failed request, and
    "owed" a sample that is not there.
    """

    scores: dict
    metrics: dict = field(default_factory=lambda: {"acc,none": True})
    group: str | None = None
    clusters: list | None = None
    sampled: bool = True
    prompts: dict = field(default_factory=dict)
    blocks: int = 2

    @property
    def items(self):
        """Number of items."""
        return len(next(iter(self.scores.values()))[0])


def make_run(folder: Path, tasks: dict[str, MadeTask], baseline="base", **sweep):
    """Write a run directory and return its path."""
    variants = list(dict.fromkeys(v for task in tasks.values() for v, _ in task.scores))
    manifest = {
        "format": 1,
        "name": folder.name,
        "versions": {},
        "variants": {v: {"model": v, "revision": None, "engine": {}, "digest": digest(v)} for v in variants},
        "tasks": {name: _entry(name, task) for name, task in tasks.items()},
    }
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"name": folder.name, "baseline": baseline, **sweep}))
    for name, task in tasks.items():
        _write_items(folder, name, task)
        for variant in dict.fromkeys(owner for owner, _ in task.scores):
            _write_samples(folder, name, task, variant)
    return folder


def _entry(name, task):
    longest = {}
    for (_, temperature), reruns in task.scores.items():
        longest[temperature] = max(longest.get(temperature, 0), len(reruns))
    owed = [[t, seed] for t, count in longest.items() for seed in (range(count) if t else [None] * count)]
    return {
        "digest": digest(name),
        "group": task.group,
        "output_type": "generate_until" if task.sampled else "multiple_choice",
        "metric": next(iter(task.metrics)),
        "metrics": {key: {"higher_is_better": up} for key, up in task.metrics.items()},
        "filters": ["none"],
        "items": task.items,
        "cluster": "passage" if task.clusters else None,
        "reruns": owed,
    }


def _write_items(folder, name, task):
    rows = [
        {
            "task": name,
            "item": i,
            "doc_hash": digest(f"{name}{i}"),
            "prompt_hash": digest(f"p{name}{i}"),
            "cluster": None if task.clusters is None else str(task.clusters[i]),
            "prompt": f"question {i}",
            "target": "42",
            "doc": json.dumps({"id": i, "half": i % 2}),
        }
        for i in range(task.items)
    ]
    RunStore(folder).write_items(name, pa.Table.from_pylist(rows, schema=ITEMS))


def sample_row(name, variant, item, temperature, seed, score, task):
    """One sample as a dictionary of its columns."""
    prompt = task.prompts.get(variant, "p")
    return {
        "item": item,
        "doc_hash": digest(f"{name}{item}"),
        "prompt_hash": digest(f"{prompt}{name}{item}"),
        "temperature": temperature,
        "seed": seed,
        "scores": None if score is None else dict.fromkeys(task.metrics, float(score)),
        "response": "42",
        "error": "ValueError: no" if score is None else None,
        "sample_key": digest(f"{name}{variant}{item}{temperature}{seed}"),
    }


def sample_schema(task):
    """Columns of the samples of a task."""
    return SampleColumns(tuple(task.metrics), ("none",)).schema


def cell_folder(folder, variant, task):
    """Where the samples of a variant and task lie."""
    return folder / "samples" / f"variant={quote(variant, safe='')}" / f"task={quote(task, safe='')}"


def _write_samples(folder, name, task, variant):
    rows = [
        sample_row(name, variant, item, temperature, seed if temperature else None, score, task)
        for (owner, temperature), reruns in task.scores.items()
        if owner == variant
        for seed, scores in enumerate(reruns)
        for item, score in enumerate(scores)
        if score != "owed"
    ]
    cell = cell_folder(folder, variant, name)
    cell.mkdir(parents=True, exist_ok=True)
    for block in range(task.blocks):
        part = [row for row in rows if row["item"] % task.blocks == block]
        pq.write_table(pa.Table.from_pylist(part, schema=sample_schema(task)), cell / f"{block}.parquet")
