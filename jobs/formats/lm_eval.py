"""Reads what `lm_eval --log_samples` wrote, in every generation of the format.

Files of one evaluation carry the same date in their names: results_<date>.json and
samples_<task>_<date>.jsonl. Such a result set is the unit here, a sample is a document: a row per filter is
not a separate item, filters are metrics ("metric,filter") of one sample. Several evaluations in a folder are
reruns of its model, provided that their arguments agree.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import JsonObject, as_text, files_below, head_of, parsed_lines, single
from jobs.formats.names import by_path, one_model
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Row, Samples, Stated, TaskFacts
from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from orchestrator.rundir.identity import digest

DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
SAMPLES = re.compile(rf"samples_(?P<task>.+)_(?P<date>{DATE})\.jsonl?")
RESULTS = re.compile(rf"results_(?P<date>{DATE})\.json")
COMMON_ARGUMENTS = ("model", "model_args", "gen_kwargs")
COMMON_SETTINGS = ("system_instruction_sha", "chat_template_sha", "fewshot_as_multiturn")
NOT_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
    "prompt_hash", "target_hash",
}  # fmt: skip


def _sample_files(path: str) -> list[Path]:
    """Sample files at a path: the file itself, those of a results file, or all below a folder; sorted."""
    given = Path(path)
    files = [given]
    if given.is_dir():
        files = list(files_below(given, "samples_*.json*"))
    elif match := RESULTS.fullmatch(given.name):
        files = list(given.parent.glob(f"samples_*_{match['date']}.json*"))
    return sorted(file for file in files if SAMPLES.fullmatch(file.name))


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per result set, the oldest first."""
    grouped: dict[tuple[str, Path], dict[str, Path]] = {}
    for file in _sample_files(path):
        if match := SAMPLES.fullmatch(file.name):
            grouped.setdefault((match["date"], file.parent), {})[match["task"]] = file
    for (date, folder), files in sorted(grouped.items()):
        file = folder / f"results_{date}.json"
        content = read_json(file) if file.is_file() else {}
        results = content if isinstance(content, dict) else {}
        yield Evaluation(str(file), partial(_read, results, files), _settings(results))


FORMAT = InputFormat(
    "lm-eval output",
    "lm-eval output folders or results files",
    _sample_files,
    _evaluations,
    names=by_path,
    names_of_reruns=one_model,
)


def _settings(results: Mapping[str, Any]) -> dict[str, object]:
    """What must agree between reruns: all that decides an answer, but the seed; empty where unknown."""
    if not results:
        return {}
    config, shots = results.get("config", {}), results.get("n-shot", {})
    found: dict[str, object] = {name: config.get(name) for name in COMMON_ARGUMENTS}
    for name, given in found.items():
        if isinstance(given, str):
            found[name] = re.sub(r"(^|,)seed=[^,]*", "", given).strip(",")
        elif isinstance(given, Mapping):
            found[name] = {key: value for key, value in given.items() if key != "seed"}
    found |= {name: results.get(name) for name in COMMON_SETTINGS}
    return found | {f"n-shot of {task}": number for task, number in shots.items()}


