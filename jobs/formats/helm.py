"""Reads run folders of HELM: `per_instance_stats.json`, `run_spec.json`, texts from `scenario_state.json`.

A folder is an evaluation of one model on one task. Train trials are reruns. Perturbed versions of the
instances are tasks of their own, since they repeat the ids of the instances they were made of.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.json_files import JsonObject, files_below, read_object
from jobs.formats.samples import (
    Evaluation,
    InputQuery,
    SampleBatch,
    TaskFacts,
    as_text,
    in_batches,
    text_hash,
)
from orchestrator.errors import UserError

STATS, SPEC, STATE = "per_instance_stats.json", "run_spec.json", "scenario_state.json"
PREFERRED = ("exact_match", "quasi_exact_match", "prefix_exact_match", "quasi_prefix_exact_match", "f1_score")
BOOKKEEPING = re.compile(
    r"num_|training_|inference_|batch_size|finish_reason|prompt_truncated|max_prob|logprob|bits_per|estimated_"
)
InstanceKey = tuple[str, int, str]
"""Instance, train trial, name of the perturbation or ""."""


def _folders(path: str) -> Iterator[Path]:
    if Path(path).is_dir():
        yield from (f.parent for f in files_below(Path(path), STATS) if (f.parent / SPEC).is_file())


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per run folder."""
    return [_evaluation(folder) for folder in sorted(_folders(path.path))]


FORMAT = InputFormat("output of HELM", "run folders of HELM", _folders, _evaluations)


def _evaluation(folder: Path) -> Evaluation:
    spec = read_object(folder / SPEC)
    adapter = spec.get("adapter_spec")
    if not isinstance(spec.get("name"), str) or not isinstance(adapter, dict):
        raise UserError(
            f"{folder / SPEC} is not a run specification of HELM: it names no run and adapter_spec."
        )
    task = re.sub(r"(,|(?<=:))model=[^,]*,?", "", spec["name"]).rstrip(":")
    settings = {f"{name} of {task}": value for name, value in adapter.items() if name != "model_deployment"}
    return Evaluation(str(folder), partial(_read, folder, task, adapter), settings)


def _read(folder: Path, task: str, adapter: Mapping[str, Any], query: InputQuery) -> Iterator[SampleBatch]:
    states = _states(folder / STATE)
    has_trials = int(adapter.get("num_train_trials") or 1) > 1
    by_task: dict[str, list[dict[str, Any]]] = {}
    with JsonObject(folder / STATS) as content:
        for entry in content.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("instance_id"), str):
                raise UserError(f"{folder / STATS} is not a list of statistics by instance_id.")
            key = _key(entry["instance_id"], entry.get("perturbation"), entry)
            sample = {
                "item": key[0],
                "scores": _scores(entry),
                "temperature": adapter.get("temperature"),
                "rerun": key[1] if has_trials else None,
            }
            if key in states:
                sample |= _texts(states[key], key[0], query)
            by_task.setdefault(f"{task} [{key[2]}]" if key[2] else task, []).append(sample)
    model = adapter.get("model")
    for name, samples in by_task.items():
        facts = TaskFacts(name, preferred=PREFERRED)
        yield from in_batches(facts, model if isinstance(model, str) else None, samples)


def _key(instance: object, perturbation: object, entry: Mapping[str, Any]) -> InstanceKey:
    name = perturbation.get("name") if isinstance(perturbation, dict) else None
    return str(instance), int(entry.get("train_trial_index") or 0), str(name or "")


def _scores(entry: Mapping[str, Any]) -> dict[str, object]:
    """Means of what was scored; statistics about tokens, time and cost are left out."""
    scores: dict[str, object] = {}
    for stat in entry.get("stats") or []:
        name = (stat.get("name") or {}).get("name")
        if isinstance(name, str) and not BOOKKEEPING.match(name) and stat.get("count"):
            scores[name] = stat.get("mean")
    return scores


def _states(path: Path) -> dict[InstanceKey, dict[str, Any]]:
    """The requests by instance, of several the first; empty where HELM has not kept them."""
    states: dict[InstanceKey, dict[str, Any]] = {}
    if not path.is_file():
        return states
    with JsonObject(path) as content:
        for key in content:
            if key != "request_states":
                content.value()
                continue
            for state in content.items():
                instance = state.get("instance") or {}
                states.setdefault(_key(instance.get("id"), instance.get("perturbation"), state), state)
    return states


def _texts(state: Mapping[str, Any], item: str, query: InputQuery) -> dict[str, Any]:
    prompt = as_text((state.get("request") or {}).get("prompt"))
    result, instance = state.get("result") or {}, state.get("instance") or {}
    found: dict[str, Any] = {
        "prompt_hash": text_hash(prompt),
        "prompt": prompt,
        "doc_hash": text_hash(as_text(instance.get("input"))),
    }
    if result.get("success") is False:
        found |= {"error": as_text(result.get("error") or "request failed"), "scores": {}}
    if query.needs_responses:
        completion = next(iter(result.get("completions") or []), None) or {}
        found["response"] = as_text(completion.get("text"))
    if query.documents:
        texts = [
            (reference.get("output") or {}).get("text")
            for reference in instance.get("references") or []
            if "correct" in (reference.get("tags") or [])
        ]
        found["target"] = as_text(texts[0] if len(texts) == 1 else texts or None)
        found["doc"] = {"id": item, "input": (instance.get("input") or {}).get("text")}
    return found
