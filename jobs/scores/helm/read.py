"""Reads run folders of HELM: `per_instance_stats.json`, `run_spec.json`, texts from `scenario_state.json`.

A folder is an evaluation of one model on one task. Train trials are reruns. Perturbed versions of the
instances are tasks of their own, since they repeat the ids of the instances they were made of.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_below, read_object
from jobs.formats.json_stream import JsonObject
from jobs.formats.samples import Evaluation, Query, Sample, SampleBatch, TaskFacts, in_batches, text_hash
from jobs.formats.write_run import as_text
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError

STATS, SPEC, STATE = "per_instance_stats.json", "run_spec.json", "scenario_state.json"
PREFERRED = ("exact_match", "quasi_exact_match", "prefix_exact_match", "quasi_prefix_exact_match", "f1_score")
BOOKKEEPING = re.compile(
    r"num_|training_|inference_|batch_size|finish_reason|prompt_truncated|max_prob|logprob|bits_per|estimated_"
)
Key = tuple[str, int, str]
"""Instance, train trial, name of the perturbation or ""."""


class Helm(SampleSource):
    """Run folders of HELM, or folders of them."""

    described = "output of HELM"
    accepted = "run folders of HELM"

    def recognises(self, path: str) -> bool:
        """Whether there are statistics by instance."""
        return next(_runs(Path(path)), None) is not None

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per run folder."""
        return [_evaluation(folder) for folder in sorted(_runs(Path(path.path)))]


SOURCE: Source = Helm()


def _runs(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file.parent for file in files_below(path, STATS) if (file.parent / SPEC).is_file())


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


def _read(folder: Path, task: str, adapter: Mapping[str, Any], query: Query) -> Iterator[SampleBatch]:
    states = _states(folder)
    has_trials = int(adapter.get("num_train_trials") or 1) > 1
    by_task: dict[str, list[Sample]] = {}
    for entry in _instances(folder):
        key = _key(entry.get("instance_id"), entry)
        sample = Sample(
            item=key[0],
            scores=_scores(entry),
            temperature=adapter.get("temperature"),
            rerun=key[1] if has_trials else None,
        )
        _add_texts(sample, states.get(key), query)
        by_task.setdefault(f"{task} [{key[2]}]" if key[2] else task, []).append(sample)
    model = adapter.get("model")
    for name, samples in by_task.items():
        facts = TaskFacts(name, preferred=PREFERRED, output_type="generate_until")
        yield from in_batches(facts, model if isinstance(model, str) else None, samples)


def _instances(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / STATS
    with JsonObject(path) as content:
        for entry in content.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("instance_id"), str):
                raise UserError(f"{path} is not a list of statistics by instance_id.")
            yield entry


def _key(instance: object, entry: Mapping[str, Any]) -> Key:
    perturbation = entry.get("perturbation")
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


def _states(folder: Path) -> dict[Key, dict[str, Any]]:
    """The requests by instance, of several the first; empty where HELM has not kept them."""
    path = folder / STATE
    if not path.is_file():
        return {}
    states: dict[Key, dict[str, Any]] = {}
    for state in _request_states(path):
        instance = state.get("instance") or {}
        entry = {
            "train_trial_index": state.get("train_trial_index"),
            "perturbation": instance.get("perturbation"),
        }
        states.setdefault(_key(instance.get("id"), entry), state)
    return states


def _request_states(path: Path) -> Iterator[dict[str, Any]]:
    with JsonObject(path) as content:
        for key in content:
            if key == "request_states":
                yield from content.items()
            else:
                content.value()


def _add_texts(sample: Sample, state: Mapping[str, Any] | None, query: Query) -> None:
    if state is None:
        return
    prompt = as_text((state.get("request") or {}).get("prompt"))
    sample.prompt_hash = text_hash(prompt)
    result, instance = state.get("result") or {}, state.get("instance") or {}
    sample.doc_hash = text_hash(as_text(instance.get("input")))
    if result.get("success") is False:
        sample.error, sample.scores = as_text(result.get("error") or "request failed"), {}
    if query.needs_prompts:
        sample.prompt = prompt
    if query.needs_responses:
        completion = next(iter(result.get("completions") or []), None) or {}
        sample.response = as_text(completion.get("text"))
    if query.documents:
        sample.target = as_text(_correct(instance))
        sample.doc = {"id": sample.item, "input": (instance.get("input") or {}).get("text")}


def _correct(instance: Mapping[str, Any]) -> object:
    """The text of the correct reference; all of them where there are several."""
    texts = [
        (reference.get("output") or {}).get("text")
        for reference in instance.get("references") or []
        if "correct" in (reference.get("tags") or [])
    ]
    return texts[0] if len(texts) == 1 else texts or None
