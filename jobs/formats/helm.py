"""Reads run folders of HELM: `per_instance_stats.json`, `run_spec.json`, texts from `scenario_state.json`.

A folder is an evaluation of one model on one task. Train trials are reruns. Perturbed versions of the
instances are tasks of their own, since they repeat the ids of the instances they were made of.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import JsonObject, as_text, files_below, read_object, single, text_hash
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Samples, TaskFacts
from orchestrator.errors import UserError

STATS, SPEC, STATE = "per_instance_stats.json", "run_spec.json", "scenario_state.json"
PREFERRED = ("exact_match", "quasi_exact_match", "prefix_exact_match", "quasi_prefix_exact_match", "f1_score")
BOOKKEEPING = re.compile(
    r"num_|training_|inference_|batch_size|finish_reason|prompt_truncated|max_prob|logprob|bits_per|estimated_"
)
NOT_A_SETTING = "model_deployment"
InstanceKey = tuple[str, int, str]  # instance, train trial, name of the perturbation or ""


def _folders(path: str) -> Iterator[Path]:
    if Path(path).is_dir():
        yield from (f.parent for f in files_below(Path(path), STATS) if (f.parent / SPEC).is_file())


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per run folder."""
    for folder in sorted(_folders(path)):
        spec = read_object(folder / SPEC)
        adapter = spec.get("adapter_spec")
        if not isinstance(spec.get("name"), str) or not isinstance(adapter, dict):
            raise UserError(
                f"{folder / SPEC} is not a run specification of HELM: it names no run and adapter_spec."
            )
        task = re.sub(r"(,|(?<=:))model=[^,]*,?", "", spec["name"]).rstrip(":")
        model = adapter.get("model") if isinstance(adapter.get("model"), str) else None
        facts = TaskFacts(task, model, adapter.get("temperature"), PREFERRED)
        settings = {f"{name} of {task}": value for name, value in adapter.items() if name != NOT_A_SETTING}
        trials = int(adapter.get("num_train_trials") or 1)
        yield Evaluation(str(folder), partial(_read, folder, facts, trials), settings)


FORMAT = InputFormat("output of HELM", "run folders of HELM", _folders, _evaluations)


def _read(folder: Path, facts: TaskFacts, trials: int, query: InputQuery) -> Samples:
    states: dict[InstanceKey, dict[str, Any]] = {}  # requests by instance, as far as HELM has kept them
    if (folder / STATE).is_file():
        with JsonObject(folder / STATE) as content:
            for state in content.items_of("request_states"):
                instance = state.get("instance") or {}
                key = _key(instance.get("id"), instance.get("perturbation"), state)
                states.setdefault(key, state)
    tasks: dict[str, TaskFacts] = {}
    with JsonObject(folder / STATS) as content:
        for entry in content.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("instance_id"), str):
                raise UserError(f"{folder / STATS} is not a list of statistics by instance_id.")
            key = item, trial, perturbation = _key(entry["instance_id"], entry.get("perturbation"), entry)
            told = _texts(states[key], item) if key in states else {}
            if perturbation not in tasks:
                name = f"{facts.name} [{perturbation}]" if perturbation else facts.name
                tasks[perturbation] = replace(facts, name=name)
            yield tasks[perturbation]
            scores: dict[str, object] = {}  # but for statistics about tokens, time and cost
            for stat in (entry.get("stats") or []) if told.get("error") is None else []:
                metric = (stat.get("name") or {}).get("name")
                if isinstance(metric, str) and not BOOKKEEPING.match(metric) and stat.get("count"):
                    scores[metric] = stat.get("mean")
            yield query.sample(item, scores, rerun=trial if trials > 1 else None, **told)


def _key(instance: object, perturbation: object, entry: Mapping[str, Any]) -> InstanceKey:
    name = perturbation.get("name") if isinstance(perturbation, dict) else None
    return str(instance), int(entry.get("train_trial_index") or 0), str(name or "")


def _texts(state: Mapping[str, Any], item: str) -> dict[str, Any]:
    """What is known of an answer by the state of its request."""
    result, instance = state.get("result") or {}, state.get("instance") or {}
    completion = next(iter(result.get("completions") or []), None) or {}
    targets = [
        (reference.get("output") or {}).get("text")
        for reference in instance.get("references") or []
        if "correct" in (reference.get("tags") or [])
    ]
    return {
        "prompt": (state.get("request") or {}).get("prompt"),
        "doc_hash": text_hash(as_text(instance.get("input"))),
        "error": (result.get("error") or "request failed") if result.get("success") is False else None,
        "response": completion.get("text"),
        "target": single(targets) if targets else None,
        "doc": {"id": item, "input": (instance.get("input") or {}).get("text")},
    }
