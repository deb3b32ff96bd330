"""Makes run directories in which every word is chosen by the test, as a sweep would leave them."""

import json
from types import SimpleNamespace

import pyarrow as pa

from orchestrator.rundir.schema import SampleColumns
from orchestrator.rundir.store import RunStore

METRIC = "exact_match,none"
ITEM_FIELDS = ("task", "doc_hash", "prompt_hash", "cluster", "prompt", "target", "doc")

HOSTILE = {
    "script": "<script>window.hacked = 1</script>",
    "closing": "</script></pre><script>window.hacked = 2</script><!--",
    "handler": '"><img src=x onerror="window.hacked = 3">',
    "link": "<a href='javascript:window.hacked = 4'>click</a>",
    "right-to-left": "safe \u202egnp.exe\u202c \u2066x\u2069",
    "zero-width": "pay\u200bpal \ufeffzero\u2060width\u200d",
    "surrogate": b"bad \xff\xfe bytes".decode("utf-8", "surrogateescape"),
    "replaced": b"bad \xff\xfe bytes".decode("utf-8", "replace"),
    "terminal": "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \x00\x7f",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7}",
    "separators": "line\u2028separator\u2029\x0b\x0c\x85",
    "megabyte": "x" * 1_000_000,
}


def tell(prompts=("question",), targets=None, temperature=0.0, **answers):
    """A task: prompts, targets, and per variant a list of reruns, each a list of (text, score) per item."""
    return SimpleNamespace(
        prompts=list(prompts),
        targets=list(targets or ["42"] * len(prompts)),
        temperature=temperature,
        answers=answers,
        kind="generate_until",
    )


def make_run(folder, tasks, variants=None, block=2):
    """Write a run directory; the first variant is the baseline, and `variants` gives some other names."""
    names = variants or {}
    known = list(dict.fromkeys(v for task in tasks.values() for v in task.answers))
    store = RunStore(folder)
    store.write_sweep(json.dumps({"name": folder.name, "baseline": names.get(known[0], known[0])}))
    store.write_manifest(
        {
            "format": 1,
            "name": folder.name,
            "versions": {},
            "variants": {
                names.get(v, v): {"model": v, "revision": None, "engine": {"dtype": v}, "digest": v}
                for v in known
            },
            "tasks": {name: _entry(name, task) for name, task in tasks.items()},
        }
    )
    for name, task in tasks.items():
        store.write_items(name, _items(name, task))
        for variant, reruns in task.answers.items():
            for start in range(0, len(task.prompts), block):
                rows = _rows(name, task, variant, reruns, range(start, min(start + block, len(task.prompts))))
                schema = SampleColumns((METRIC,), ("none",)).schema
                samples = pa.Table.from_pylist(rows, schema=schema)
                store.write_block(names.get(variant, variant), name, f"{start:07d}", samples)
    return folder


def _entry(name, task):
    count = max(len(reruns) for reruns in task.answers.values())
    return {
        "digest": name,
        "group": None,
        "output_type": task.kind,
        "metric": METRIC,
        "metrics": {METRIC: {"higher_is_better": True}},
        "filters": ["none"],
        "items": len(task.prompts),
        "reruns": [[task.temperature, seed if task.temperature else None] for seed in range(count)],
    }


def _items(name, task):
    rows = [
        dict.fromkeys(ITEM_FIELDS)
        | {
            "task": name,
            "item": i,
            "doc_hash": str(i),
            "prompt_hash": str(i),
            "prompt": p,
            "target": t,
            "doc": "{}",
        }
        for i, (p, t) in enumerate(zip(task.prompts, task.targets, strict=True))
    ]
    return pa.Table.from_pylist(
        rows, schema=pa.schema({"item": pa.int32(), **dict.fromkeys(ITEM_FIELDS, pa.string())})
    )


def _rows(name, task, variant, reruns, items):
    return [
        {
            "item": i,
            "doc_hash": str(i),
            "prompt_hash": str(i),
            "temperature": task.temperature,
            "seed": seed if task.temperature else None,
            "scores": None if answers[i][1] is None else {METRIC: float(answers[i][1])},
            "response": answers[i][0],
            "filtered": {"none": answers[i][0]},
            "error": "ValueError: no" if answers[i][1] is None else None,
            "sample_key": f"{name}/{variant}/{i}/{seed}",
        }
        for seed, answers in enumerate(reruns)
        for i in items
    ]
