"""Makes run directories as a sweep leaves them, so that tests of what reads them need no model."""

import hashlib
import json
from dataclasses import dataclass, field

import pyarrow as pa
import yaml

from orchestrator.rundir.schema import ITEMS, sample_schema
from orchestrator.rundir.store import RunStore

OWED = "owed"


def digest(text):
    """A hash that looks like one."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class MadeTask:
    """A task of a made run.

    Args:
        scores: by (variant, temperature), a list per rerun with an entry per item: a score, an (answer,
            score), None for a failed request, the text of another error, or "owed" for a missing sample.
        metrics: whether higher is better, by "metric,filter"; the first one decides.
        group: of lm-eval, if any.
        clusters: the cluster of each item, if the task has any.
        sampled: whether the model generates text.
        prompts: texts of the items; counted questions if left out.
        targets: right answers of the items.
        reworded: variants that were given prompts of their own.
        cut: how many of the first items the limit of tokens has cut, by variant; unknown if left out.
        prompt_cut: the same of items whose prompt was cut.
        measured: further columns of samples, by name and variant, an entry per item.
        block: items per file; half of the items if left out.
    """

    scores: dict
    metrics: dict = field(default_factory=lambda: {"acc,none": True})
    group: str | None = None
    clusters: list | None = None
    sampled: bool = True
    prompts: list | None = None
    targets: list | None = None
    reworded: tuple = ()
    cut: dict | None = None
    prompt_cut: dict | None = None
    measured: dict = field(default_factory=dict)
    block: int | None = None

    def __post_init__(self):
        self.items = len(next(iter(self.scores.values()))[0])
        self.prompts = self.prompts or [f"question {i}" for i in range(self.items)]
        self.targets = self.targets or ["42"] * self.items
        self.block = self.block or -(-self.items // 2)

    @property
    def variants(self):
        """Names of the variants that ran it."""
        return list(dict.fromkeys(variant for variant, _ in self.scores))

    @property
    def filters(self):
        """Names of lm-eval's filters."""
        return list(dict.fromkeys(metric.partition(",")[2] for metric in self.metrics))

    @property
    def reruns(self):
        """Every planned (temperature, seed)."""
        longest = {}
        for (_, temperature), reruns in self.scores.items():
            longest[temperature] = max(longest.get(temperature, 0), len(reruns))
        return [[t, seed_of(t, number)] for t, count in longest.items() for number in range(count)]


def seed_of(temperature, number):
    """The seed of a rerun: none where nothing is sampled."""
    return number if temperature else None


def tell(prompts=("question",), targets=None, temperature=0.0, **answers):
    """A task at one temperature: prompts, targets, and per variant its reruns of (answer, score) per item."""
    scores = {(variant, temperature): reruns for variant, reruns in answers.items()}
    metrics = {"exact_match,none": True}
    return MadeTask(scores, metrics, prompts=list(prompts), targets=targets and list(targets), block=2)


def make_run(folder, tasks, baseline=None, **sweep):
    """Write a run directory and return its path; the first variant is the baseline if none is named."""
    variants = list(dict.fromkeys(variant for task in tasks.values() for variant in task.variants))
    store = RunStore(folder)
    store.write_sweep(yaml.safe_dump({"name": folder.name, "baseline": baseline or variants[0], **sweep}))
    store.write_manifest(
        {
            "format": 1,
            "name": folder.name,
            "versions": {},
            "variants": {
                v: {"model": v, "revision": None, "engine": {"dtype": v}, "digest": digest(v)}
                for v in variants
            },
            "tasks": {name: _entry(name, task) for name, task in tasks.items()},
        }
    )
    for name, task in tasks.items():
        store.write_items(name, _items(name, task))
        for variant in task.variants:
            _write_samples(folder, name, task, variant)
    return folder


def cell_folder(folder, variant, task):
    """Where the samples of a variant and task are; for names without special characters."""
    return folder / "samples" / f"variant={variant}" / f"task={task}"


def write_block(folder, name, task, variant, block, samples):
    """Write one file of samples, each given as (item, temperature, seed, entry of `MadeTask.scores`)."""
    rows = [_row(name, task, variant, *sample) for sample in samples]
    schema = sample_schema(task.metrics, task.filters)
    RunStore(folder).write_block(variant, name, block, pa.Table.from_pylist(rows, schema=schema))


def _entry(name, task):
    return {
        "digest": digest(name),
        "group": task.group,
        "output_type": "generate_until" if task.sampled else "multiple_choice",
        "metric": next(iter(task.metrics)),
        "metrics": {key: {"higher_is_better": up} for key, up in task.metrics.items()},
        "filters": task.filters,
        "items": task.items,
        "cluster": "passage" if task.clusters else None,
        "reruns": task.reruns,
    }


def _items(name, task):
    rows = [
        {
            "task": name,
            "item": i,
            "doc_hash": digest(f"{name}{i}"),
            "prompt_hash": digest(f"p{name}{i}"),
            "cluster": None if task.clusters is None else str(task.clusters[i]),
            "prompt": task.prompts[i],
            "target": task.targets[i],
            "doc": json.dumps({"id": i, "half": i % 2}),
        }
        for i in range(task.items)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def _write_samples(folder, name, task, variant):
    samples = [
        (item, temperature, seed_of(temperature, number), entry)
        for (owner, temperature), reruns in task.scores.items()
        if owner == variant
        for number, entries in enumerate(reruns)
        for item, entry in enumerate(entries)
        if entry != OWED
    ]
    for start in range(0, task.items, task.block):
        part = [sample for sample in samples if start <= sample[0] < start + task.block]
        write_block(folder, name, task, variant, f"{start:07d}", part)


def _row(name, task, variant, item, temperature, seed, entry):
    error = entry if isinstance(entry, str) else "ValueError: no"
    entry = None if isinstance(entry, str) else entry
    answer, score = entry if isinstance(entry, tuple) else (None if entry is None else "42", entry)
    prompt = variant if variant in task.reworded else "p"
    return {
        "item": item,
        "doc_hash": digest(f"{name}{item}"),
        "prompt_hash": digest(f"{prompt}{name}{item}"),
        "temperature": temperature,
        "seed": seed,
        "scores": None if score is None else dict.fromkeys(task.metrics, float(score)),
        "response": answer,
        "filtered": dict.fromkeys(task.filters, answer),
        "finish_reason": None if task.cut is None else "length" if item < task.cut[variant] else "stop",
        "prompt_cut": None if task.prompt_cut is None else 7 * (item < task.prompt_cut[variant]),
        **{name: values[variant][item] for name, values in task.measured.items()},
        "error": error if score is None else None,
        "sample_key": digest(f"{name}{variant}{item}{temperature}{seed}"),
    }
