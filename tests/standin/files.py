"""Small sweeps and task packs, written where a test wants them."""

import json

import yaml

LOADER = """
import json
from pathlib import Path
import datasets

def load(name, **_):
    lines = (Path(__file__).parent / f"{name}.jsonl").read_text().splitlines()
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}
"""

GENERATE = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [
        {
            "name": "number",
            "filter": [{"function": "regex", "regex_pattern": "([0-9]+)"}, {"function": "take_first"}],
        },
        {"name": "whole", "filter": [{"function": "take_first"}]},
    ],
}
CHOOSE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [
        {
            "metric": "word_perplexity",
            "aggregation": "weighted_perplexity",
            "higher_is_better": False,
        },
        {"metric": "byte_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
    ],
}


def questions(count):
    """Documents whose right answer is the last word of the question."""
    return [{"question": f"What comes after naught? Item {i}", "answer": str(i)} for i in range(count)]


def choices(count):
    """Documents with two options each, of which the first is shorter."""
    return [{"question": f"Number {i}:", "choices": ["a", "bbb"], "answer": i % 2} for i in range(count)]


SHUFFLING = """
import random
import numpy

def process_docs(dataset):
    def shuffled(doc):
        words = doc["question"].split()
        random.shuffle(words)
        return {**doc, "question": " ".join([*words, str(numpy.random.randint(1000))])}

    return dataset.map(shuffled)
"""


def write_task(folder, name, docs, functions=None, **settings):
    """Write one lm-eval task with its documents beside it; returns its name.

    `functions` are Python sources by keys of the task; each defines a function with the name of its key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loader.py").write_text(LOADER)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    task = {
        "task": name,
        "test_split": "test",
        "dataset_kwargs": {"name": name},
        "num_fewshot": 0,
        **settings,
    }
    text = yaml.safe_dump({**task, "metadata": {"version": 1.0}})
    (folder / f"{name}_code.py").write_text("".join((functions or {}).values()))
    lines = [f"{key}: !function {name}_code.{key}\n" for key in functions or {}]
    (folder / f"{name}.yaml").write_text(f"custom_dataset: !function loader.load\n{text}{''.join(lines)}")
    return name


def write_model(folder):
    """A folder that passes for a model as long as nobody loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


def write_sweep(folder, **keys):
    """Write a sweep over the tasks in folder/pack; keys replace its own, None leaves one out."""
    sweep = {
        "name": "small",
        "baseline": "base",
        "model": str(write_model(folder / "model")),
        "variants": {"base": {}, "other": {"engine": {"max_num_seqs": 8}}},
        "include_path": "pack",
        "tasks": ["asked", "chosen"],
        **keys,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in sweep.items() if value is not None}))
    return path


def write_small_sweep(folder, **keys):
    """A sweep of two variants and two tasks, one generating, one choosing; no model behind it."""
    write_task(folder / "pack", "asked", questions(6), **GENERATE)
    write_task(folder / "pack", "chosen", choices(4), **CHOOSE)
    return write_sweep(folder, **keys)