def _read(results: Mapping[str, Any], files: Mapping[str, Path], query: InputQuery) -> Samples:
    """By task, one sample per document: its rows, one per filter, laid together."""
    for task, path in files.items():
        samples: dict[int | str, dict[str, Any]] = {}
        seen: set[tuple[int | str, str]] = set()
        likelihoods = None
        for row in _rows(path):
            doc_id, filter_name = row["doc_id"], row.get("filter") or "none"
            if (doc_id, filter_name) in seen:
                raise UserError(f"{path} contains document {doc_id} twice: remove one of the two.")
            seen.add((doc_id, filter_name))
            if likelihoods is None:
                responses = row.get("resps")
                likelihoods = isinstance(responses, list) and bool(responses) and not _is_text(responses)
            if doc_id not in samples:
                samples[doc_id] = _sample(row, query)
            sample, listed = samples[doc_id], row.get("metrics")
            names = listed if isinstance(listed, list) else [key for key in row if key not in NOT_METRICS]
            sample["scores"] |= {f"{name},{filter_name}": row[name] for name in names if name in row}
            if query.documents:
                filtered = as_text(single(row.get("filtered_resps")))
                sample["filtered"] = {**sample.get("filtered", {}), filter_name: filtered}
        metrics = list(dict.fromkeys(metric for sample in samples.values() for metric in sample["scores"]))
        facts = _facts(results, task, metrics, likelihoods=bool(likelihoods))
        if len(samples) < max(facts.evaluated, 1):
            said = f"{path} contains no samples."
            if facts.evaluated:
                found = f"{len(samples)} of the {facts.evaluated} documents that were evaluated"
                said = f"{path.name} contains only {found}."
            facts = replace(facts, warnings=(Notice(NoticeCode.CUT_SHORT, said),))
        yield facts
        yield from samples.values()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a sample file: JSON Lines with any suffix, or one JSON list."""
    is_list = head_of(path).lstrip().startswith(b"[")
    with JsonObject(path) if is_list else nullcontext() as content:
        for number, row in enumerate(content.items()) if content else parsed_lines(path):
            where = f"A sample in {path}" if is_list else f"Line {number} of {path}"
            if not isinstance(row, dict) or "doc_id" not in row:
                raise UserError(f"{where} is not an lm-eval sample: it has no doc_id.")
            doc_id = row["doc_id"]
            if isinstance(doc_id, bool) or not isinstance(doc_id, (int, str)):
                said = f"has an invalid doc_id ({doc_id!r:.50}): it must be an integer or a string."
                raise UserError(f"{where} {said}")
            yield row


def _facts(results: Mapping[str, Any], task: str, metrics: Sequence[str], *, likelihoods: bool) -> TaskFacts:
    """What the results say about a task with such metrics; the configured ones are preferred."""
    config: dict[str, Any] = dict(results.get("configs", {}).get(task, {}))
    listed = [entry["metric"] for entry in config.get("metric_list") or [] if "metric" in entry]
    plain = {metric: metric.split(",", maxsplit=1)[0] for metric in metrics}
    order = {metric: listed.index(plain[metric]) for metric in metrics if plain[metric] in listed}
    higher = results.get("higher_is_better", {}).get(task, {})
    stated = {metric: higher.get(name) for metric, name in plain.items()}
    evaluated = results.get("n-samples", {}).get(task, {}).get("effective")
    groups = results.get("group_subtasks", {})
    return TaskFacts(
        task,
        as_text(results.get("model_name")),
        _temperature(config, results.get("config", {}).get("gen_kwargs")),
        preferred=tuple(sorted(metrics, key=lambda metric: order.get(metric, len(listed)))),
        stated={metric: Stated(None if is_ is None else bool(is_)) for metric, is_ in stated.items()},
        evaluated=evaluated if isinstance(evaluated, int) else 0,
        group=next((name for name, members in groups.items() if task in members), None),
        output_type=config.get("output_type"),
        likelihoods=likelihoods,
    )


def _temperature(config: Mapping[str, Any], given: object) -> float | None:
    """Of a task by its configuration: 0 where nothing is sampled, None where no results file says."""
    if not config:
        return None
    if config.get("output_type") != "generate_until":
        return 0.0
    if isinstance(given, str):
        given = dict(part.split("=", 1) for part in given.split(",") if "=" in part)
    settings = {**(config.get("generation_kwargs") or {}), **(given if isinstance(given, Mapping) else {})}
    is_greedy = str(settings.get("do_sample", True)).lower() == "false"
    temperature = 0.0 if is_greedy else settings.get("temperature", 0.0)
    return None if temperature is None else float(temperature)


def _sample(row: Row, query: InputQuery) -> dict[str, Any]:
    document, prompt, response = row.get("doc"), row.get("arguments"), row.get("resps")
    # The first argument of the first request: {"gen_args_0": {"arg_0": …}}, or [[…]] in older files
    while isinstance(prompt, (list, dict)) and prompt:
        prompt = next(iter(prompt.values())) if isinstance(prompt, dict) else prompt[0]
    if not isinstance(response, list) or not response or _is_text(response):
        response = single(response)
    else:  # log-likelihoods: a list of [log-likelihood, is greedy]
        response = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in response]
    return query.sample(
        row["doc_id"],
        {},
        labels=document,
        prompt_hash=row.get("prompt_hash"),
        doc_hash=row.get("doc_hash") or (digest(document) if query.documents else None),
        response=response,
        prompt=prompt,
        target=row.get("target"),
        doc=document,
    )


def _is_text(responses: Sequence[Any]) -> bool:
    first = responses[0]
    return len(responses) == 1 and isinstance(first, list) and bool(first) and isinstance(first[0], str)
